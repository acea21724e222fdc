package h1

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/l7/exchange"
	"fairlead.io/fairlead/internal/l7/exchange/wiretest"
)

// TestDrainWithinARequestLine: a client that has begun its request when its connection is to end has it served.
func TestDrainWithinARequestLine(t *testing.T) {
	s, w, all := waiting(exchange.Limits{})
	s.Drain()
	w.Feed(s, []byte("GET / HT"), 1<<20)
	w.Sched.Advance(6 * time.Second)
	if w.Over() || w.HalfClosed {
		t.Fatal("closed in the middle of a request line")
	}
	w.Feed(s, []byte("TP/1.1\r\nHost: a\r\n\r\n"), 1<<20)
	if len(*all) != 1 {
		t.Fatalf("%d requests", len(*all))
	}
	(*all)[0].Bind(&wiretest.Sink{})
	(*all)[0].ResponseHead(&exchange.Head{Status: 204, Length: -1}, true)
	if !strings.Contains(string(w.Out), "204 No Content\r\nConnection: close") || !w.HalfClosed {
		t.Errorf("answered %q, half-closed %v", w.Out, w.HalfClosed)
	}
}

// TestExpectedBodyThatNobodyWaitsFor: a client that was answered before it was told to continue may send the body or not. What
// comes behind is not taken for a request.
func TestExpectedBodyThatNobodyWaitsFor(t *testing.T) {
	for _, status := range []int{200, 417} {
		s, w, all := waiting(exchange.Limits{})
		w.Feed(s, []byte("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 34\r\nExpect: 100-continue\r\n\r\n"), 1<<20)
		(*all)[0].Bind(&wiretest.Sink{})
		(*all)[0].ResponseHead(&exchange.Head{Status: status, Length: -1}, true)
		if !strings.Contains(string(w.Out), "Connection: close\r\n") || !w.HalfClosed {
			t.Errorf("%d: answered %q, half-closed %v", status, w.Out, w.HalfClosed)
		}
		w.Feed(s, []byte("GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"), 1<<20)
		if len(*all) != 1 {
			t.Errorf("%d: %d requests", status, len(*all))
		}
	}
}

// TestOptionsAreBounded: each name in Connection costs a look at each field.
func TestOptionsAreBounded(t *testing.T) {
	head := func(options string) []byte {
		return []byte("GET / HTTP/1.1\r\nHost: a\r\nConnection: " + options + "\r\nx1: 1\r\ny: 2\r\n\r\n")
	}
	names := func(n int) string {
		var all []string
		for i := range n {
			all = append(all, fmt.Sprint("x", i))
		}
		return strings.Join(all, ", ")
	}
	for _, tt := range []struct {
		options string
		want    error
	}{
		{names(maxOptions), nil},
		{names(maxOptions + 1), errOptions},
		{strings.Repeat("x1,", 10000), nil}, // one name
		{strings.Repeat("close, keep-alive,", 1000), nil},
	} {
		var r request
		if err := r.parse(head(tt.options), nil); err != tt.want {
			t.Errorf("%.40s...: %v, want %v", tt.options, err, tt.want)
		} else if _, there := exchange.Get(r.head.Fields, "x1"); err == nil && there != !strings.Contains(tt.options, "x1") {
			t.Errorf("%.40s...: fields %v", tt.options, r.head.Fields)
		}
	}
}
