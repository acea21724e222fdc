package l7

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/mesh"
)

// TestBudget: a pod's connections make us keep what its budget allows and little more, whatever they do; what is beyond it is given up
// and counted; and clients of the same pod, and to the same app, are served meanwhile.
func TestBudget(t *testing.T) {
	const noWindow = "\x00\x04\x00\x00\x00\x00"
	unread := func(s *siege, streams int) func() {
		return attackers(s, 2, func(c *net.TCPConn) {
			c.SetReadBuffer(4096)
			c.Write(newScript().frame(4, 0, 0, noWindow).gets(streams).out)
		})
	}
	for _, tt := range []struct {
		name   string
		framed bool
		budget int64
		gives  bool // something up; else the room that is left to each is enough
		attack func(s *siege) func()
	}{
		{"streams that nobody reads", true, 3 << 20, true, func(s *siege) func() { return unread(s, 100) }},
		{"answers that nobody reads", false, 8 << 20, false, func(s *siege) func() {
			return attackers(s, 150, func(c *net.TCPConn) {
				c.SetReadBuffer(4096)
				io.WriteString(c, getBig)
			})
		}},
		{"heads that do not end", false, 8 << 20, true, func(s *siege) func() {
			return attackers(s, 400, func(c *net.TCPConn) {
				io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nX: "+strings.Repeat("x", 40<<10))
			})
		}},
		{"header blocks that do not end", true, 8 << 20, true, func(s *siege) func() {
			return attackers(s, 400, func(c *net.TCPConn) {
				in := newScript()
				in.frame(1, 1, 1, strings.Repeat("x", 16<<10)).frame(9, 0, 1, strings.Repeat("x", 16<<10)).frame(9, 0, 1, strings.Repeat("x", 16<<10))
				c.Write(in.out)
			})
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := besiege(t, tt.framed, func(c *Config) { c.Limits.Buffered = tt.budget }, nil)
			// Both engines may keep it, what the collector has not swept yet comes on top, and buffers of the test's own.
			s.during(tt.framed, uint64(2*2*tt.budget)+24<<20, func() {
				defer tt.attack(s)()
				if tt.gives {
					eventually(t, "something is given up", func() bool { return s.rec.count(EventBufferLimit) > 0 })
				}
				time.Sleep(700 * time.Millisecond) // how long the attack is looked at
			})
		})
	}
}

// attackers has n clients say something, and returns what ends them.
func attackers(s *siege, n int, say func(*net.TCPConn)) func() {
	var group sync.WaitGroup
	var all []*net.TCPConn
	for range n {
		c := dial(s.t, s.out)
		all = append(all, c)
		group.Go(func() { say(c) })
	}
	return func() {
		for _, c := range all {
			c.Close()
		}
		group.Wait()
	}
}

// TestBudgetOfAll: what all pods of a node hold is bounded too; a pod that holds little does not notice.
func TestBudgetOfAll(t *testing.T) {
	s := besiege(t, true, func(c *Config) { c.Limits.BufferedAll = 3 << 20 }, nil)
	s.honest = s.other
	s.during(true, 2*2*3<<20+24<<20, func() {
		defer attackers(s, 2, func(c *net.TCPConn) {
			c.SetReadBuffer(4096)
			c.Write(newScript().frame(4, 0, 0, "\x00\x04\x00\x00\x00\x00").gets(100).out)
		})()
		eventually(t, "something is given up", func() bool { return s.rec.count(EventBufferLimit) > 0 })
		time.Sleep(700 * time.Millisecond) // how long the attack is looked at
	})
}

