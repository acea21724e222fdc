package l7

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2/hpack"

	"fairlead.io/fairlead/internal/mesh"
)

var errTooMuch = errors.New("refused for want of budget")

// slowest is how long an honest call may take while an engine is attacked: it is to be served, not to be fast.
const slowest = 2 * time.Second

// siege is a pair of engines with an app behind them, and an honest client that must go on being served.
type siege struct {
	t        *testing.T
	out      net.Listener // of the attacker's pod
	honest   net.Listener // the same, or that of another pod of the node
	other    net.Listener
	rec      *ledger
	stall    chan struct{}   // what /stall waits for
	rogue    func() net.Conn // to the app's node, as a node that serves the attacker's pod
	requests atomic.Int64    // that the app has had
	peak     uint64          // of the heap
}

// besiege has the app answer with app (HTTP/1) or, framed, with an app of HTTP/2 whose responses are large.
func besiege(t *testing.T, framed bool, change func(*Config), app func(*siege, *net.TCPConn)) *siege {
	t.Helper()
	w := newWorld(t)
	s := &siege{t: t, rec: &ledger{}}
	client, server, neighbour := w.pod(1, true), w.pod(2, true), w.pod(3, true)
	protocol := mesh.HTTP1
	if framed {
		protocol = mesh.HTTP2
	}
	var ln net.Listener
	if app != nil {
		ln = w.tcpApp(func(c *net.TCPConn) { app(s, c) })
	} else {
		ln = w.httpApp(s.serve)
	}
	in := w.in(server, 8080, ln)
	dest := w.service("10.96.0.1:80", protocol, w.endpoint(server, 8080))
	s.rogue = func() net.Conn {
		e, spec := w.endpoint(server, 8080), client.spec(nil, nil)
		c, err := w.Dial(context.Background(), spec, e.Addr)
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(10 * time.Second))
		cfg, _ := w.ClientTLS(spec, &e, ALPNHTTP)
		return tls.Client(c, cfg)
	}
	s.out, s.other = w.out(client, dest), w.out(neighbour, dest)
	s.honest = s.out
	w.node(s.rec, change, client.spec([]net.Listener{s.out}, nil), neighbour.spec([]net.Listener{s.other}, nil))
	w.node(nil, change, server.spec(nil, []net.Listener{in}))
	return s
}

// serve answers /big with 64 MiB, everything else with a word.
func (s *siege) serve(w http.ResponseWriter, r *http.Request) {
	s.requests.Add(1)
	if r.URL.Path == "/big" {
		piece := make([]byte, 32<<10)
		for range 2048 {
			if _, err := w.Write(piece); err != nil {
				return
			}
		}
		return
	}
	switch r.URL.Path {
	case "/stall":
		<-s.stall
	case "/never":
		<-r.Context().Done()
	}
	io.Copy(io.Discard, r.Body)
	io.WriteString(w, "served")
}

// during runs the attack beside honest calls, which must not fail nor be slow, and holds the heap below what it was and ceiling more.
// A pod whose budget is full is refused what it asks for, which is to pass.
func (s *siege) during(framed bool, ceiling uint64, attack func()) {
	s.t.Helper()
	honest := httpClient(s.t, s.honest, framed)
	call := func() time.Duration {
		began := time.Now()
		err := serving(honest)
		for tries := 0; errors.Is(err, errTooMuch) && tries < 3; tries++ {
			time.Sleep(10 * time.Millisecond) // until what is given up has gone
			err = serving(honest)
		}
		if err != nil {
			s.t.Errorf("an honest call: %v", err)
		}
		return time.Since(began)
	}
	call()
	before := heap()
	stop, worst, calls := make(chan struct{}), time.Duration(0), 0
	var group sync.WaitGroup
	group.Go(func() {
		for {
			worst = max(worst, call())
			if calls++; calls%16 == 1 {
				s.peak = max(s.peak, heap())
			}
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond): // the pace of the honest client
			}
		}
	})
	attack()
	call()
	close(stop)
	group.Wait()
	s.peak = max(s.peak, heap())
	if worst > slowest {
		s.t.Errorf("the slowest of %d honest calls took %v", calls, worst)
	}
	if s.peak > before+ceiling {
		s.t.Errorf("the heap grew by %d KiB, at most %d", (s.peak-before)>>10, ceiling>>10)
	}
	s.t.Logf("%d honest calls, slowest %v, heap +%d KiB", calls, worst, (int64(s.peak)-int64(before))>>10)
}

