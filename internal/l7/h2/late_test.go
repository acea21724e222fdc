package h2

import (
	"strings"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/l7/exchange"
	"fairlead.io/fairlead/internal/l7/exchange/wiretest"
)

// TestFramesBehindTheLastGoAway: a stream that crosses the last GOAWAY is passed over, with all that comes of it; those that the GOAWAY
// has let go on are served.
func TestFramesBehindTheLastGoAway(t *testing.T) {
	for name, more := range map[string]func(p *peer){
		"head alone": func(*peer) {},
		"data":       func(p *peer) { p.frame(frameData, flagEndStream, 3, "abc") },
		"reset":      func(p *peer) { p.frame(frameReset, 0, 3, u32(8)) },
		"window":     func(p *peer) { p.frame(frameWindow, 0, 3, u32(100)) },
		"trailers":   func(p *peer) { p.frame(frameHeaders, flagEndHeaders|flagEndStream, 3, p.fields("x", "y")) },
		"many": func(p *peer) {
			for range 6 {
				p.frame(frameWindow, 0, 3, u32(100))
			}
		},
		"another": func(p *peer) { p.frame(frameData, flagEndStream, 3, "abc").get(5) },
	} {
		t.Run(name, func(t *testing.T) {
			s, w, all := held(t, ServerConfig{Limits: exchange.Limits{Controls: 4}})
			p := newPeer(true)
			w.Feed(s, p.get(1).Bytes(), 1<<20)
			s.Drain()
			w.Sched.Advance(time.Second)
			if got := taken(t, w); !strings.HasSuffix(got, "GOAWAY 1 0") {
				t.Fatalf("drain said %q", got)
			}
			p.Reset()
			p.post(3)
			more(p)
			w.Feed(s, p.Bytes(), 1<<20)
			if got := taken(t, w); w.Ended || len(*all) != 1 || strings.Contains(got, "GOAWAY") {
				t.Fatalf("said %q, closed %t, %d requests", got, w.Ended, len(*all))
			}
			(*all)[0].Bind(&counter{})
			(*all)[0].ResponseHead(&exchange.Head{Status: 204, Length: -1}, true)
			if got := taken(t, w); !strings.Contains(got, "HEADERS 1") || !w.Ended {
				t.Errorf("the request that was under way: %q, closed %t", got, w.Ended)
			}
		})
	}
}

// TestALaterGoAwayNamesNoMore: what the last GOAWAY has named stands, also if the connection fails afterwards.
func TestALaterGoAwayNamesNoMore(t *testing.T) {
	s, w, _ := held(t, ServerConfig{})
	p := newPeer(true)
	w.Feed(s, p.get(1).Bytes(), 1<<20)
	s.Drain()
	w.Sched.Advance(time.Second)
	taken(t, w)
	p.Reset()
	w.Feed(s, p.get(3).frame(frameData, 0, 0, "x").Bytes(), 1<<20)
	if got := taken(t, w); got != "GOAWAY 1 1" || !w.Ended {
		t.Errorf("said %q", got)
	}
}

// TestAStreamThatWasTaken: of the streams above the one that GOAWAY names nothing was done; that one may have been.
func TestAStreamThatWasTaken(t *testing.T) {
	w := &wiretest.Wire{}
	c := NewClient(w, ClientConfig{})
	rs := make([]rejecter, 3)
	for i := range rs {
		x := &exchange.Exchange{Down: wiretest.Payer{Sink: &wiretest.Sink{}}, Observer: &rs[i]}
		x.RequestEnded()
		if err := c.Send(x, &exchange.Head{Method: "POST", Path: "/", Length: -1}, true); err != nil {
			t.Fatal(err)
		}
		x.Bind(c)
	}
	w.Feed(c, newPeer(false).frame(frameGoAway, 0, 0, u32(3)+u32(0)).Bytes(), 1<<20)
	if len(rs[0].why)+len(rs[1].why) != 0 || len(rs[2].why) != 1 || !rs[2].why[0].Unprocessed {
		t.Fatalf("behind GOAWAY 3: %+v", rs)
	}
	p := &peer{}
	w.Feed(c, p.frame(frameHeaders, flagEndHeaders|flagEndStream, 3, newPeer(false).fields(":status", "200")).Bytes(), 1<<20)
	w.End(c)
	if len(rs[1].why) != 0 || len(rs[0].why) != 1 || rs[0].why[0].Unprocessed {
		t.Errorf("in the end: %+v", rs)
	}
}

