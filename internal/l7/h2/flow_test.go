package h2

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/l7/exchange"
	"fairlead.io/fairlead/internal/l7/exchange/wiretest"
)

// held is a server whose requests wait for the test.
func held(t *testing.T, cfg ServerConfig) (*Server, *wiretest.Wire, *[]*exchange.Exchange) {
	t.Helper()
	w := &wiretest.Wire{}
	var all []*exchange.Exchange
	cfg.Request = func(x *exchange.Exchange, _ *exchange.Head, _ bool) { all = append(all, x) }
	s := NewServer(w, cfg)
	return s, w, &all
}

// taken are the frames since the last call.
func taken(t *testing.T, w *wiretest.Wire) string {
	t.Helper()
	out := strings.Join(said(t, w.Out), "\n")
	w.Out = nil
	return out
}

// counter is a side that counts what it is given, and pays nothing by itself.
type counter struct {
	wiretest.Sink
	paid int
}

func (c *counter) Consumed(_ *exchange.Exchange, n int) { c.paid += n }

func TestSendWindows(t *testing.T) {
	s, w, all := held(t, ServerConfig{})
	p := newPeer(true)
	p.frame(frameSettings, 0, 0, setting(setWindow, 100)).get(1).get(3)
	w.Feed(s, p.Bytes(), 1<<20)
	up := []*counter{{}, {}}
	for i, x := range *all {
		x.Bind(up[i])
		x.ResponseHead(&exchange.Head{Status: 200, Length: -1}, false)
	}
	taken(t, w)
	(*all)[0].ResponseData(bytes.Repeat([]byte("x"), 250), false)
	(*all)[0].ResponseTrailers([]exchange.Field{{Name: "t", Value: "v"}})
	if got := taken(t, w); got != "DATA 1 100 flags=0" || up[0].paid != 100 {
		t.Fatalf("with a window of 100: %q, paid %d", got, up[0].paid)
	}
	(*all)[1].ResponseData([]byte("y"), true) // another stream is not held up
	if got := taken(t, w); got != "DATA 3 1 flags=1" {
		t.Fatalf("on the other stream: %q", got)
	}
	feed := func(kind, flags byte, id uint32, payload string) string {
		b := appendFrameHeader(nil, len(payload), kind, flags, id)
		w.Feed(s, append(b, payload...), 1<<20)
		return taken(t, w)
	}
	if got := feed(frameSettings, 0, 0, setting(setWindow, 50)); got != "SETTINGS flags=1" { // the window is now -50
		t.Fatalf("smaller window: %q", got)
	}
	if got := feed(frameWindow, 0, 1, u32(60)); got != "DATA 1 10 flags=0" || up[0].paid != 110 {
		t.Fatalf("10 more: %q, paid %d", got, up[0].paid)
	}
	if got := feed(frameSettings, 0, 0, setting(setWindow, 300)); got != "SETTINGS flags=1\nDATA 1 140 flags=0\nHEADERS 1 t=v" || up[0].paid != 250 {
		t.Fatalf("larger window: %q, paid %d", got, up[0].paid)
	}
	if s.Streams() != 0 {
		t.Errorf("%d streams are left", s.Streams())
	}
}

func TestConnectionWindowIsShared(t *testing.T) {
	s, w, all := held(t, ServerConfig{})
	p := newPeer(true)
	p.frame(frameSettings, 0, 0, setting(setWindow, maxWindow)).get(1).get(3).get(5)
	w.Feed(s, p.Bytes(), 1<<20)
	for _, x := range *all {
		x.Bind(&counter{})
		x.ResponseHead(&exchange.Head{Status: 200, Length: -1}, false)
		x.ResponseData(bytes.Repeat([]byte("x"), 60_000), true)
	}
	taken(t, w)
	p.Reset()
	w.Feed(s, p.frame(frameWindow, 0, 0, u32(3*maxFrame)).Bytes(), 1<<20)
	got := taken(t, w)
	if n := strings.Count(got, "DATA"); strings.Count(got, "DATA 3 ") == 0 || strings.Count(got, "DATA 5 ") == 0 || n < 3 {
		t.Errorf("streams did not take turns: %q", got)
	}
}

