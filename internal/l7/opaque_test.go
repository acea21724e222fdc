package l7

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/l7/balance"
	"fairlead.io/fairlead/internal/mesh"
)

// line is two pods on two nodes, with an app behind the second.
type line struct {
	*world
	client, server *testPod
	out            net.Listener
	a, b           *Engine
	recA, recB     *ledger
}

func newLine(t *testing.T, serverInMesh bool, protocol mesh.Protocol, app func(*net.TCPConn)) *line {
	t.Helper()
	l := &line{world: newWorld(t), recA: &ledger{}, recB: &ledger{}}
	l.client, l.server = l.pod(1, true), l.pod(2, serverInMesh)
	in := l.in(l.server, 7000, l.tcpApp(app))
	l.out = l.world.out(l.client, l.service("10.96.0.1:7000", protocol, l.endpoint(l.server, 7000)))
	l.a = l.node(l.recA, nil, l.client.spec([]net.Listener{l.out}, nil))
	if in != nil {
		l.b = l.node(l.recB, nil, l.server.spec(nil, []net.Listener{in}))
	}
	return l
}

func TestOpaqueEchoWithHalfClose(t *testing.T) {
	for name, inMesh := range map[string]bool{"mesh": true, "plain": false} {
		t.Run(name, func(t *testing.T) {
			l := newLine(t, inMesh, mesh.Unknown, echo)
			c := dial(t, l.out)
			want := bytes.Repeat([]byte{0, 1, 2, 3}, 1<<18)
			go func() {
				c.Write(want)
				c.CloseWrite()
			}()
			got, err := io.ReadAll(c)
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%d bytes, %v", len(got), err)
			}
			r := l.recA.conn(t, "outbound", func(r *ConnRecord) bool { return r.Kind == KindTCP })
			wantSec := SecurityForeign
			if inMesh {
				wantSec = SecurityMTLS
			}
			if r.Security != wantSec || r.BytesIn != int64(len(want)) || r.BytesOut != int64(len(want)) || r.Cause != CauseNone {
				t.Errorf("recorded %+v", r)
			}
			if inMesh {
				r := l.recB.conn(t, "inbound", func(r *ConnRecord) bool { return true })
				if r.Security != SecurityMTLS || r.Service != (mesh.Name{Namespace: "test", Name: "svc"}) {
					t.Errorf("recorded %+v", r)
				}
			}
		})
	}
}

func TestServerSpeaksFirst(t *testing.T) {
	l := newLine(t, true, mesh.Unknown, func(c *net.TCPConn) {
		io.WriteString(c, "220 hello\r\n")
		echo(c)
	})
	greet := func() time.Duration {
		began := time.Now()
		c := dial(t, l.out)
		got := make([]byte, 11)
		if _, err := io.ReadFull(c, got); err != nil || string(got) != "220 hello\r\n" {
			t.Fatalf("greeting %q, %v", got, err)
		}
		took := time.Since(began)
		io.WriteString(c, "EHLO x\r\n")
		c.CloseWrite()
		if rest, err := io.ReadAll(c); err != nil || string(rest) != "EHLO x\r\n" {
			t.Fatalf("echo %q, %v", rest, err)
		}
		return took
	}
	if took := greet(); took < 15*time.Millisecond || took > time.Second {
		t.Errorf("first greeting after %v, want about the detection bound", took)
	}
	eventually(t, "a lesson", func() bool {
		return l.a.learnt.get(l.client.pod.UID, mustAddrPort("10.96.0.1:7000")) == lessonServerFirst
	})
	greet()
}

func TestResetsPassThrough(t *testing.T) {
	for name, inMesh := range map[string]bool{"mesh": true, "plain": false} {
		t.Run("from server/"+name, func(t *testing.T) {
			l := newLine(t, inMesh, mesh.TCP, func(c *net.TCPConn) {
				io.ReadFull(c, make([]byte, 1))
				c.SetLinger(0)
			})
			c := dial(t, l.out)
			c.Write([]byte{1})
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("read: %v, want a reset", err)
			}
		})
		t.Run("from client/"+name, func(t *testing.T) {
			seen := make(chan error, 1)
			l := newLine(t, inMesh, mesh.TCP, func(c *net.TCPConn) {
				_, err := io.Copy(io.Discard, c)
				seen <- err
			})
			c := dial(t, l.out)
			c.Write([]byte{1})
			l.recA.opened(t)
			c.SetLinger(0)
			c.Close()
			if err := <-seen; !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("app read: %v, want a reset", err)
			}
		})
	}
}