// TestMoreStreamsLater: a server that lets more streams be, or knows CONNECT, after a while wakes those who wait.
func TestMoreStreamsLater(t *testing.T) {
	w := &wiretest.Wire{}
	ready := 0
	c := NewClient(w, ClientConfig{OnReady: func(c *Client) {
		if c.CanSend() {
			ready++
		}
	}})
	p := &peer{}
	w.Feed(c, p.frame(frameSettings, 0, 0, setting(setStreams, 0)).Bytes(), 1<<20)
	if ready != 0 || c.CanSend() {
		t.Fatalf("ready %d times without a stream to be had", ready)
	}
	p.Reset()
	w.Feed(c, p.frame(frameSettings, 0, 0, setting(setStreams, 100)).Bytes(), 1<<20)
	if ready != 1 {
		t.Errorf("ready %d times", ready)
	}
}

// TestReused: a request is called lost on a connection that had served only if it had, and if nothing of an answer had come.
func TestReused(t *testing.T) {
	send := func(c *Client) *rejecter {
		r := &rejecter{}
		x := &exchange.Exchange{Down: wiretest.Payer{Sink: &wiretest.Sink{}}, Observer: r}
		x.RequestEnded()
		if err := c.Send(x, &exchange.Head{Method: "PUT", Path: "/", Length: -1}, true); err != nil {
			t.Fatal(err)
		}
		x.Bind(c)
		return r
	}
	answer := func(id uint32, status string, flags byte) []byte {
		return (&peer{}).frame(frameHeaders, flagEndHeaders|flags, id, newPeer(false).fields(":status", status)).Bytes()
	}
	for name, tt := range map[string]struct {
		served, begun, interim bool
		want                   bool
	}{
		"it has served":               {served: true, want: true},
		"it has not":                  {},
		"it has only begun to":        {begun: true},
		"something of an answer came": {served: true, interim: true},
		"both":                        {interim: true},
	} {
		w := &wiretest.Wire{}
		c := NewClient(w, ClientConfig{})
		w.Feed(c, newPeer(false).Bytes(), 1<<20)
		id := uint32(1)
		if tt.served {
			send(c)
			w.Feed(c, answer(id, "200", flagEndStream), 1<<20)
			id += 2
		}
		send(c) // another that is under way says nothing
		if tt.begun {
			w.Feed(c, answer(id, "200", 0), 1<<20)
		}
		id += 2
		r := send(c)
		if tt.interim {
			w.Feed(c, answer(id, "103", 0), 1<<20)
		}
		w.End(c)
		if len(r.why) != 1 || r.why[0].Reused != tt.want {
			t.Errorf("%s: %+v", name, r.why)
		}
	}
}

// TestInterimsAreBounded: an app may say 1xx so often and no more.
func TestInterimsAreBounded(t *testing.T) {
	w := &wiretest.Wire{}
	c := NewClient(w, ClientConfig{})
	r := &rejecter{}
	x := &exchange.Exchange{Down: wiretest.Payer{Sink: &wiretest.Sink{}}, Observer: r}
	x.RequestEnded()
	if err := c.Send(x, &exchange.Head{Method: "GET", Path: "/", Length: -1}, true); err != nil {
		t.Fatal(err)
	}
	x.Bind(c)
	w.Feed(c, newPeer(false).Bytes(), 1<<20)
	limit := exchange.Limits{}.WithDefaults().Interim
	for i := range limit + 1 {
		if len(r.why) != 0 {
			t.Fatalf("given up after %d", i)
		}
		w.Feed(c, (&peer{}).frame(frameHeaders, flagEndHeaders, 1, newPeer(false).fields(":status", "103")).Bytes(), 1<<20)
	}
	if len(r.why) != 1 {
		t.Errorf("after %d: %+v", limit+1, r.why)
	}
}

