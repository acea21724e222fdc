package l7

import (
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/l7/balance"
	"fairlead.io/fairlead/internal/mesh"
)

// TestBreaker: answers that are failures open it, those that were declined for a retry among them.
func TestBreaker(t *testing.T) {
	for _, s := range settings {
		t.Run(s.String(), func(t *testing.T) {
			var n atomic.Int64
			app := counted(&n, func(_ int64, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) })
			r := newRouted(t, s.inMesh, mesh.HTTP1, retried(mesh.Retry{Statuses: []mesh.StatusRange{{First: 503, Last: 503}}, Limit: 1}), nil, map[string]net.Listener{"svc": newWorld(t).httpApp(app)})
			r.dst.Cluster.SetPolicy(balance.Policy{Breaker: &mesh.Breaker{Consecutive: 3, Min: time.Minute, Max: time.Minute}})
			c := r.client(s.h2)
			for range 5 {
				if got := r.get(c, "/"); got.status != 503 {
					t.Errorf("%+v", got)
				}
			}
			if n.Load() != 3 {
				t.Errorf("the app was asked %d times, want 3", n.Load())
			}
			r.rec.event(t, EventBroken, 3)
		})
	}
}
