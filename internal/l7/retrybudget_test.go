package l7

import (
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/mesh"
)

func TestRetryBudget(t *testing.T) {
	now := time.Unix(1000, 0)
	b := &retryBudget{}
	spend := func(share, floor float64) (n int) {
		for n < 1000 && b.take(now, share, floor) {
			n++
		}
		return n
	}
	if n := spend(0.2, 0); n != 0 {
		t.Errorf("%d retries of no request", n)
	}
	for range 100 {
		b.request(now)
	}
	if n := spend(0.2, 0); n != 20 {
		t.Errorf("%d retries of 100 requests, want 20", n)
	}
	if n := spend(0.2, 5); n != 5 {
		t.Errorf("%d retries beside, want 5", n)
	}
	now = now.Add(time.Second)
	if n := spend(0.2, 5); n != 5 {
		t.Errorf("%d retries a second later, want 5", n)
	}
	now = now.Add(budgetSeconds * time.Second)
	if n := spend(0.2, 0); n != 0 {
		t.Errorf("%d retries of requests that were long ago", n)
	}
}

// TestRetryStorm: with every endpoint failing, the app sees no more than the budget allows.
func TestRetryStorm(t *testing.T) {
	const requests, floor = 400, 10
	for _, s := range settings {
		t.Run(s.String(), func(t *testing.T) {
			var asked atomic.Int64
			app := counted(&asked, func(_ int64, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) })
			row := httpRow(mesh.Rule{Title: "/", Backends: to("svc"), Policy: &mesh.Traffic{Retry: &mesh.Retry{
				Statuses: []mesh.StatusRange{{First: 503, Last: 503}}, Limit: 5, Ratio: 0.2, Floor: floor}}})
			r := newRouted(t, s.inMesh, mesh.HTTP1, row, nil, map[string]net.Listener{"svc": newWorld(t).httpApp(app)})
			began := time.Now()
			var group sync.WaitGroup
			for range 8 {
				c := r.client(s.h2)
				group.Go(func() {
					for range requests / 8 {
						if resp, err := c.Get("http://svc.test/"); err != nil {
							t.Error(err)
						} else {
							resp.Body.Close()
						}
					}
				})
			}
			group.Wait()
			seconds := time.Since(began).Seconds()
			if most := requests*1.2 + floor*(1+seconds); float64(asked.Load()) > most || asked.Load() < requests*11/10 {
				t.Errorf("%d requests have made %d, want at most %.0f", requests, asked.Load(), most)
			}
			if r.rec.count(EventRetryBudget) == 0 {
				t.Error("nobody was told that the budget is spent")
			}
		})
	}
}