// serving calls once.
func serving(c *http.Client) error {
	resp, err := c.Get("http://svc.test/")
	if errors.Is(err, syscall.ECONNRESET) { // a connection that comes when there is no room
		return fmt.Errorf("%w: %w", errTooMuch, err)
	}
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	switch resp.Header.Get("X-Fairlead-Error") {
	case "buffer_limit", "limit": // the request found no room, or its answer did
		return errTooMuch
	}
	if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 200 || string(body) != "served" {
		return fmt.Errorf("%d %.40q, %v", resp.StatusCode, body, err)
	}
	return nil
}

// heap is what is in use after a collection.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse
}

// floods are streams of frames that cost their sender nothing; each ends with a GOAWAY.
var floods = []struct {
	name string
	open func(s *script)        // before it
	wave func(s *script, i int) // again and again
	n    int                    // of waves
	want string
	why  string
}{
	{"PING", nil, func(s *script, i int) { s.frame(6, 0, 0, "12345678") }, 3000, "goaway 11", "Limits.Controls"},
	{"SETTINGS", nil, func(s *script, i int) { s.frame(4, 0, 0, "\x00\x04\x00\x00\xff\xff") }, 3000, "goaway 11", "Limits.Controls"},
	{"PRIORITY", nil, func(s *script, i int) { s.frame(2, 0, 1, "\x00\x00\x00\x00\x10") }, 3000, "goaway 11", "Limits.Controls"},
	{"unknown frames", nil, func(s *script, i int) { s.frame(0x99, 0, 0, "") }, 3000, "goaway 11", "Limits.Controls"},
	{"empty DATA", func(s *script) { s.post() }, func(s *script, i int) { s.data(0, "") }, 3000, "goaway 11", "Limits.Controls"},
	{"padding alone", func(s *script) { s.post() }, func(s *script, i int) { s.frame(0, 8, 1, "\x00") }, 3000, "goaway 11", "Limits.Controls"},
	{"CONTINUATION without end", func(s *script) { s.frame(1, 1, 1, s.fields(with("GET", nil)...)) },
		func(s *script, i int) { s.frame(9, 0, 1, s.fields("x", strings.Repeat("y", 100))) }, 1000, "goaway 11", "Limits.Fragments"},
	{"empty CONTINUATION without end", func(s *script) { s.frame(1, 1, 1, s.fields(with("GET", nil)...)) },
		func(s *script, i int) { s.frame(9, 0, 1, "") }, 1000, "goaway 11", "Limits.Fragments"},
	{"large CONTINUATION without end", func(s *script) { s.frame(1, 1, 1, s.fields(with("GET", nil)...)) },
		func(s *script, i int) { s.frame(9, 0, 1, strings.Repeat("y", 16000)) }, 100, "goaway 11", "Limits.Block"},
	{"rapid reset", nil, func(s *script, i int) {
		id := uint32(2*i + 1)
		s.frame(1, 5, id, s.fields(with("GET", nil)...)).frame(3, 0, id, "\x00\x00\x00\x08")
	}, 3000, "goaway 11", "Limits.Resets"},
	{"resets that we are made to send", nil, func(s *script, i int) {
		s.frame(1, 4, uint32(2*i+1), s.fields(with("POST", nil)...)).frame(8, 0, uint32(2*i+1), "\x00\x00\x00\x00")
	}, 3000, "goaway 11", "Limits.Resets"},
	{"malformed requests", nil, func(s *script, i int) { s.frame(1, 5, uint32(2*i+1), s.fields("x", "y")) }, 3000, "goaway 11", "Limits.Resets"},
	{"HPACK bomb", func(s *script) {
		s.head(1, append(with("GET", nil), "bomb", strings.Repeat("y", 3900))...)
	}, func(s *script, i int) { s.frame(1, 5, uint32(2*i+3), strings.Repeat("\xbe", 16000)) }, 1100, "goaway 11", "431 for each by Limits.HeadBytes, then Limits.Resets"},
	{"many fields", nil, func(s *script, i int) { s.frame(1, 5, uint32(2*i+1), s.fields(with("GET", manyFields)...)) }, 1100, "goaway 11",
		"431 for each by Limits.HeadFields, then Limits.Resets"},
	{"window of the connection over 2^31", nil, func(s *script, i int) { s.frame(8, 0, 0, "\x7f\xff\xff\xff") }, 2, "goaway 3", "RFC 9113 section 6.9.1"},
	{"initial window over 2^31", nil, func(s *script, i int) { s.frame(4, 0, 0, "\x00\x04\x80\x00\x00\x00") }, 1, "goaway 3", "RFC 9113 section 6.5.2"},
	{"windows of streams by a setting", func(s *script) {
		s.post().frame(8, 0, 1, "\x7f\xff\x00\x00")
	}, func(s *script, i int) { s.frame(4, 0, 0, "\x00\x04\x7f\xff\xff\xff") }, 1, "goaway 3", "RFC 9113 section 6.9.2"},
}