// TestTransportIsFull has a transport that takes nothing: data waits in the streams, unpaid.
func TestTransportIsFull(t *testing.T) {
	s, w, all := held(t, ServerConfig{})
	w.Feed(s, newPeer(true).get(1).Bytes(), 1<<20)
	x, up := (*all)[0], &counter{}
	x.Bind(up)
	x.ResponseHead(&exchange.Head{Status: 200, Length: -1}, false)
	taken(t, w)
	w.Full = exchange.HighWater + 1
	x.ResponseData([]byte("abc"), true)
	if got := taken(t, w); got != "" || up.paid != 0 {
		t.Fatalf("wrote %q, paid %d", got, up.paid)
	}
	w.Full = 0
	s.Writable()
	if got := taken(t, w); got != "DATA 1 3 flags=1" || up.paid != 3 {
		t.Errorf("wrote %q, paid %d", got, up.paid)
	}
}

// TestReceiveWindows sends more than an upstream takes: credit comes only for what it took.
func TestReceiveWindows(t *testing.T) {
	lim := exchange.Limits{StreamWindow: 70_000, ConnWindow: 200_000}
	s, w, all := held(t, ServerConfig{Limits: lim})
	p := newPeer(true)
	p.post(1)
	for range 4 {
		p.frame(frameData, 0, 1, strings.Repeat("x", maxFrame))
	}
	w.Feed(s, p.Bytes(), 1<<20)
	x := (*all)[0]
	if got := taken(t, w); strings.Contains(got, "WINDOW 1") {
		t.Fatalf("credit before there is an upstream: %q", got)
	}
	up := &counter{}
	x.Bind(up)
	if up.Log.Len() != 4*maxFrame {
		t.Fatalf("the upstream got %d bytes at last", up.Log.Len())
	}
	s.Consumed(x, 30_000)
	if got := taken(t, w); got != "" {
		t.Fatalf("credit too early: %q", got)
	}
	s.Consumed(x, 25_000)
	if got := taken(t, w); got != "WINDOW 0 55000\nWINDOW 1 55000" {
		t.Fatalf("credit: %q", got)
	}
	p.Reset()
	for range 5 { // more than the window
		p.frame(frameData, 0, 1, strings.Repeat("x", maxFrame))
	}
	w.Feed(s, p.Bytes(), 1<<20)
	if got := taken(t, w); !strings.Contains(got, "RST 1 3") || !strings.Contains(up.Log.String(), "\nreset ") {
		t.Errorf("an overrun window: %q", got)
	}
}

// TestCreditOfLostStreams checks that a stream that is reset takes none of the connection's window with it.
func TestCreditOfLostStreams(t *testing.T) {
	lim := exchange.Limits{StreamWindow: 70_000, ConnWindow: 150_000}
	s, w, all := held(t, ServerConfig{Limits: lim})
	p := newPeer(true)
	for i := range uint32(200) {
		id := 2*i + 1
		p.post(id).frame(frameData, 0, id, strings.Repeat("x", 10_000)).frame(frameReset, 0, id, u32(8))
		w.Feed(s, p.Bytes(), 1<<20)
		p.Reset()
	}
	if got := taken(t, w); strings.Contains(got, "GOAWAY") || len(*all) != 200 {
		t.Errorf("%d requests, and then: %.300q", len(*all), got)
	}
}

