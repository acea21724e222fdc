package h2

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/l7/exchange"
	"fairlead.io/fairlead/internal/l7/exchange/wiretest"
)

// few is less than what the tests below send of either kind.
var few = exchange.Limits{Controls: 50, Resets: 50}

// crossing is what a peer in good faith may still send of a stream that we have reset.
func crossing(p *peer, client bool, id uint32) {
	p.frame(frameWindow, 0, id, u32(1))
	if client {
		p.frame(frameData, 0, id, "x").frame(frameHeaders, flagEndHeaders|flagEndStream, id, p.fields("t", "v"))
	} else {
		p.frame(frameHeaders, flagEndHeaders, id, p.fields(":status", "200")).frame(frameData, flagEndStream, id, "")
	}
	p.frame(frameReset, 0, id, u32(8))
}

// TestFramesThatCrossAReset: those that a server's client has sent before it could know are no flood, even if they are of more streams
// than are remembered.
func TestFramesThatCrossAReset(t *testing.T) {
	const streams = 600
	for _, private := range []bool{false, true} {
		t.Run(fmt.Sprintf("server/private=%v", private), func(t *testing.T) {
			lim := few
			lim.Streams = streams
			s, w, all := held(t, ServerConfig{Limits: lim, Private: private})
			p := newPeer(true)
			for i := range uint32(streams) {
				p.post(2*i + 1)
			}
			w.Feed(s, p.Bytes(), 1<<20)
			for _, x := range *all {
				s.Reset(x, exchange.Reason{Code: exchange.CodeCancel})
			}
			p.Reset()
			for i := range uint32(streams) {
				if i < streams-100 { // as many as are owed no more
					p.frame(frameHeaders, flagEndHeaders|flagEndStream, 2*i+1, p.fields("t", "v"))
					continue
				}
				crossing(p, true, 2*i+1)
			}
			w.Feed(s, p.Bytes(), 1<<20)
			if got := taken(t, w); strings.Contains(got, "GOAWAY") {
				t.Errorf("ended with %s", got[strings.Index(got, "GOAWAY"):])
			}
		})
		t.Run(fmt.Sprintf("client/private=%v", private), func(t *testing.T) {
			w := &wiretest.Wire{}
			c := NewClient(w, ClientConfig{Limits: few, Private: private})
			p := newPeer(false)
			w.Feed(c, p.Bytes(), 1<<20)
			w.Out = nil // with the preface
			for range 10 {
				p.Reset()
				for _, id := range cancelled(t, c, 60) {
					crossing(p, false, id)
				}
				w.Feed(c, p.Bytes(), 1<<20)
			}
			if got := taken(t, w); strings.Contains(got, "GOAWAY") {
				t.Errorf("ended with %s", got[strings.Index(got, "GOAWAY"):])
			}
		})
	}
}

// cancelled sends n requests and gives them up.
func cancelled(t *testing.T, c *Client, n int) (ids []uint32) {
	t.Helper()
	for _, x := range asked(t, c, n) {
		ids = append(ids, x.UpState.(*stream).id)
		c.Reset(x, exchange.Reason{Code: exchange.CodeCancel})
	}
	return ids
}

func asked(t *testing.T, c *Client, n int) (all []*exchange.Exchange) {
	t.Helper()
	for range n {
		x := &exchange.Exchange{Down: wiretest.Payer{Sink: &wiretest.Sink{}}}
		x.RequestEnded()
		if err := c.Send(x, &exchange.Head{Method: "GET", Path: "/", Length: -1}, true); err != nil {
			t.Fatal(err)
		}
		x.Bind(c)
		all = append(all, x)
	}
	return all
}

