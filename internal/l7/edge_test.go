package l7

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/mesh"
)

// TestWebSocket upgrades through both proxies and talks both ways.
func TestWebSocket(t *testing.T) {
	for _, inMesh := range []bool{true, false} {
		t.Run(fmt.Sprint(inMesh), func(t *testing.T) {
			c := newCluster(t, 1, inMesh, func(int) http.HandlerFunc {
				return func(w http.ResponseWriter, r *http.Request) {
					if r.Header.Get("Upgrade") != "echo" {
						w.WriteHeader(400)
						return
					}
					conn, rw, err := http.NewResponseController(w).Hijack()
					if err != nil {
						return
					}
					defer conn.Close()
					io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhello ")
					io.Copy(conn, rw)
				}
			})
			conn := dial(t, c.out)
			io.WriteString(conn, "GET /chat HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
			r := bufio.NewReader(conn)
			resp, err := http.ReadResponse(r, nil)
			if err != nil || resp.StatusCode != 101 {
				t.Fatalf("%v, %v", resp, err)
			}
			for _, s := range []string{"hello ", "one", "two"} {
				if s != "hello " {
					io.WriteString(conn, s)
				}
				got := make([]byte, len(s))
				if _, err := io.ReadFull(r, got); err != nil || string(got) != s {
					t.Fatalf("got %q, %v, want %q", got, err, s)
				}
			}
			conn.CloseWrite()
			if rest, err := io.ReadAll(r); err != nil || len(rest) > 0 {
				t.Errorf("end: %q, %v", rest, err)
			}
		})
	}
}

// TestStaleConnectionIsReplaced has an app that closes each connection after one request without saying so.
func TestStaleConnectionIsReplaced(t *testing.T) {
	w := newWorld(t)
	rec := &ledger{}
	client, server := w.pod(1, true), w.pod(2, false)
	w.in(server, 8080, w.tcpApp(func(c *net.TCPConn) {
		r := bufio.NewReader(c)
		if _, err := http.ReadRequest(r); err != nil {
			return
		}
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		http.ReadRequest(r) // the next one is read, and not answered
	}))
	out := w.out(client, w.service("10.96.0.1:80", mesh.HTTP1, w.endpoint(server, 8080)))
	w.node(rec, func(c *Config) { c.Loops = 1 }, client.spec([]net.Listener{out}, nil))
	c := httpClient(t, out, false)
	for range 4 {
		if code, body := get(t, c); code != 200 || body != "ok" {
			t.Fatalf("%d %q", code, body)
		}
	}
	rec.event(t, EventRetry, 1)
	// What may have had an effect is not sent twice.
	get(t, c)
	resp, err := c.Post("http://svc.test/", "text/plain", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 502 {
		t.Errorf("POST on a stale connection: %d", resp.StatusCode)
	}
}

// TestAppsOwnHTTPS passes real TLS of the app's through both proxies.
func TestAppsOwnHTTPS(t *testing.T) {
	l := newLine(t, true, mesh.Unknown, nil)
	cert := l.ca.issue(t, mesh.Account{Namespace: "test", Name: "app"})
	app := l.tcpApp(func(c *net.TCPConn) {
		s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}})
		io.Copy(s, s)
		s.CloseWrite()
	})
	l.mu.Lock()
	l.apps[mustAddrPort("10.1.0.2:7000")] = app.Addr().String()
	l.mu.Unlock()
	c := tls.Client(dial(t, l.out), &tls.Config{ServerName: "db.test", InsecureSkipVerify: true})
	want := bytes.Repeat([]byte("secret"), 10000)
	go func() {
		c.Write(want)
		c.CloseWrite()
	}()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	c.Close()
	r := l.recA.conn(t, "TLS", func(r *ConnRecord) bool { return r.Kind == KindTLS })
	if r.SNI != "db.test" {
		t.Errorf("SNI %q", r.SNI)
	}
}

// TestMeshPeerInPlaintext: the peer's node does not know yet that this pod has joined.
func TestMeshPeerInPlaintext(t *testing.T) {
	for _, tc := range []struct{ name, say string }{{"client first", "x"}, {"server first", ""}} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			rec := &ledger{}
			peer, server := w.pod(1, true), w.pod(2, true)
			in := w.in(server, 7000, w.tcpApp(func(c *net.TCPConn) { io.WriteString(c, "hi "); echo(c) }))
			w.node(rec, func(c *Config) { c.Limits.Hello = 50 * time.Millisecond }, server.spec(nil, []net.Listener{in}))
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: peer.real.AsSlice()}}
			c, err := d.Dial("tcp", in.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(10 * time.Second))
			io.WriteString(c, tc.say)
			if _, err := io.ReadFull(c, make([]byte, 3)); err != nil {
				t.Fatal(err)
			}
			c.(*net.TCPConn).CloseWrite()
			if got, err := io.ReadAll(c); err != nil || string(got) != tc.say {
				t.Fatalf("%q, %v", got, err)
			}
		})
	}
}

