package h2

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"fairlead.io/fairlead/internal/l7/exchange"
	"fairlead.io/fairlead/internal/l7/exchange/wiretest"
)

// TestAccountsAddUp plays a server and a client back to back at random: what they say they keep is what they keep, no credit of a
// connection is lost or given twice, and behind the end nothing is kept.
func TestAccountsAddUp(t *testing.T) {
	bad := 0
	for seed := range int64(800) {
		if msg := runAccounts(seed); msg != "" {
			t.Errorf("seed %d: %s", seed, msg)
			if bad++; bad > 5 {
				return
			}
		}
	}
}

// runAccounts plays one game and says what is wrong.
func runAccounts(seed int64) (msg string) {
	defer func() {
		if r := recover(); r != nil {
			msg = fmt.Sprint("panic: ", r)
		}
	}()
	r := rand.New(rand.NewPCG(uint64(seed), 0))
	b := &exchange.Budget{Limit: 600 << 10}
	var others exchange.Account
	others.Open(b)
	shared := &Shared{}
	ws, wc := &wiretest.Wire{}, &wiretest.Wire{}
	c := NewClient(wc, ClientConfig{Budget: b, Shared: shared})
	type ex struct {
		x     *exchange.Exchange
		bound bool
		end   bool
		up    uint32
	}
	var all []*ex
	s := NewServer(ws, ServerConfig{Budget: b, Shared: shared, Private: seed%3 == 0, Request: func(x *exchange.Exchange, h *exchange.Head, end bool) {
		e := &ex{x: x, end: end}
		all = append(all, e)
	}})
	bind := func(e *ex) {
		if e.bound || e.x.Done() || !c.CanSend() {
			return
		}
		e.bound = true
		e.up = c.nextID
		if c.Send(e.x, &exchange.Head{Method: "POST", Scheme: "http", Authority: "a", Path: "/", Length: -1}, e.end) == nil {
			e.x.Bind(c)
		}
	}
	down, up := newPeer(true), newPeer(false)
	up.frame(frameSettings, 0, 0, setting(setWindow, uint32(r.IntN(60000))))
	down.frame(frameSettings, 0, 0, setting(setWindow, uint32(r.IntN(60000))))
	flush := func() {
		ws.Feed(s, down.Bytes(), 1<<20)
		down.Reset()
		wc.Feed(c, up.Bytes(), 1<<20)
		up.Reset()
		ws.Out, wc.Out = nil, nil
	}
	flush()
	next := uint32(1)
	win := map[uint32]int{}
	for range 120 {
		others.Set(r.IntN(7) * 90 << 10)
		id := uint32(1)
		if next > 1 {
			id = uint32(r.IntN(int(next-1)/2))*2 + 1
		}
		var e *ex
		if len(all) > 0 {
			e = all[r.IntN(len(all))]
		}
		switch r.IntN(16) {
		case 0, 1:
			down.post(next)
			win[next] = 60000
			next += 2
		case 2, 3, 4:
			n := min(r.IntN(16000), win[id])
			win[id] -= n
			if next > 1 && s.streams[id] != nil && !s.streams[id].remoteEnd {
				down.frame(frameData, byte(r.IntN(8)/7), id, strings.Repeat("x", n))
			}
		case 5:
			if next > 1 {
				down.frame(frameReset, 0, id, u32(8))
			}
		case 6, 7:
			if e != nil {
				bind(e)
			}
		case 8:
			if e != nil && e.bound && c.streams[e.up] != nil && !c.streams[e.up].responded {
				up.frame(frameHeaders, flagEndHeaders|byte(r.IntN(6)/5), e.up, up.fields(":status", "200"))
			}
		case 9, 10:
			if e != nil && e.bound && c.streams[e.up] != nil && c.streams[e.up].responded && !c.streams[e.up].remoteEnd {
				up.frame(frameData, byte(r.IntN(8)/7), e.up, strings.Repeat("y", r.IntN(9000)))
			}
		case 11:
			if e != nil && e.bound && c.streams[e.up] != nil {
				up.frame(frameReset, 0, e.up, u32(uint32(r.IntN(12))))
			}
		case 12:
			ws.Full, wc.Full = r.IntN(2)*(300<<10), r.IntN(2)*(300<<10)
			if ws.Full == 0 {
				s.Writable()
			}
			if wc.Full == 0 {
				c.Writable()
			}
		case 13:
			if next > 1 && s.streams[id] != nil {
				down.frame(frameWindow, 0, id, u32(uint32(1+r.IntN(30000)))).frame(frameWindow, 0, 0, u32(30000))
			}
			if e != nil && c.streams[e.up] != nil {
				up.frame(frameWindow, 0, e.up, u32(uint32(1+r.IntN(30000)))).frame(frameWindow, 0, 0, u32(30000))
			}
		case 14:
			if r.IntN(3) == 0 {
				s.Shed()
				c.Shed()
			}
		case 15:
			if e != nil && r.IntN(3) == 0 {
				e.x.Fail(503, 8, "x", "y")
			}
		}
		flush()
		shared.Turn()
		for _, cn := range []*conn{&s.conn, &c.conn} {
			sum, owing := 0, int64(0)
			for _, st := range cn.streams {
				sum += len(st.queue) - st.head + len(st.held) + st.aside
				owing += st.owing
			}
			sum += len(cn.fragment)
			if !cn.dead && sum != cn.account.Held() {
				return fmt.Sprintf("server %v: held %d, account %d", cn.server, sum, cn.account.Held())
			}
			if !cn.dead && cn.recv.left+cn.recv.refund+owing > cn.recv.size {
				return fmt.Sprintf("server %v: left %d refund %d owing %d of %d", cn.server, cn.recv.left, cn.recv.refund, owing, cn.recv.size)
			}
		}
	}
	// All readers read.
	ws.Full, wc.Full = 0, 0
	others.Set(0)
	for range 6 {
		for _, e := range all {
			if !e.x.Done() {
				e.x.Fail(503, 8, "x", "y")
			}
		}
		for id := range s.streams {
			down.frame(frameWindow, 0, id, u32(500000))
		}
		down.frame(frameWindow, 0, 0, u32(2000000))
		for id := range c.streams {
			up.frame(frameWindow, 0, id, u32(500000))
		}
		up.frame(frameWindow, 0, 0, u32(2000000))
		flush()
		shared.Turn()
	}
	for _, cn := range []*conn{&s.conn, &c.conn} {
		if cn.dead {
			continue
		}
		owing := int64(0)
		for _, st := range cn.streams {
			owing += st.owing
		}
		if cn.recv.left+cn.recv.refund+owing != cn.recv.size {
			return fmt.Sprintf("at the end, server %v: left %d refund %d owing %d of %d", cn.server, cn.recv.left, cn.recv.refund, owing, cn.recv.size)
		}
	}
	s.Closed(nil)
	c.Closed(nil)
	if n := b.Used(); n != 0 {
		return fmt.Sprintf("%d bytes counted behind the end", n)
	}
	return ""
}