var manyFields = func() (kv []string) {
	for i := range 200 {
		kv = append(kv, fmt.Sprint("x-", i), "y")
	}
	return kv
}()

// TestFloods: a connection that is flooded ends with the error that it should, soon, at no cost to its neighbour.
func TestFloods(t *testing.T) {
	// Low enough to be met by a slow machine, too.
	low := func(c *Config) { c.Limits.HTTP.Controls, c.Limits.HTTP.Resets = 200, 100 }
	s := besiege(t, true, low, nil)
	for _, tt := range floods {
		t.Run(tt.name, func(t *testing.T) {
			s.t, s.peak, s.honest = t, 0, s.out
			if strings.Contains(tt.name, "reset") {
				s.honest = s.other // they are passed on, and end the connection to the other node that the clients of a pod share
			}
			s.during(true, 48<<20, func() {
				for began := time.Now(); time.Since(began) < 100*time.Millisecond; {
					if got := s.flood(dial(t, s.out), tt.open, tt.wave, tt.n); got != tt.want {
						t.Errorf("the connection ended with %q, want %q (%s)", got, tt.want, tt.why)
					}
				}
			})
		})
	}
	if n := s.rec.count(EventRequestLimit); n > 0 {
		t.Errorf("%d requests met the pod's limit", n)
	}
}

// flood floods c, and tells how it ended.
func (s *siege) flood(c net.Conn, open func(*script), wave func(*script, int), n int) string {
	in := newScript()
	if open != nil {
		open(in)
	}
	defer c.Close()
	var group sync.WaitGroup
	defer group.Wait()
	group.Go(func() {
		for i := range n {
			wave(in, i)
			if len(in.out) > 32<<10 || i == n-1 {
				if _, err := c.Write(in.out); err != nil {
					return // it has ended, which is what is waited for
				}
				in.out = in.out[:0]
			}
		}
	})
	return farewell(c)
}

// farewell reads until GOAWAY or the end.
func farewell(c net.Conn) string {
	f := &frames{c: c}
	for {
		kind, _, _, err := f.next()
		if err != nil {
			return err.Error()
		}
		if kind == 7 {
			return fmt.Sprint("goaway ", f.room[16])
		}
	}
}

// TestWindowOfAStreamOverflows: the stream ends with FLOW_CONTROL_ERROR, and the connection goes on.
func TestWindowOfAStreamOverflows(t *testing.T) {
	s := besiege(t, true, nil, nil)
	s.during(true, 8<<20, func() {
		in, f := newScript(), &frames{c: dial(t, s.out)}
		in.post().frame(8, 0, 1, "\x7f\xff\xff\xff").frame(8, 0, 1, "\x7f\xff\xff\xff")
		in.frame(1, 5, 3, in.fields(with("GET", nil)...))
		f.c.Write(in.out)
		dec := hpack.NewDecoder(4096, nil)
		if got, _ := heard(f, dec, 1); got != "rst 3" {
			t.Errorf("the stream ended with %q", got)
		}
		if got, body := heard(f, dec, 3); got != "200" || body != "served" {
			t.Errorf("the next one: %q %q", got, body)
		}
	})
}