// TestHelloInPieces sends our ClientHello so slowly that the app would have been spoken to.
func TestHelloInPieces(t *testing.T) {
	l := newLine(t, true, mesh.TCP, echo)
	l.mu.Lock()
	to := l.ports[mustAddrPort("10.1.0.2:7000")]
	l.mu.Unlock()
	conn, err := net.Dial("tcp", to) // from an address in no table
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	c := tls.Client(&slowStart{Conn: conn, pause: 2 * l.b.lim.Detect, pieces: 3}, &tls.Config{
		NextProtos: []string{ALPNTCP}, Certificates: []tls.Certificate{l.client.cert}, InsecureSkipVerify: true})
	if _, err := c.Write(append(preface{}.append(nil), 'x')); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	c.Close()
	l.recB.conn(t, "mutual TLS", func(r *ConnRecord) bool { return r.Security == SecurityMTLS })
}

// slowStart pauses within the first write.
type slowStart struct {
	net.Conn
	pause  time.Duration
	pieces int
}

func (s *slowStart) Write(b []byte) (int, error) {
	n := 0
	for ; s.pieces > 0 && len(b) > 10; s.pieces-- {
		time.Sleep(s.pause) // the peer's slowness, which is what is tested
		k, err := s.Conn.Write(b[:10])
		n += k
		if err != nil {
			return n, err
		}
		b = b[10:]
	}
	k, err := s.Conn.Write(b)
	return n + k, err
}

func TestClientWithoutCertificateIsRefused(t *testing.T) {
	l := newLine(t, true, mesh.TCP, echo)
	l.mu.Lock()
	to := l.ports[mustAddrPort("10.1.0.2:7000")]
	l.mu.Unlock()
	stranger := newAuthority(t).issue(t, mesh.Account{Namespace: "test", Name: "pod-1"})
	for name, certs := range map[string][]tls.Certificate{"none": nil, "of another authority": {stranger}} {
		t.Run(name, func(t *testing.T) {
			c, err := tls.Dial("tcp", to, &tls.Config{NextProtos: []string{ALPNTCP}, Certificates: certs, InsecureSkipVerify: true})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(10 * time.Second))
			c.Write(preface{}.append(nil))
			if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
				t.Errorf("read: %v, want a refusal", err)
			}
		})
	}
	l.recB.mu.Lock()
	defer l.recB.mu.Unlock()
	for _, h := range l.recB.handshakes {
		if h.Err == nil {
			t.Error("a handshake succeeded")
		}
	}
}