// opened waits until a handshake of the mesh has been made, or for a moment if there is none to wait for.
func (l *ledger) opened(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(200 * time.Millisecond)
	for time.Now().Before(deadline) {
		l.mu.Lock()
		n := len(l.handshakes)
		l.mu.Unlock()
		if n > 0 {
			return
		}
		time.Sleep(time.Millisecond) // between polls; the deadline decides
	}
}

func TestAppsOwnTLSPassesThrough(t *testing.T) {
	hello := append([]byte{22, 3, 1, 0, 5, 1, 0, 0, 1, 9}, "more"...)
	l := newLine(t, true, mesh.Unknown, echo)
	c := dial(t, l.out)
	c.Write(hello)
	c.CloseWrite()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, hello) {
		t.Fatalf("got %x, %v", got, err)
	}
	l.recA.conn(t, "TLS", func(r *ConnRecord) bool { return r.Kind == KindTLS })
}

func TestPlainClientReachesTheApp(t *testing.T) {
	l := newLine(t, true, mesh.Unknown, func(c *net.TCPConn) {
		io.WriteString(c, "hi ")
		echo(c)
	})
	l.mu.Lock()
	to := l.ports[mustAddrPort("10.1.0.2:7000")]
	l.mu.Unlock()
	c, err := net.Dial("tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "x\n")
	c.(*net.TCPConn).CloseWrite()
	got, err := io.ReadAll(c)
	if err != nil || string(got) != "hi x\n" {
		t.Fatalf("got %q, %v", got, err)
	}
	l.recB.conn(t, "plain", func(r *ConnRecord) bool { return r.Security == SecurityForeign && r.Direction == Inbound })
}

func TestPolicyRefusesPlaintext(t *testing.T) {
	l := newLine(t, true, mesh.TCP, echo)
	l.mu.Lock()
	l.auth = func(a *Arrival) error {
		if a.TLS == nil {
			return errors.New("mutual TLS is required")
		}
		return nil
	}
	to := l.ports[mustAddrPort("10.1.0.2:7000")]
	l.mu.Unlock()
	c, err := net.Dial("tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "x\n")
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read: %v, want a reset", err)
	}
	m := dial(t, l.out)
	io.WriteString(m, "y")
	if _, err := io.ReadFull(m, make([]byte, 1)); err != nil {
		t.Errorf("mutual TLS: %v", err)
	}
}

func TestWrongAccountIsRefused(t *testing.T) {
	l := newLine(t, true, mesh.TCP, echo)
	wrong := l.endpoint(l.server, 7000)
	wrong.Account = mesh.Account{Namespace: "test", Name: "somebody-else"}
	l.dests[mustAddrPort("10.96.0.1:7000")].Cluster.Set([]balance.Endpoint{wrong})
	wantReset(t, l.out)
	l.recA.conn(t, "identity", func(r *ConnRecord) bool { return r.Cause == CauseIdentity })
}

func TestRefusedEndpointIsPassedOver(t *testing.T) {
	w := newWorld(t)
	rec := &ledger{}
	client, dead, good := w.pod(1, true), w.pod(2, false), w.pod(3, false)
	w.in(good, 7000, w.tcpApp(echo))
	out := w.out(client, w.service("10.96.0.1:7000", mesh.TCP, w.endpoint(dead, 7000), w.endpoint(good, 7000)))
	w.node(rec, nil, client.spec([]net.Listener{out}, nil))
	for range 6 {
		c := dial(t, out)
		io.WriteString(c, "x")
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
}

func TestNoEndpointMeansReset(t *testing.T) {
	w := newWorld(t)
	rec := &ledger{}
	client := w.pod(1, true)
	out := w.out(client, w.service("10.96.0.1:7000", mesh.TCP))
	w.node(rec, nil, client.spec([]net.Listener{out}, nil))
	wantReset(t, out)
	rec.conn(t, "no endpoint", func(r *ConnRecord) bool { return r.Cause == CauseNoReady })
}

func TestDialledListenerItself(t *testing.T) {
	w := newWorld(t)
	rec := &ledger{}
	p := w.pod(1, true)
	ln := w.listen("127.0.0.1:0") // nothing stands for it
	w.node(rec, nil, p.spec([]net.Listener{ln}, nil))
	wantReset(t, ln)
	rec.event(t, EventLoopback, 1)
}

func TestSetReplacesListenersAndDrains(t *testing.T) {
	l := newLine(t, true, mesh.TCP, echo)
	old := dial(t, l.out)
	io.WriteString(old, "x")
	if _, err := io.ReadFull(old, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	d := l.dests[mustAddrPort("10.96.0.1:7000")]
	next := l.world.out(l.client, d)
	l.a.Set([]*Pod{l.client.spec([]net.Listener{next}, nil)})
	c := dial(t, next)
	io.WriteString(c, "y")
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatalf("new listener: %v", err)
	}
	eventually(t, "the old listener to be closed", func() bool {
		c, err := net.Dial("tcp", l.out.Addr().String())
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	io.WriteString(old, "z")
	if _, err := io.ReadFull(old, make([]byte, 1)); err != nil {
		t.Fatalf("connection of the old listener: %v", err)
	}
	// The pod leaves: its connections last until the deadline, and not longer.
	l.a.Set(nil)
	l.recA.event(t, EventDrainDeadline, 1)
	for _, c := range []*net.TCPConn{old, c} {
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("after the deadline: %v, want a reset", err)
		}
	}
	l.recA.conn(t, "drained", func(r *ConnRecord) bool { return r.Cause == CauseDrain })
}

func TestConnectionLimit(t *testing.T) {
	w := newWorld(t)
	rec := &ledger{}
	client, server := w.pod(1, true), w.pod(2, false)
	w.in(server, 7000, w.tcpApp(echo))
	out := w.out(client, w.service("10.96.0.1:7000", mesh.TCP, w.endpoint(server, 7000)))
	w.node(rec, func(c *Config) { c.Limits.Conns = 1 }, client.spec([]net.Listener{out}, nil))
	c := dial(t, out)
	io.WriteString(c, "x")
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	wantReset(t, out)
	rec.event(t, EventConnLimit, 1)
}

func TestSelfIsPlain(t *testing.T) {
	w := newWorld(t)
	rec := &ledger{}
	p := w.pod(1, true)
	w.in(p, 7000, w.tcpApp(echo))
	out := w.out(p, w.service("10.96.0.1:7000", mesh.TCP, w.endpoint(p, 7000)))
	w.node(rec, nil, p.spec([]net.Listener{out}, nil))
	c := dial(t, out)
	io.WriteString(c, "x")
	c.CloseWrite()
	if got, err := io.ReadAll(c); err != nil || string(got) != "x" {
		t.Fatalf("got %q, %v", got, err)
	}
	rec.conn(t, "self", func(r *ConnRecord) bool { return r.Security == SecuritySelf })
}

func mustAddrPort(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// wantReset connects and expects a reset, which may come so early that connect sees it.
func wantReset(t *testing.T, ln net.Listener) {
	t.Helper()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err == nil {
		defer c.Close()
		c.SetDeadline(time.Now().Add(10 * time.Second))
		_, err = c.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v, want a reset", err)
	}
}

// TestGoneIsNoCut: what a pod still has when nothing of it lives any more is swept up at once, and does not count as cut off
// by its drain's end, be it that the pod leaves by going or that it left before.
func TestGoneIsNoCut(t *testing.T) {
	for name, leave := range map[string]func(*line, *Pod){
		"leaves by going": func(l *line, spec *Pod) {
			spec.Drain = 0
			l.a.Set(nil)
		},
		"goes while it drains": func(l *line, spec *Pod) {
			spec.Drain = time.Hour
			l.a.Set(nil)
			eventually(t, "the pod to leave", func() bool { l.a.Gone(spec.UID); return l.a.Live() == 0 })
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLine(t, true, mesh.TCP, echo)
			spec := l.client.spec([]net.Listener{l.out}, nil)
			l.a.Set([]*Pod{spec})
			c := dial(t, l.out)
			io.WriteString(c, "x")
			if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			leave(l, spec)
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("a connection of the pod: %v, want a reset", err)
			}
			if n := l.recA.count(EventDrainDeadline); n != 0 {
				t.Errorf("%d drains are said to have been too short", n)
			}
		})
	}
}
