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

// TestRetryBudgets: rules have a budget each, and keep it; a policy that says something else begins anew.
func TestRetryBudgets(t *testing.T) {
	var all retryBudgets
	now := time.Unix(1000, 0)
	p := &mesh.Retry{Floor: 2}
	spend := func(key budgetKey) (n int) {
		for n < 100 && all.of(key, p, now).Retry(now) {
			n++
		}
		return n
	}
	key := budgetKey{index: 1, floor: 2}
	if n := spend(key); n != 2 {
		t.Errorf("%d retries, want 2", n)
	}
	if n := spend(key); n != 0 {
		t.Errorf("%d retries when all is spent", n)
	}
	key.index = 2
	if n := spend(key); n != 2 {
		t.Errorf("%d retries of another rule, want 2", n)
	}
	for i := range 2 * maxBudgets {
		all.of(budgetKey{index: i}, p, now)
	}
	if len(all.m) > maxBudgets {
		t.Errorf("%d budgets are kept", len(all.m))
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