// TestHandshakeLimit: who makes a pod shake hands without end is reset, and counted; a peer that comes later is served.
func TestHandshakeLimit(t *testing.T) {
	w := newWorld(t)
	rec := &ledger{}
	client, server := w.pod(1, true), w.pod(2, true)
	in := w.in(server, 7000, w.tcpApp(echo))
	w.node(rec, func(c *Config) { c.Limits.Shakes = 5 }, server.spec(nil, []net.Listener{in}))
	var done, refused int
	for range 40 {
		d := tls.Dialer{NetDialer: &net.Dialer{LocalAddr: &net.TCPAddr{IP: client.real.AsSlice()}},
			Config: &tls.Config{NextProtos: []string{ALPNTCP}, Certificates: []tls.Certificate{client.cert}, InsecureSkipVerify: true}}
		c, err := d.DialContext(t.Context(), "tcp", in.Addr().String())
		if err != nil {
			refused++
			continue
		}
		done++
		c.Close()
	}
	if done < 10 || refused < 10 {
		t.Errorf("%d handshakes, %d refused", done, refused)
	}
	rec.event(t, EventHandshakeLimit, refused)
	eventually(t, "a peer is served again", func() bool {
		d := tls.Dialer{NetDialer: &net.Dialer{LocalAddr: &net.TCPAddr{IP: client.real.AsSlice()}},
			Config: &tls.Config{NextProtos: []string{ALPNTCP}, Certificates: []tls.Certificate{client.cert}, InsecureSkipVerify: true}}
		c, err := d.DialContext(t.Context(), "tcp", in.Addr().String())
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

func TestIdleConnectionsAreClosed(t *testing.T) {
	w := newWorld(t)
	rec := &ledger{}
	client, server := w.pod(1, true), w.pod(2, false)
	var open atomic.Int64
	w.in(server, 8080, w.tcpApp(func(c *net.TCPConn) {
		open.Add(1)
		defer open.Add(-1)
		r := bufio.NewReader(c)
		for {
			if _, err := http.ReadRequest(r); err != nil {
				return
			}
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	}))
	out := w.out(client, w.service("10.96.0.1:80", mesh.HTTP1, w.endpoint(server, 8080)))
	w.node(rec, func(c *Config) {
		c.Limits.Idle, c.Limits.PoolIdle = 200*time.Millisecond, 100*time.Millisecond
	}, client.spec([]net.Listener{out}, nil))
	c := dial(t, out)
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	r := bufio.NewReader(c)
	if resp, err := http.ReadResponse(r, nil); err != nil || resp.StatusCode != 200 {
		t.Fatalf("%v, %v", resp, err)
	}
	if rest, err := io.ReadAll(r); err != nil || len(rest) > 0 {
		t.Errorf("idle downstream: %q, %v, want it closed", rest, err)
	}
	eventually(t, "the pooled connection to be closed", func() bool { return open.Load() == 0 })
}

func TestOpaqueIdleLimit(t *testing.T) {
	w := newWorld(t)
	rec := &ledger{}
	client, server := w.pod(1, true), w.pod(2, false)
	w.in(server, 7000, w.tcpApp(echo))
	out := w.out(client, w.service("10.96.0.1:70", mesh.TCP, w.endpoint(server, 7000)))
	w.node(rec, func(c *Config) { c.Limits.TCPIdle = 50 * time.Millisecond }, client.spec([]net.Listener{out}, nil))
	c := dial(t, out)
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read: %v, want a reset", err)
	}
	rec.conn(t, "timeout", func(r *ConnRecord) bool { return r.Cause == CauseTimeout })
}

// panicking has a Brain that panics for one destination.
type panicking struct{ *world }

func (p panicking) Origin(*Pod, netip.AddrPort) Origin { panic("boom") }

func (p panicking) Dial(context.Context, *Pod, netip.AddrPort) (*net.TCPConn, error) { panic("boom") }

func TestPanicEndsOneConnection(t *testing.T) {
	l := newLine(t, false, mesh.TCP, echo)
	rec := &ledger{}
	p := l.pod(3, true)
	in := l.in(p, 7000, l.tcpApp(echo))
	opaque := l.world.out(p, l.dests[mustAddrPort("10.96.0.1:7000")])
	web := l.world.out(p, l.service("10.96.0.2:80", mesh.HTTP1, l.endpoint(l.server, 7000)))
	l.node(rec, func(c *Config) { c.Brain = panicking{l.world} }, p.spec([]net.Listener{opaque, web}, []net.Listener{in}))
	wantReset(t, in)
	wantReset(t, opaque)
	rec.event(t, EventPanic, 2)
	if code, _ := get(t, httpClient(t, web, false)); code != 502 {
		t.Errorf("HTTP: %d", code)
	}
}

// flaky fails to accept a few times, as a process that has run out of descriptors does.
type flaky struct {
	net.Listener
	fails atomic.Int64
}

func (f *flaky) Accept() (net.Conn, error) {
	if f.fails.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return f.Listener.Accept()
}

func TestAcceptErrorsAreSurvived(t *testing.T) {
	w := newWorld(t)
	rec := &ledger{}
	client, server := w.pod(1, true), w.pod(2, false)
	w.in(server, 7000, w.tcpApp(echo))
	out := &flaky{Listener: w.out(client, w.service("10.96.0.1:70", mesh.TCP, w.endpoint(server, 7000)))}
	out.fails.Store(3)
	w.node(rec, nil, client.spec([]net.Listener{out}, nil))
	c := dial(t, out)
	io.WriteString(c, "x")
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	rec.event(t, EventAcceptError, 3)
}

// TestLargeBodiesBothWays has many requests at once with bodies well above every window, with credit on each hop.
func TestLargeBodiesBothWays(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprint("h2=", h2), func(t *testing.T) {
			c := newCluster(t, 2, true, func(int) http.HandlerFunc {
				return func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }
			})
			c.mu.Lock()
			d := c.dests[c.dest.Addr]
			d.Port.Protocol = mesh.Unknown
			c.dests[c.dest.Addr] = d
			c.mu.Unlock()
			client := httpClient(t, c.out, h2)
			var group sync.WaitGroup
			for i := range 8 {
				group.Go(func() {
					body := bytes.Repeat([]byte{byte(i)}, 3<<20)
					req, _ := http.NewRequest("PUT", "http://svc.test/", bytes.NewReader(body))
					resp, err := client.Do(req)
					if err != nil {
						t.Error(err)
						return
					}
					defer resp.Body.Close()
					got, err := io.ReadAll(resp.Body)
					if err != nil || !bytes.Equal(got, body) {
						t.Errorf("%d bytes, %v", len(got), err)
					}
				})
			}
			group.Wait()
		})
	}
}

func TestLearntIsBounded(t *testing.T) {
	l := learnt{limit: 10}
	for i := range 100 {
		l.put("a", netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 80), lessonHTTP)
	}
	if len(l.seen["a"]) != 10 || l.get("a", mustAddrPort("10.0.0.99:80")) != lessonHTTP || l.get("b", mustAddrPort("10.0.0.99:80")) != lessonNone {
		t.Errorf("%d lessons", len(l.seen["a"]))
	}
	l.forget("a")
	if len(l.seen) != 0 {
		t.Error("lessons of a pod that has left")
	}
}
