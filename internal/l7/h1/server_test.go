package h1

import (
	"strings"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/l7/exchange"
	"fairlead.io/fairlead/internal/l7/exchange/wiretest"
)

// waiting is a server whose requests wait for the test.
func waiting(lim exchange.Limits) (*Server, *wiretest.Wire, *[]*exchange.Exchange) {
	w := &wiretest.Wire{}
	var all []*exchange.Exchange
	s := NewServer(w, ServerConfig{Limits: lim, Request: func(x *exchange.Exchange, _ *exchange.Head, _ bool) { all = append(all, x) }})
	return s, w, &all
}

// TestFail answers before the body is there: a short rest is dropped and the connection goes on, a long one ends it.
func TestFail(t *testing.T) {
	s, w, all := waiting(exchange.Limits{Drain: 1000})
	w.Feed(s, []byte("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\n"), 1<<20)
	(*all)[0].Fail(503, 14, "overload", "no endpoint")
	want := "HTTP/1.1 503 Service Unavailable\r\nX-Fairlead-Error: overload\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 12\r\n\r\nno endpoint\n"
	if string(w.Out) != want {
		t.Fatalf("answered %q", w.Out)
	}
	w.Feed(s, []byte(strings.Repeat("x", 500)+"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n"), 1<<20)
	if len(*all) != 2 {
		t.Fatal("the next request was not read")
	}
	w.Sched.Advance(time.Minute) // no timer of the first may fire
	if w.Over() {
		t.Fatal("the connection ended")
	}
	(*all)[1].Fail(503, 14, "overload", "no endpoint")
	w.Feed(s, []byte(strings.Repeat("x", 4000)), 100)
	if !w.HalfClosed {
		t.Fatal("a long rest is still being read")
	}
	w.Sched.Advance(time.Minute)
	if !w.Ended {
		t.Error("not closed after the linger")
	}
}

func TestBodyWaitsForUpstream(t *testing.T) {
	s, w, all := waiting(exchange.Limits{Body: 1000})
	body := strings.Repeat("x", 3000)
	w.Feed(s, []byte("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3000\r\n\r\n"+body), 100)
	if !w.Paused || len(*all) != 1 {
		t.Fatalf("paused %v, %d requests", w.Paused, len(*all))
	}
	x, up := (*all)[0], &wiretest.Sink{}
	x.Bind(up)
	if w.Paused {
		t.Fatal("still paused after Bind")
	}
	w.Again(s)
	if got := up.Log.Len(); got == 0 || !w.Paused && got < 3000 {
		t.Fatalf("%d bytes passed, paused %v", got, w.Paused)
	}
	for range 100 {
		s.Consumed(x, 1000)
		w.Again(s)
	}
	if !x.RequestDone() {
		t.Errorf("only %d bytes passed", up.Log.Len())
	}
}

func TestSlowHead(t *testing.T) {
	s, w, _ := waiting(exchange.Limits{})
	w.Feed(s, []byte("GET / HT"), 1)
	w.Sched.Advance(29 * time.Second)
	if w.Over() {
		t.Fatal("ended early")
	}
	w.Sched.Advance(2 * time.Second)
	if !strings.HasPrefix(string(w.Out), "HTTP/1.1 408 ") || !w.HalfClosed {
		t.Errorf("answered %q", w.Out)
	}
}

func TestServerDrain(t *testing.T) {
	s, w, all := waiting(exchange.Limits{})
	w.Feed(s, []byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), 1<<20)
	s.Drain()
	if w.Over() {
		t.Fatal("ended before the response")
	}
	(*all)[0].Bind(&wiretest.Sink{})
	(*all)[0].ResponseHead(&exchange.Head{Status: 204, Length: -1}, true)
	if want := "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"; string(w.Out) != want || !w.HalfClosed {
		t.Errorf("answered %q, half-closed %v", w.Out, w.HalfClosed)
	}
}

// TestDrainOfAnIdleClient: a request that is on its way when the connection is drained is answered; only a client that
// stays silent is hung up on.
func TestDrainOfAnIdleClient(t *testing.T) {
	s, w, all := waiting(exchange.Limits{})
	s.Drain() // nothing has come yet
	w.Sched.Advance(4 * time.Second)
	if w.Over() || w.HalfClosed {
		t.Fatal("closed before the client could be heard")
	}
	w.Feed(s, []byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), 1<<20)
	w.Sched.Advance(10 * time.Second) // the app may take its time
	if len(*all) != 1 || w.HalfClosed {
		t.Fatalf("%d requests, half-closed %v", len(*all), w.HalfClosed)
	}
	(*all)[0].Bind(&wiretest.Sink{})
	(*all)[0].ResponseHead(&exchange.Head{Status: 204, Length: -1}, true)
	if want := "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"; string(w.Out) != want || !w.HalfClosed {
		t.Errorf("answered %q, half-closed %v", w.Out, w.HalfClosed)
	}

	s, w, _ = waiting(exchange.Limits{})
	s.Drain()
	w.Sched.Advance(6 * time.Second)
	if !w.HalfClosed || len(w.Out) > 0 {
		t.Errorf("a silent client: half-closed %v, told %q", w.HalfClosed, w.Out)
	}
}

// TestFullTransport has a client that pipelines and does not read: its next request waits.
func TestFullTransport(t *testing.T) {
	s, w, all := waiting(exchange.Limits{})
	w.Full = exchange.HighWater + 1
	w.Feed(s, []byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), 1<<20)
	if len(*all) != 0 || !w.Paused {
		t.Fatalf("%d requests, paused %v", len(*all), w.Paused)
	}
	w.Full = 0
	s.Writable()
	w.Again(s)
	if len(*all) != 1 {
		t.Error("the request was not read")
	}
}