// TestTheConnectionWindow: a peer that sends more than the connection's window ends it, whichever streams it sends on.
func TestTheConnectionWindow(t *testing.T) {
	lim := exchange.Limits{ConnWindow: 128 << 10, StreamWindow: 96 << 10}
	s, w, _ := held(t, ServerConfig{Limits: lim})
	p := newPeer(true)
	p.post(1).post(3)
	for i := range 12 {
		p.frame(frameData, 0, uint32(1+2*(i%2)), strings.Repeat("x", 12<<10))
	}
	w.Feed(s, p.Bytes(), 1<<20)
	if got := taken(t, w); !strings.HasSuffix(got, "GOAWAY 3 3") || !w.Ended {
		t.Errorf("said %q, closed %t", got, w.Ended)
	}
}

// tight is a transport below which another loop makes the budget tight, between two looks at it.
type tight struct {
	wiretest.Wire
	looks   int // until then; 0 never
	budget  *exchange.Budget
	account exchange.Account
}

func (w *tight) Pending() int {
	if w.looks > 0 {
		if w.looks--; w.looks == 0 {
			w.account.Open(w.budget)
			w.account.Set(int(w.budget.Limit / 2))
		}
	}
	return w.Full
}

// TestTheEndIsNotLost: the end of a response goes out in the end, though the budget becomes tight in the moment in which it should.
func TestTheEndIsNotLost(t *testing.T) {
	for looks := range 4 {
		b := &exchange.Budget{Limit: 6 << 20}
		w := &tight{budget: b}
		var x *exchange.Exchange
		s := NewServer(w, ServerConfig{Budget: b, Request: func(y *exchange.Exchange, _ *exchange.Head, _ bool) { x = y }})
		w.Feed(s, newPeer(true).get(1).Bytes(), 1<<20)
		x.Bind(&counter{})
		x.ResponseHead(&exchange.Head{Status: 200, Length: -1}, false)
		w.Full = 300 << 10
		x.ResponseData(nil, true) // waits
		w.Full, w.looks = 100<<10, looks
		s.Writable()
		w.Full, w.looks = 0, 0
		w.account.Set(0)
		s.Writable()
		if s.Streams() != 0 {
			t.Errorf("tight at look %d: the stream has not ended: %s", looks, taken(t, &w.Wire))
		}
	}
}

// TestAnEndNeedsNoWindow: a stream that has only its end left is not kept waiting by others that wait for the connection's window.
func TestAnEndNeedsNoWindow(t *testing.T) {
	s, w, all := held(t, ServerConfig{})
	w.Feed(s, newPeer(true).frame(frameSettings, 0, 0, setting(setWindow, 1<<20)).get(1).get(3).Bytes(), 1<<20)
	for _, x := range *all {
		x.Bind(&counter{})
		x.ResponseHead(&exchange.Head{Status: 200, Length: -1}, false)
	}
	big, small := (*all)[0], (*all)[1]
	big.ResponseData(make([]byte, 65535+10), true) // more than the connection's window
	w.Full = 300 << 10
	small.ResponseData(nil, true) // waits for the transport
	w.Full = 0
	taken(t, w)
	s.Writable()
	if got := taken(t, w); !strings.Contains(got, "DATA 3") || s.Streams() != 1 {
		t.Errorf("said %q, %d streams are left", got, s.Streams())
	}
}

// TestWaitingTrailersAreGivenBack: trailers that wait in a stream are counted, and not for longer than it lasts.
func TestWaitingTrailersAreGivenBack(t *testing.T) {
	b := &exchange.Budget{Limit: 64 << 20}
	s, w, all := held(t, ServerConfig{Budget: b})
	w.Feed(s, newPeer(true).get(1).Bytes(), 1<<20)
	x := (*all)[0]
	x.Bind(&counter{})
	x.ResponseHead(&exchange.Head{Status: 200, Length: -1}, false)
	before := b.Used()
	x.ResponseData(make([]byte, 65535+10), false)
	x.ResponseTrailers([]exchange.Field{{Name: "x", Value: strings.Repeat("y", 5000)}})
	if b.Used() < before+5000 {
		t.Fatalf("%d bytes are counted, %d before", b.Used(), before)
	}
	w.Feed(s, (&peer{}).frame(frameReset, 0, 1, u32(8)).Bytes(), 1<<20)
	if b.Used() != before {
		t.Errorf("%d bytes are counted in the end, %d before", b.Used(), before)
	}
}
