package l7

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"testing"

	"fairlead.io/fairlead/internal/l7/balance"
	"fairlead.io/fairlead/internal/mesh"
)

// resuming is a world whose handshakes can resume sessions: of one server's keys, and one client's cache.
type resuming struct {
	*world
	key   [32]byte
	cache tls.ClientSessionCache
}

func (r *resuming) ClientTLS(p *Pod, e *balance.Endpoint, alpn string) (*tls.Config, error) {
	cfg, err := r.world.ClientTLS(p, e, alpn)
	cfg.ClientSessionCache = r.cache
	return cfg, err
}

func (r *resuming) ServerTLS(p *Pod, peer netip.AddrPort) (*tls.Config, error) {
	cfg, err := r.world.ServerTLS(p, peer)
	cfg.SetSessionTicketKeys([][32]byte{r.key})
	return cfg, err
}

// resumed is what each handshake was.
func (l *ledger) resumed() (all []bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, h := range l.handshakes {
		all = append(all, h.Resumed && h.Err == nil)
	}
	return all
}

// The ticket comes behind the handshake, to whoever reads the connection then: a goroutine, or a loop.
func TestTheNextConnectionResumes(t *testing.T) {
	for _, protocol := range []mesh.Protocol{mesh.TCP, mesh.HTTP1} {
		t.Run(fmt.Sprint(protocol), func(t *testing.T) {
			r := &resuming{world: newWorld(t), key: [32]byte{1}, cache: tls.NewLRUClientSessionCache(0)}
			recA, recB := &ledger{}, &ledger{}
			client, server := r.pod(1, true), r.pod(2, true)
			app := r.tcpApp(echo)
			if protocol == mesh.HTTP1 {
				app = r.httpApp(named(7))
			}
			in := r.in(server, 7000, app)
			d := r.service("10.96.0.1:7000", protocol, r.endpoint(server, 7000))
			ours := func(c *Config) { c.Brain = r }
			r.node(recB, ours, server.spec(nil, []net.Listener{in}))
			for range 3 {
				out := r.out(client, d)
				_, stop := r.mortal(recA, ours, client.spec([]net.Listener{out}, nil)) // another each time: no connection is pooled
				if protocol == mesh.HTTP1 {
					if code, body := get(t, httpClient(t, out, false)); code != 200 || body != "7" {
						t.Errorf("%d %q", code, body)
					}
				} else if err := echoes(dial(t, out)); err != nil {
					t.Error(err)
				}
				stop()
			}
			want := []bool{false, true, true}
			if a, b := recA.resumed(), recB.resumed(); !slices.Equal(a, want) || !slices.Equal(b, want) {
				t.Errorf("resumed: %v by the client, %v by the server", a, b)
			}
		})
	}
}

func echoes(c *net.TCPConn) error {
	if _, err := io.WriteString(c, "ping"); err != nil {
		return err
	}
	c.CloseWrite()
	if got, err := io.ReadAll(c); err != nil || string(got) != "ping" {
		return fmt.Errorf("echo %q: %w", got, errors.Join(err, io.ErrUnexpectedEOF))
	}
	return nil
}

// A resumed connection is authorised as any other.
func TestAResumedConnectionIsAuthorised(t *testing.T) {
	r := &resuming{world: newWorld(t), key: [32]byte{1}, cache: tls.NewLRUClientSessionCache(0)}
	recB := &ledger{}
	client, server := r.pod(1, true), r.pod(2, true)
	in := r.in(server, 7000, r.tcpApp(echo))
	out := r.out(client, r.service("10.96.0.1:7000", mesh.TCP, r.endpoint(server, 7000)))
	ours := func(c *Config) { c.Brain = r }
	r.node(recB, ours, server.spec(nil, []net.Listener{in}))
	r.node(nil, ours, client.spec([]net.Listener{out}, nil))
	if err := echoes(dial(t, out)); err != nil {
		t.Fatal(err)
	}
	r.authorize(func(a *Arrival) error {
		if a.TLS != nil && a.TLS.DidResume {
			return errors.New("not any more")
		}
		return nil
	})
	wantReset(t, out)
	recB.conn(t, "refused", func(c *ConnRecord) bool { return c.Cause == CauseRefused && c.Security == SecurityMTLS })
}

// A hello with a ticket is longer than one without, and still ours.
func TestParseHelloWithATicket(t *testing.T) {
	for _, size := range []int{1, 2000, 8 << 10} {
		b := helloWithTicket(t, size)
		h, p := parseHello(b)
		if p != parsed || !h.ours() || len(b) < size || detect(b) != KindTLS {
			t.Fatalf("ticket of %d bytes: %d bytes, %+v, %v", size, len(b), h, p)
		}
		for i := range b {
			if _, p := parseHello(b[:i]); p != needMore {
				t.Fatalf("%d of %d bytes: %v", i, len(b), p)
			}
		}
	}
	if _, p := parseHello(helloWithTicket(t, maxHello)); p != malformed {
		t.Errorf("a hello beyond the bound: %v", p)
	}
}

// helloWithTicket is a hello that offers a session whose ticket has that many bytes.
func helloWithTicket(t testing.TB, size int) []byte {
	t.Helper()
	ca := newAuthority(t)
	cert := ca.issue(t, mesh.Account{Namespace: "test", Name: "x"})
	cache := tls.NewLRUClientSessionCache(1)
	client := &tls.Config{InsecureSkipVerify: true, ServerName: "db.test", NextProtos: []string{ALPNTCP}, ClientSessionCache: cache}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{ALPNTCP}})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		if c, err := ln.Accept(); err == nil {
			c.Write([]byte{1})
			c.Close()
		}
	}()
	c, err := tls.Dial("tcp", ln.Addr().String(), client)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	got, ok := cache.Get("db.test")
	if !ok {
		t.Fatal("no session was kept")
	}
	_, state, err := got.ResumptionState()
	if err != nil {
		t.Fatal(err)
	}
	padded, err := tls.NewResumptionState(make([]byte, size), state)
	if err != nil {
		t.Fatal(err)
	}
	cache.Put("db.test", padded)
	return helloOf(t, client)
}
