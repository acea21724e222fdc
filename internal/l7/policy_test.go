package l7

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"fairlead.io/fairlead/internal/mesh"
)

var errPlain = errors.New("mutual TLS is required")

// onlyTLS is a Brain's Authorize that lets nothing else in.
func onlyTLS(a *Arrival) error {
	if a.TLS == nil {
		return errPlain
	}
	return nil
}

func (w *world) authorize(f func(*Arrival) error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.auth = f
}

// guarded is a pod with an app behind its inbound listener.
func guarded(t *testing.T, app func(*world) net.Listener, auth func(*Arrival) error, limits Limits) (*world, net.Listener, *Engine, *ledger) {
	t.Helper()
	w, rec := newWorld(t), &ledger{}
	w.authorize(auth)
	server := w.pod(2, true)
	in := w.in(server, 7000, app(w))
	e := w.node(rec, func(c *Config) { c.Limits = limits }, server.spec(nil, []net.Listener{in}))
	return w, in, e, rec
}

func echoApp(w *world) net.Listener { return w.tcpApp(echo) }

func isReset(c net.Conn) error {
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		return fmt.Errorf("read: %v, want a reset", err)
	}
	return nil
}

// TestPolicyAnswersHTTP refuses requests that come in plaintext with an answer, closes the connection, and counts it.
func TestPolicyAnswersHTTP(t *testing.T) {
	var reached atomic.Int32
	app := func(w *world) net.Listener {
		return w.httpApp(func(http.ResponseWriter, *http.Request) { reached.Add(1) })
	}
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("h2=%v", h2), func(t *testing.T) {
			_, in, _, rec := guarded(t, app, onlyTLS, Limits{})
			resp, err := httpClient(t, in, h2).Get("http://web.test/secret")
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if resp.StatusCode != http.StatusForbidden || err != nil || !h2 && !resp.Close {
				t.Errorf("%s %q, close %v, %v", resp.Status, body, resp.Close, err)
			}
			rec.conn(t, "refused", func(r *ConnRecord) bool { return r.Cause == CauseRefused && r.Security == SecurityForeign })
			rec.mu.Lock()
			defer rec.mu.Unlock()
			if len(rec.requests) != 1 || rec.requests[0].Status != 403 || rec.requests[0].Cause != CauseRefused || reached.Load() != 0 {
				t.Errorf("recorded %+v; the app has seen %d", rec.requests, reached.Load())
			}
		})
	}
	t.Run("grpc", func(t *testing.T) {
		_, in, _, _ := guarded(t, app, onlyTLS, Limits{})
		conn, err := grpc.NewClient(in.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_, err = healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
		if status.Code(err) != codes.PermissionDenied || reached.Load() != 0 {
			t.Errorf("%v; the app has seen %d", err, reached.Load())
		}
	})
}

// TestPolicyResetsTheRest refuses by a reset what is not HTTP, and who says nothing.
func TestPolicyResetsTheRest(t *testing.T) {
	var reached atomic.Int32
	_, in, _, rec := guarded(t, func(w *world) net.Listener {
		return w.tcpApp(func(c *net.TCPConn) {
			reached.Add(1)
			echo(c)
		})
	}, onlyTLS, Limits{Hello: 50 * time.Millisecond})
	appsTLS := string([]byte{22, 3, 1, 0, 5, 1, 0, 0, 1, 9}) + "more"
	for name, say := range map[string]string{"bytes": "x\n", "the app's own TLS": appsTLS, "nothing": "", "half a request": "GET"} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, in)
			io.WriteString(c, say)
			if err := isReset(c); err != nil {
				t.Error(err)
			}
		})
	}
	rec.conn(t, "refused", func(r *ConnRecord) bool { return r.Cause == CauseRefused })
	if n := reached.Load(); n != 0 {
		t.Errorf("the app was reached %d times", n)
	}
}

// TestPolicyResetsAMeshPeersHTTP: its node does not know yet that this pod is in the mesh, and is to try again.
func TestPolicyResetsAMeshPeersHTTP(t *testing.T) {
	w, in, _, _ := guarded(t, func(w *world) net.Listener { return w.httpApp(report) }, onlyTLS, Limits{})
	peer := w.pod(1, true)
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: peer.real.AsSlice()}}
	c, err := d.Dial("tcp", in.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if err := isReset(c); err != nil {
		t.Error(err)
	}
}

