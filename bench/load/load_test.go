package load

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

// A server that stands still for 200 ms: of the requests that were to be sent meanwhile, each has waited for the rest of it.
func TestPaceCountsTheWaiting(t *testing.T) {
	var served atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "a.host" || r.Header.Get("X-Lab") != "yes" {
			w.WriteHeader(http.StatusBadRequest)
		}
		if served.Add(1) == 50 {
			time.Sleep(200 * time.Millisecond) // it is what is measured
		}
	}))
	defer server.Close()
	p := Pace{Addr: server.Listener.Addr().String(), Host: "a.host", Path: "/", Fields: []string{"x-lab: yes"}, Connections: 1, Rate: 500, Requests: 300, Warm: 20}
	got, err := p.Run(t.Context())
	if err != nil || got.Requests != 280 || served.Load() != 300 {
		t.Fatalf("%+v, %v, served %d", got, err, served.Load())
	}
	// 100 of 280 had their time while it stood still.
	if got.P90 < 80_000 || got.Max < 190_000 {
		t.Errorf("the waiting is not counted: %+v", got)
	}
}

func TestPaceFails(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	p := Pace{Addr: server.Listener.Addr().String(), Host: "a", Path: "/", Connections: 2, Rate: 1000, Requests: 100000}
	if got, err := p.Run(t.Context()); err == nil {
		t.Errorf("404 is no success: %+v", got)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	stuck, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer stuck.Close()
	p.Addr = stuck.Addr().String()
	if got, err := p.Run(ctx); err == nil {
		t.Errorf("nobody answered: %+v", got)
	}
}

func TestSummary(t *testing.T) {
	var took []time.Duration
	for i := 2000; i > 0; i-- {
		took = append(took, time.Duration(i)*time.Microsecond)
	}
	if got, want := summary(took), (Latencies{Requests: 2000, P50: 1001, P90: 1801, P99: 1981, P999: 1999, Max: 2000}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestFetch(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- ServeBulk(l) }()
	if err := Fetch(t.Context(), l.Addr().String(), 3, 3<<20+1); err != nil {
		t.Error(err)
	}
	l.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
	if err := Fetch(t.Context(), l.Addr().String(), 1, 1); err == nil {
		t.Error("fetched from nobody")
	}
}

func TestHold(t *testing.T) {
	var open atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		switch s {
		case http.StateNew:
			open.Add(1)
		case http.StateClosed:
			open.Add(-1)
		}
	}
	server.Start()
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	held := int64(-1)
	err := Hold(ctx, Pace{Addr: server.Listener.Addr().String(), Host: "a", Path: "/", Connections: 20}, func() {
		held = open.Load()
		cancel()
	})
	if err != nil || held != 20 {
		t.Errorf("%d held, %v", held, err)
	}
}

func TestDial(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	var accepted atomic.Int64
	go func() { served <- ServeBulk(counted{l, &accepted}) }()
	began := time.Now()
	if err := Dial(t.Context(), l.Addr().String(), 200, 21, 1000); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took < 100*time.Millisecond || accepted.Load() != 21 {
		t.Errorf("%d connections in %v", accepted.Load(), took)
	}
	l.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
	if err := Dial(t.Context(), l.Addr().String(), 200, 2, 1); err == nil {
		t.Error("nobody was dialled")
	}
}

type counted struct {
	net.Listener
	accepted *atomic.Int64
}

func (c counted) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil {
		c.accepted.Add(1)
	}
	return conn, err
}