func TestReasons(t *testing.T) {
	for _, tt := range []struct {
		c    code
		want exchange.Reason
	}{
		{codeRefused, exchange.Reason{Code: exchange.CodeClosed, Unprocessed: true}},
		{codeCancel, exchange.Reason{Code: exchange.CodeCancel}},
		{codeInternal, exchange.Reason{Code: exchange.CodeInternal}},
		{codeCalm, exchange.Reason{Code: exchange.CodeLimit}},
		{codeProtocol, exchange.Reason{Code: exchange.CodeProtocol}},
		{codeConnect, exchange.Reason{Code: exchange.CodeConnect}},
	} {
		got := resetReason(tt.c)
		got.Detail = ""
		if got != tt.want {
			t.Errorf("RST_STREAM %d is %+v, want %+v", tt.c, got, tt.want)
		}
		if back := resetCode(got); back != tt.c {
			t.Errorf("RST_STREAM %d comes out as %d", tt.c, back)
		}
	}
}

// rejecter takes every failure over and notes it.
type rejecter struct{ why []exchange.Reason }

func (r *rejecter) ResponseHead(*exchange.Exchange, *exchange.Head)       {}
func (r *rejecter) ResponseTrailers(*exchange.Exchange, []exchange.Field) {}
func (r *rejecter) Done(*exchange.Exchange, exchange.Reason)              {}
func (r *rejecter) Reject(_ *exchange.Exchange, why exchange.Reason) bool {
	r.why = append(r.why, why)
	return true
}

func TestGoAway(t *testing.T) {
	w := &wiretest.Wire{}
	draining := 0
	c := NewClient(w, ClientConfig{OnDraining: func(*Client) { draining++ }})
	rs := make([]rejecter, 3)
	for i := range rs {
		x := &exchange.Exchange{Down: wiretest.Payer{Sink: &wiretest.Sink{}}, Observer: &rs[i]}
		x.RequestEnded()
		if err := c.Send(x, &exchange.Head{Method: "GET", Path: "/", Length: -1}, true); err != nil {
			t.Fatal(err)
		}
		x.Bind(c)
	}
	p := newPeer(false)
	p.frame(frameGoAway, 0, 0, u32(3)+u32(0))
	p.frame(frameHeaders, 5, 1, p.fields(":status", "200")).frame(frameReset, 0, 3, u32(uint32(codeRefused)))
	w.Feed(c, p.Bytes(), 1)
	if len(rs[0].why) != 0 || len(rs[1].why) != 1 || len(rs[2].why) != 1 {
		t.Fatalf("rejected: %+v", rs)
	}
	if !rs[1].why[0].Unprocessed || !rs[2].why[0].Unprocessed {
		t.Errorf("not known as unprocessed: %+v", rs)
	}
	if c.CanSend() || draining != 1 || !w.Ended {
		t.Errorf("can send %v, draining %d, closed %v", c.CanSend(), draining, w.Ended)
	}
}

func TestDrain(t *testing.T) {
	s, w, all := held(t, ServerConfig{})
	p := newPeer(true)
	w.Feed(s, p.get(1).Bytes(), 1<<20)
	taken(t, w)
	s.Drain()
	if got := taken(t, w); !strings.HasPrefix(got, fmt.Sprintf("GOAWAY %d 0\nPING flags=0 drain", maxWindow)) {
		t.Fatalf("drain said %q", got)
	}
	p.Reset()
	p.get(3).frame(framePing, flagAck, 0, string(pingDrain[:])) // a request that crossed, then the answer
	w.Feed(s, p.Bytes(), 1<<20)
	if got := taken(t, w); got != "GOAWAY 3 0" || len(*all) != 2 {
		t.Fatalf("at last call: %q, %d requests", got, len(*all))
	}
	for i, x := range *all {
		if w.Ended {
			t.Fatalf("closed before request %d was answered", i)
		}
		x.Bind(&counter{})
		x.ResponseHead(&exchange.Head{Status: 204, Length: -1}, true)
	}
	if !w.Ended {
		t.Error("not closed behind the last response")
	}
}

