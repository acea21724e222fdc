package l7

import (
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/l7/exchange"
	"fairlead.io/fairlead/internal/mesh"
)

func secret(h *exchange.Head) bool { return strings.HasPrefix(h.Path, "/secret") }

// TestEachRequestIsAsked has one connection carry what is allowed and what is not.
func TestEachRequestIsAsked(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		var reached atomic.Int32
		w, in, _, _ := guarded(t, func(w *world) net.Listener {
			return w.httpApp(func(http.ResponseWriter, *http.Request) { reached.Add(1) })
		}, nil, Limits{})
		f := secret
		w.denies.Store(&f)
		c := httpClient(t, in, h2)
		for path, want := range map[string]int{"/open": 200, "/secret": 403, "/secret/x": 403} {
			resp, err := c.Get("http://web.test" + path)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if resp.StatusCode != want || want == 403 && resp.Header.Get("x-fairlead-error") != "refused" {
				t.Errorf("h2=%v, %s: %s %q %v", h2, path, resp.Status, body, resp.Header)
			}
		}
		if reached.Load() != 1 {
			t.Errorf("the app has seen %d requests", reached.Load())
		}
	}
}

// TestARequestUnderWayIsEnded has a policy come that forbids one of two requests that wait for the app.
func TestARequestUnderWayIsEnded(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		release, waiting := make(chan struct{}), make(chan string, 2)
		w, in, e, rec := guarded(t, func(w *world) net.Listener {
			return w.httpApp(func(_ http.ResponseWriter, r *http.Request) {
				waiting <- r.URL.Path
				select {
				case <-release:
				case <-r.Context().Done():
				}
			})
		}, nil, Limits{})
		c := httpClient(t, in, h2)
		status := map[string]chan int{}
		for _, path := range []string{"/open", "/secret"} {
			got := make(chan int, 1)
			status[path] = got
			go func() {
				resp, err := c.Get("http://web.test" + path)
				if err != nil {
					t.Log(err)
					got <- 0
					return
				}
				resp.Body.Close()
				got <- resp.StatusCode
			}()
			<-waiting
		}
		began, f := time.Now(), secret
		w.denies.Store(&f)
		e.Reauthorize()
		if s := <-status["/secret"]; s != 403 {
			t.Errorf("h2=%v: the forbidden request got %d", h2, s)
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("after %v", took)
		}
		close(release)
		if s := <-status["/open"]; s != 200 {
			t.Errorf("h2=%v: the other got %d", h2, s)
		}
		rec.event(t, EventForbidden, 1)
	}
}

// TestOpaqueBytesAreAskedAbout: what passes as a connection may not pass as one of opaque bytes.
func TestOpaqueBytesAreAskedAbout(t *testing.T) {
	var reached atomic.Int32
	opaqueDenied := func(a *Arrival) error {
		if a.Opaque {
			return ErrDenied
		}
		return nil
	}
	w, in, _, _ := guarded(t, func(w *world) net.Listener {
		return w.tcpApp(func(c *net.TCPConn) {
			if n, _ := c.Read(make([]byte, 1)); n > 0 {
				reached.Add(1)
			}
		})
	}, opaqueDenied, Limits{})
	_ = w
	for _, first := range []string{"\x01\x02\x03\x04opaque", string([]byte{0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0})} {
		c := dial(t, in)
		io.WriteString(c, first)
		if err := isReset(c); err != nil {
			t.Errorf("%q: %v", first, err)
		}
	}
	if reached.Load() != 0 {
		t.Errorf("%d connections have reached the app with bytes", reached.Load())
	}
}

// TestTheCallersSideSavesTheWay refuses at the caller's node what the endpoint would refuse: the connection goes on, and the
// endpoint hears nothing of it.
func TestTheCallersSideSavesTheWay(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		var reached atomic.Int32
		w, recA, recB := newWorld(t), &ledger{}, &ledger{}
		f := secret
		w.forbids.Store(&f)
		client, server := w.pod(1, true), w.pod(2, true)
		in := w.in(server, 8080, w.httpApp(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
		out := w.out(client, w.service("10.96.0.1:80", mesh.Unknown, w.endpoint(server, 8080)))
		w.node(recA, nil, client.spec([]net.Listener{out}, nil))
		w.node(recB, nil, server.spec(nil, []net.Listener{in}))
		c := httpClient(t, out, h2)
		for i, path := range []string{"/secret", "/open", "/secret", "/open"} {
			resp, err := c.Get("http://svc.test" + path)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if want := []int{403, 200}[i%2]; resp.StatusCode != want {
				t.Errorf("h2=%v, %s: %s", h2, path, resp.Status)
			}
		}
		recB.mu.Lock()
		seen := len(recB.requests)
		recB.mu.Unlock()
		if reached.Load() != 2 || seen > 2 {
			t.Errorf("h2=%v: the app has seen %d requests, its node %d", h2, reached.Load(), seen)
		}
	}
}