// TestFloodsBehindAReset: what comes of streams that are gone is excused a few times, and then counted.
func TestFloodsBehindAReset(t *testing.T) {
	for name, frame := range map[string]func(p *peer){
		"WINDOW_UPDATE": func(p *peer) { p.frame(frameWindow, 0, 1, u32(1)) },
		"RST_STREAM":    func(p *peer) { p.frame(frameReset, 0, 1, u32(8)) },
		"empty DATA":    func(p *peer) { p.frame(frameData, 0, 1, "") },
		"trailers":      func(p *peer) { p.frame(frameHeaders, flagEndHeaders|flagEndStream, 1, p.fields("t", "v")) },
	} {
		for _, private := range []bool{false, true} {
			s, w, all := held(t, ServerConfig{Limits: few, Private: private})
			p := newPeer(true)
			w.Feed(s, p.post(1).Bytes(), 1<<20)
			s.Reset((*all)[0], exchange.Reason{Code: exchange.CodeCancel})
			n := 0
			for ; n < 1000 && !w.Ended; n++ {
				p.Reset()
				frame(p)
				w.Feed(s, p.Bytes(), 1<<20)
			}
			if want := few.Controls + behindReset + 1; n > want || !strings.Contains(taken(t, w), "GOAWAY 1 11") {
				t.Errorf("%s, private %v: ended after %d, want %d and a GOAWAY", name, private, n, want)
			}
		}
	}
}

// TestExcusesAreBounded: however many streams there have been, a flood behind them ends.
func TestExcusesAreBounded(t *testing.T) {
	s, w, all := held(t, ServerConfig{Limits: few})
	p := newPeer(true)
	for i := range uint32(10_000) {
		w.Feed(s, p.post(2*i+1).Bytes(), 1<<20)
		s.Reset((*all)[i], exchange.Reason{Code: exchange.CodeCancel})
		p.Reset()
	}
	for range maxExcused + few.Controls + 1 {
		p.frame(frameWindow, 0, 1, u32(1))
	}
	w.Feed(s, p.Bytes(), 1<<20)
	if !strings.Contains(taken(t, w), "GOAWAY 19999 11") {
		t.Error("no GOAWAY")
	}
}

// TestHowManyResets: a connection between nodes takes those of many clients, and not without end. A client's own streams are not
// counted when they are reset.
func TestHowManyResets(t *testing.T) {
	for _, tt := range []struct {
		private bool
		limit   int
	}{{false, few.Resets}, {true, few.Resets * meshClients}} {
		s, w, all := held(t, ServerConfig{Limits: few, Private: tt.private})
		p := newPeer(true)
		id := uint32(1)
		for round := range 3 {
			for range tt.limit {
				w.Feed(s, p.post(id).frame(frameReset, 0, id, u32(8)).Bytes(), 1<<20)
				id += 2
				p.Reset()
			}
			if got := taken(t, w); strings.Contains(got, "GOAWAY") || len(*all) != (round+1)*tt.limit {
				t.Fatalf("private %v: %d requests, %q", tt.private, len(*all), got)
			}
			w.Sched.Advance(time.Second)
		}
		w.Sched.Advance(-time.Nanosecond) // still of the last second
		w.Feed(s, p.post(id).frame(frameReset, 0, id, u32(8)).Bytes(), 1<<20)
		if got := taken(t, w); !strings.Contains(got, fmt.Sprintf("GOAWAY %d 11", id)) {
			t.Errorf("private %v: one more: %q", tt.private, got)
		}
	}
	w := &wiretest.Wire{}
	c := NewClient(w, ClientConfig{Limits: few, Private: true})
	p := newPeer(false)
	w.Feed(c, p.Bytes(), 1<<20)
	w.Out = nil // with the preface
	for range 5 {
		p.Reset()
		for _, x := range asked(t, c, 90) {
			p.frame(frameReset, 0, x.UpState.(*stream).id, u32(8))
		}
		w.Feed(c, p.Bytes(), 1<<20)
	}
	if got := taken(t, w); strings.Contains(got, "GOAWAY") || !c.CanSend() {
		t.Errorf("a client whose streams are reset: %q", got)
	}
}