// TestBudgetOfBodies: an app that does not read what it is sent is its clients' loss, not ours: they are told with 503, and the
// app's other clients are served.
func TestBudgetOfBodies(t *testing.T) {
	for _, framed := range []bool{false, true} {
		t.Run(fmt.Sprintf("framed %v", framed), func(t *testing.T) {
			s := besiege(t, framed, func(c *Config) { c.Limits.Buffered = 3 << 20 }, nil)
			s.stall = make(chan struct{})
			release := sync.OnceFunc(func() { close(s.stall) })
			defer release()
			s.during(framed, 64<<20, func() {
				body := make([]byte, 4<<20)
				var group sync.WaitGroup
				var mu sync.Mutex
				got := map[int]int{}
				var client *http.Client
				for i := range 50 {
					if i%5 == 0 { // a connection's own window bounds what its client can do
						client = httpClient(t, s.out, framed)
						client.Timeout = 20 * time.Second
					}
					client := client
					group.Go(func() {
						status := 0
						resp, err := client.Post("http://svc.test/stall", "text/plain", bytes.NewReader(body))
						if err == nil {
							status = resp.StatusCode
							resp.Body.Close()
						}
						mu.Lock()
						got[status]++
						mu.Unlock()
					})
				}
				eventually(t, "something is given up", func() bool { return s.rec.count(EventBufferLimit) > 0 })
				time.Sleep(700 * time.Millisecond) // how long it is looked at
				release()
				group.Wait()
				t.Logf("statuses: %v", got)
				if got[http.StatusServiceUnavailable] == 0 || got[http.StatusOK] == 0 {
					t.Errorf("want both 503 and 200")
				}
			})
		})
	}
}

// TestBudgetOfTheStill: those who stand still do not keep a budget short for ever: they are cut off.
func TestBudgetOfTheStill(t *testing.T) {
	for _, framed := range []bool{false, true} {
		t.Run(fmt.Sprintf("framed %v", framed), func(t *testing.T) {
			s := besiege(t, framed, func(c *Config) { c.Limits.Buffered = 2 << 20 }, nil)
			for range 40 {
				c := dial(t, s.out)
				defer c.Close()
				c.SetReadBuffer(4096)
				if framed {
					c.Write(newScript().frame(4, 0, 0, "\x00\x04\x00\x00\x00\x00").gets(4).out)
				} else {
					io.WriteString(c, getBig)
				}
			}
			eventually(t, "something is given up", func() bool { return s.rec.count(EventBufferLimit) > 0 })
			honest := httpClient(t, s.out, framed)
			var resp *http.Response
			eventually(t, "a large answer passes again", func() bool {
				var err error
				if resp, err = honest.Get("http://svc.test/big"); err != nil {
					return false
				}
				defer resp.Body.Close()
				n, err := io.Copy(io.Discard, resp.Body)
				return err == nil && n == 64<<20
			})
		})
	}
}