// TestLargeFramedHeads: one that is over a limit is answered, and its connection goes on.
func TestLargeFramedHeads(t *testing.T) {
	s := besiege(t, true, nil, nil)
	large := []string{"x", strings.Repeat("y", 4000)}
	for _, tt := range []struct {
		name, want string
		in         func(s *script)
	}{
		{"many fields", "431", func(s *script) { s.get(manyFields...) }},
		{"many bytes", "431", func(s *script) {
			s.frame(1, 5, 1, s.fields(with("GET", large)...)+strings.Repeat("\xbe", 20)) // the same field again
		}},
		{"trailers", "rst 1", func(s *script) { s.post().head(1, manyFields...) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s.t, s.peak = t, 0
			s.during(true, 8<<20, func() {
				in, f, dec := newScript(), &frames{c: dial(t, s.out)}, hpack.NewDecoder(4096, nil)
				tt.in(in)
				in.frame(1, 5, 3, in.fields(with("GET", nil)...))
				f.c.Write(in.out)
				if got, _ := heard(f, dec, 1); got != tt.want {
					t.Errorf("ended with %q, want %q", got, tt.want)
				}
				if got, body := heard(f, dec, 3); got != "200" || body != "served" {
					t.Errorf("the next one: %q %q", got, body)
				}
			})
		})
	}
}

// TestLargeHeads: what is over a limit is answered.
func TestLargeHeads(t *testing.T) {
	s := besiege(t, false, nil, nil)
	for _, tt := range []struct{ name, want, in string }{
		{"many fields", "431", "GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X: y\r\n", 200) + "\r\n"},
		{"without end", "431", "GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("y", 4<<20)},
		{"line without end", "414", "GET /" + strings.Repeat("y", 4<<20)},
		{"extensions without end", "400", chunks(strings.Repeat("1;"+strings.Repeat("e", 200)+"\r\nx\r\n", 20000))},
		{"one extension without end", "400", chunks("1;" + strings.Repeat("e", 4<<20))},
		{"trailers without end", "431", chunks("0\r\n" + strings.Repeat("X: y\r\n", 700000))},
		{"one trailer without end", "431", chunks("0\r\nX: " + strings.Repeat("y", 4<<20))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s.t, s.peak = t, 0
			in := []byte(tt.in) // not a copy for each client, which would be counted
			s.during(false, 24<<20, func() {
				var group sync.WaitGroup
				for range 20 {
					c := dial(t, s.out)
					group.Go(func() { c.Write(in) }) // it may end early
					group.Go(func() {
						resp, err := http.ReadResponse(bufio.NewReader(c), nil)
						if err != nil {
							t.Errorf("no answer: %v", err)
						} else if fmt.Sprint(resp.StatusCode) != tt.want {
							t.Errorf("answered %d, want %s", resp.StatusCode, tt.want)
						}
						c.Close()
					})
				}
				group.Wait()
			})
		})
	}
}

// TestSlowHeads: heads that come a byte at a time end with 408, all of them, by Limits.HeadTimeout.
func TestSlowHeads(t *testing.T) {
	s := besiege(t, false, func(c *Config) { c.Limits.HTTP.HeadTimeout = 500 * time.Millisecond }, nil)
	s.during(false, 40<<20, func() {
		var group sync.WaitGroup
		for range 60 {
			c := dial(t, s.out)
			io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n")
			group.Go(func() {
				for i := 0; i < 200; i++ {
					if _, err := io.WriteString(c, "X"); err != nil {
						return
					}
					time.Sleep(20 * time.Millisecond) // the attacker's pace
				}
			})
			group.Go(func() {
				defer c.Close()
				if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || resp.StatusCode != 408 {
					t.Errorf("a slow head: %v, %v", resp, err)
				}
			})
		}
		group.Wait()
	})
}
