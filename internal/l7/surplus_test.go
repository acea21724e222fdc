package l7

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"

	"fairlead.io/fairlead/internal/mesh"
)

// surplusApp answers each request, and then sends what nobody has asked for: with the response, or when it is told to.
type surplusApp struct {
	with      bool
	say, said chan struct{}
	conns     atomic.Int64
}

func (a *surplusApp) serve(c *net.TCPConn) {
	const served, forged = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nserved", "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"
	a.conns.Add(1)
	buf := make([]byte, 16<<10)
	for n := 0; ; {
		k, err := c.Read(buf[n:])
		if err != nil {
			return
		}
		if n += k; !bytes.HasSuffix(buf[:n], []byte("\r\n\r\n")) {
			continue
		}
		n = 0
		if a.with {
			io.WriteString(c, served+forged)
			continue
		}
		io.WriteString(c, served)
		if _, more := <-a.say; more {
			io.WriteString(c, forged)
			a.said <- struct{}{}
		}
	}
}

// TestSurplusResponses: what an app sends beyond its response is nobody's, if it has come before the next request is written, and its
// connection is not used again.
func TestSurplusResponses(t *testing.T) {
	const calls = 20
	for when, between := range map[string]func(a *surplusApp, l *worker, ask func()){
		"with the response": func(_ *surplusApp, _ *worker, ask func()) { ask() },
		"while idle": func(a *surplusApp, _ *worker, ask func()) {
			a.say <- struct{}{}
			<-a.said
			ask()
		},
		"as the next request comes": func(a *surplusApp, l *worker, ask func()) {
			held, release := make(chan struct{}), make(chan struct{})
			l.l.Do(func() { // finds both when it goes on, the request first
				close(held)
				<-release
			})
			<-held
			ask()
			a.say <- struct{}{}
			<-a.said
			close(release)
		},
	} {
		t.Run(when, func(t *testing.T) {
			w := newWorld(t)
			client, server := w.pod(1, true), w.pod(2, false)
			app := &surplusApp{with: when == "with the response", say: make(chan struct{}), said: make(chan struct{})}
			w.in(server, 8080, w.tcpApp(app.serve))
			out := w.out(client, w.service("10.96.0.1:80", mesh.HTTP1, w.endpoint(server, 8080)))
			rec := &ledger{}
			e := w.node(rec, func(c *Config) { c.Loops = 1 }, client.spec([]net.Listener{out}, nil))
			defer close(app.say)
			c := dial(t, out)
			responses := bufio.NewReader(c)
			ask := func() { io.WriteString(c, "GET / HTTP/1.1\r\nHost: svc.test\r\n\r\n") }
			for i := range calls {
				if i == 0 {
					ask()
				} else {
					rec.mu.Lock() // which the loop has held: so its own list is there
					l := e.loops[0]
					rec.mu.Unlock()
					between(app, l, ask)
				}
				resp, err := http.ReadResponse(responses, nil)
				if err != nil {
					t.Fatal(err)
				}
				if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 200 || string(body) != "served" {
					t.Fatalf("call %d: %d %q, %v", i, resp.StatusCode, body, err)
				}
			}
			if n := app.conns.Load(); n != calls {
				t.Errorf("%d connections for %d calls", n, calls)
			}
		})
	}
}