// TestPolicyThatIsNotKnownYet holds plaintext back until it is known, and refuses it when that takes too long.
func TestPolicyThatIsNotKnownYet(t *testing.T) {
	for name, tc := range map[string]struct {
		then    error
		resolve time.Duration
	}{"let in": {nil, 0}, "refused": {errPlain, 0}, "never known": {nil, 50 * time.Millisecond}} {
		t.Run(name, func(t *testing.T) {
			known := make(chan struct{})
			asked := make(chan struct{}, 64)
			w, in, _, _ := guarded(t, echoApp, nil, Limits{Hello: 10 * time.Millisecond, Resolve: tc.resolve})
			w.mu.Lock()
			w.known = known
			w.auth = func(*Arrival) error {
				asked <- struct{}{}
				select {
				case <-known:
					return tc.then
				default:
					return fmt.Errorf("no table: %w", ErrUndecided)
				}
			}
			w.mu.Unlock()
			c := dial(t, in)
			io.WriteString(c, "x")
			<-asked
			if name != "never known" {
				close(known)
			}
			if name != "let in" {
				if err := isReset(c); err != nil {
					t.Error(err)
				}
				return
			}
			if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
				t.Errorf("read: %v", err)
			}
		})
	}
}

// TestMutualTLSThatIsNotDecidedYet waits likewise, and is refused when that takes too long.
func TestMutualTLSThatIsNotDecidedYet(t *testing.T) {
	for name, tc := range map[string]struct {
		known   bool
		resolve time.Duration
		want    int
	}{"let in": {true, 0, 200}, "never known": {false, 50 * time.Millisecond, 502}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			client, server := w.pod(1, true), w.pod(2, true)
			in := w.in(server, 8080, w.httpApp(func(http.ResponseWriter, *http.Request) {}))
			out := w.out(client, w.service("10.96.0.1:80", mesh.HTTP1, w.endpoint(server, 8080)))
			known, asked := make(chan struct{}), make(chan struct{}, 64)
			w.known = known
			w.auth = func(a *Arrival) error {
				select {
				case <-known:
					return nil
				default:
				}
				if a.TLS != nil {
					asked <- struct{}{}
				}
				return ErrUndecided
			}
			w.node(nil, nil, client.spec([]net.Listener{out}, nil))
			w.node(nil, func(c *Config) { c.Limits.Resolve = tc.resolve }, server.spec(nil, []net.Listener{in}))
			if tc.known {
				go func() {
					<-asked
					close(known)
				}()
			}
			resp, err := httpClient(t, out, false).Get("http://svc.test/")
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != tc.want {
				t.Errorf("answered %d, want %d", resp.StatusCode, tc.want)
			}
		})
	}
}

// TestPolicyChangesUnderWay resets what lives and is not allowed any more, and leaves alone what nothing is known of.
func TestPolicyChangesUnderWay(t *testing.T) {
	w, in, e, rec := guarded(t, echoApp, nil, Limits{})
	c := dial(t, in)
	ping := func() error {
		if _, err := io.WriteString(c, "x"); err != nil {
			return err
		}
		_, err := io.ReadFull(c, make([]byte, 1))
		return err
	}
	if err := ping(); err != nil {
		t.Fatal(err)
	}
	asked := make(chan struct{}, 8)
	w.authorize(func(*Arrival) error {
		asked <- struct{}{}
		return ErrUndecided
	})
	e.Reauthorize()
	<-asked
	if err := ping(); err != nil {
		t.Fatalf("when nothing is known: %v", err)
	}
	w.authorize(onlyTLS)
	e.Reauthorize()
	if err := isReset(c); err != nil {
		t.Error(err)
	}
	rec.event(t, EventForbidden, 1)
}

// TestPolicyChangesOnTheWay asks again about what was let in when it had come and has changed before it got anywhere.
func TestPolicyChangesOnTheWay(t *testing.T) {
	var reached atomic.Int32
	for name, tc := range map[string]struct {
		app func(*world) net.Listener
		say string
	}{
		"tcp": {func(w *world) net.Listener { return w.tcpApp(func(c *net.TCPConn) { reads(c, &reached) }) }, "x\n"},
		"http": {func(w *world) net.Listener {
			return w.httpApp(func(http.ResponseWriter, *http.Request) { reached.Add(1) })
		}, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			var asked atomic.Int32
			_, in, _, rec := guarded(t, tc.app, func(*Arrival) error {
				if asked.Add(1) == 1 {
					return nil
				}
				return errPlain
			}, Limits{})
			c := dial(t, in)
			io.WriteString(c, tc.say)
			if err := isReset(c); err != nil {
				t.Error(err)
			}
			rec.conn(t, "refused", func(r *ConnRecord) bool { return r.Cause == CauseRefused })
		})
	}
	if n := reached.Load(); n != 0 {
		t.Errorf("the app was reached %d times", n)
	}
}

// reads counts that bytes have come.
func reads(c net.Conn, n *atomic.Int32) {
	if _, err := c.Read(make([]byte, 1)); err == nil {
		n.Add(1)
	}
}

// TestPolicyLetsMutualTLSIn is the check on the checks above.
func TestPolicyLetsMutualTLSIn(t *testing.T) {
	l := newLine(t, true, mesh.Unknown, echo)
	l.authorize(onlyTLS)
	c := dial(t, l.out)
	io.WriteString(c, "x")
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Errorf("mutual TLS: %v", err)
	}
}