// TestBudgetOfHeads: the heads of requests in flight count; there is no room for more of them than for other things.
func TestBudgetOfHeads(t *testing.T) {
	const large = 40 << 10
	s := besiege(t, false, func(c *Config) { c.Limits.Buffered = 2 << 20 }, nil)
	const room = 2<<20/large + 1
	var refused, told atomic.Int64
	ctx, end := context.WithCancel(t.Context())
	defer end()
	var group, within sync.WaitGroup
	within.Add(200)
	for range 200 {
		group.Go(func() {
			c, err := new(net.Dialer).DialContext(ctx, "tcp", s.out.Addr().String())
			if err != nil {
				t.Error(err)
				within.Done()
				return
			}
			defer context.AfterFunc(ctx, func() { c.Close() })()
			defer c.Close()
			r := bufio.NewReader(c)
			io.WriteString(c, "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
			if _, err := http.ReadResponse(r, nil); err != nil {
				t.Error(err)
			}
			within.Done()
			within.Wait() // a connection that comes when there is no room is reset
			io.WriteString(c, "GET /never HTTP/1.1\r\nHost: a\r\nX: "+strings.Repeat("x", large)+"\r\n\r\n")
			resp, err := http.ReadResponse(r, nil)
			if ctx.Err() == nil {
				refused.Add(1)
			}
			if err == nil && resp.StatusCode == 503 && resp.Header.Get("X-Fairlead-Error") == "buffer_limit" {
				told.Add(1)
			}
		})
	}
	eventually(t, "there is no room for more", func() bool { return refused.Load() >= 200-room })
	if n := refused.Load(); n > 200-room/3 || told.Load() == 0 {
		t.Errorf("%d of 200 were refused, %d with an answer", n, told.Load())
	}
	end()
	group.Wait()
	eventually(t, "there is room again", func() bool { return serving(httpClient(t, s.honest, false)) == nil })
}

// TestBudgetOfHeldBodies: bodies that come before there is anywhere to send them to count too, and who is refused is told, and recorded.
func TestBudgetOfHeldBodies(t *testing.T) {
	const streams = 60
	w := newWorld(t)
	client, server := w.pod(1, true), w.pod(2, true)
	w.in(server, 8080, w.listen("127.0.0.1:0")) // its node is silent: the handshake lasts as long as it may
	out := w.out(client, w.service("10.96.0.1:80", mesh.HTTP2, w.endpoint(server, 8080)))
	rec := &ledger{}
	w.node(rec, func(c *Config) { c.Limits.Buffered, c.Limits.Handshake = 2<<20, 2*time.Second }, client.spec([]net.Listener{out}, nil))
	http2 := httpClient(t, out, true)
	var refused atomic.Int64
	var group sync.WaitGroup
	for range streams {
		group.Go(func() {
			resp, err := http2.Post("http://svc.test/", "text/plain", bytes.NewReader(make([]byte, 100<<10)))
			if err != nil {
				return
			}
			resp.Body.Close()
			if resp.StatusCode == 503 && resp.Header.Get("X-Fairlead-Error") == "buffer_limit" {
				refused.Add(1)
			}
		})
	}
	group.Wait()
	if n := refused.Load(); n == 0 || n == streams {
		t.Errorf("%d of %d were refused, want some and not all", n, streams)
	}
	eventually(t, "all are recorded", func() bool {
		rec.mu.Lock()
		defer rec.mu.Unlock()
		return len(rec.requests) == streams
	})
	var recorded int64
	for _, r := range rec.requests {
		if r.Status == 503 && r.Cause == CauseLimit {
			recorded++
		}
	}
	if recorded != refused.Load() || rec.count(EventBufferLimit) < int(recorded) {
		t.Errorf("%d were refused, %d recorded, %d events", refused.Load(), recorded, rec.count(EventBufferLimit))
	}
}

// TestBudgetOfOpaque: connections of opaque bytes that wait for their app hold little when many do, and lose nothing.
func TestBudgetOfOpaque(t *testing.T) {
	const budget, conns, size = 3 << 20, 30, 6 << 20
	w := newWorld(t)
	client, server := w.pod(1, true), w.pod(2, true)
	release := make(chan struct{})
	var got atomic.Int64
	in := w.in(server, 8080, w.tcpApp(func(c *net.TCPConn) {
		<-release
		n, _ := io.Copy(io.Discard, c)
		got.Add(n)
	}))
	out := w.out(client, w.service("10.96.0.1:80", mesh.TCP, w.endpoint(server, 8080)))
	small := func(c *Config) { c.Limits.Buffered = budget }
	e := []*Engine{w.node(nil, small, client.spec([]net.Listener{out}, nil)), w.node(nil, small, server.spec(nil, []net.Listener{in}))}
	var group sync.WaitGroup
	for range conns {
		c := dial(t, out)
		group.Go(func() {
			defer c.Close()
			c.Write(make([]byte, size))
		})
	}
	var most int64
	for range 100 { // one second
		time.Sleep(10 * time.Millisecond) // between samples
		most = max(most, e[0].budget.Used(), e[1].budget.Used())
	}
	if most == 0 || most > budget*2/3 {
		t.Errorf("%d KiB were held, want some and at most two thirds of %d", most>>10, budget>>10)
	}
	close(release)
	group.Wait()
	eventually(t, "all has come", func() bool { return got.Load() == conns*size })
}