func TestKeepAlive(t *testing.T) {
	w := &wiretest.Wire{}
	var closed exchange.Reason
	c := NewClient(w, ClientConfig{Ping: 10 * time.Second})
	w.Feed(c, newPeer(false).Bytes(), 1<<20)
	x := &exchange.Exchange{Down: &wiretest.Sink{}, Observer: &doneWatcher{&closed}}
	if err := c.Send(x, &exchange.Head{Method: "GET", Path: "/", Length: -1}, true); err != nil {
		t.Fatal(err)
	}
	x.Bind(c)
	w.Sched.Advance(10 * time.Second) // something was heard
	w.Out = nil
	w.Sched.Advance(10 * time.Second)
	if got := taken(t, w); !strings.HasPrefix(got, "PING flags=0 alive") {
		t.Fatalf("after silence: %q", got)
	}
	w.Feed(c, newPeer(false).frame(framePing, flagAck, 0, string(pingAlive[:])).Bytes(), 1<<20)
	w.Sched.Advance(10 * time.Second)
	w.Sched.Advance(10 * time.Second)
	if w.Aborted {
		t.Fatal("given up although there was an answer")
	}
	w.Sched.Advance(10 * time.Second)
	if !w.Aborted || closed.Code != exchange.CodeTimeout {
		t.Errorf("aborted %v, reason %+v", w.Aborted, closed)
	}
}

// TestKeepAliveOfServers: a client that has vanished takes its requests with it, one that answers does not.
func TestKeepAliveOfServers(t *testing.T) {
	const every = 10 * time.Second
	s, w, all := held(t, ServerConfig{Private: true, Ping: every})
	w.Feed(s, newPeer(true).get(1).Bytes(), 1<<20)
	var why exchange.Reason
	(*all)[0].Observer = &doneWatcher{&why}
	answer := appendFrameHeader(nil, 8, framePing, flagAck, 0)
	answer = append(answer, pingAlive[:]...)
	w.Sched.Advance(every) // something was heard
	for range 5 {
		w.Out = nil
		w.Sched.Advance(every)
		if got := taken(t, w); !strings.HasPrefix(got, "PING flags=0 alive") {
			t.Fatalf("after silence: %q", got)
		}
		w.Feed(s, answer, 1<<20)
		w.Sched.Advance(every)
	}
	w.Sched.Advance(every)
	if w.Aborted || why.Code != exchange.CodeNone {
		t.Fatalf("given up although there was an answer: %+v", why)
	}
	w.Sched.Advance(every)
	if !w.Aborted || why.Code != exchange.CodeTimeout || s.Streams() != 0 {
		t.Errorf("aborted %v, reason %+v, %d streams", w.Aborted, why, s.Streams())
	}
}

type doneWatcher struct{ why *exchange.Reason }

func (d *doneWatcher) ResponseHead(*exchange.Exchange, *exchange.Head)       {}
func (d *doneWatcher) ResponseTrailers(*exchange.Exchange, []exchange.Field) {}
func (d *doneWatcher) Done(_ *exchange.Exchange, why exchange.Reason)        { *d.why = why }

// TestDataThatCrossesAReset: what was on its way when a stream was reset is no flood, however much it is; frames that cost nothing are.
func TestDataThatCrossesAReset(t *testing.T) {
	s, w, all := held(t, ServerConfig{Limits: exchange.Limits{Controls: 50}})
	p := newPeer(true)
	w.Feed(s, p.post(1).Bytes(), 1<<20)
	s.Reset((*all)[0], exchange.Reason{Code: exchange.CodeCancel})
	p.Reset()
	for range 100 {
		p.frame(frameData, 0, 1, strings.Repeat("x", 1000))
	}
	w.Feed(s, p.Bytes(), 1<<20)
	if got := taken(t, w); !strings.Contains(got, "RST 1 8") || strings.Contains(got, "GOAWAY") {
		t.Fatalf("DATA behind our reset: %q", got)
	}
	p.Reset()
	for range 100 {
		p.frame(frameData, 0, 1, "")
	}
	w.Feed(s, p.Bytes(), 1<<20)
	if got := taken(t, w); !strings.Contains(got, "GOAWAY 1 11") {
		t.Errorf("empty DATA behind our reset: %q", got)
	}
}
