package node

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"fairlead.io/fairlead/internal/l7"
	"fairlead.io/fairlead/internal/mesh"
)

func TestRates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.apply(shop())
		tb := newTables(newClusters("n1"), w, discard)
		r := newRates(w, tb)
		served := &l7.Pod{UID: "front", Addrs: []netip.Addr{netip.MustParseAddr("10.244.1.1")}}
		stranger := &l7.Pod{UID: "stranger", Addrs: []netip.Addr{netip.MustParseAddr("10.244.9.9")}}
		if r.Rate(served, 8080, shopSvc, 80) != nil || !w.has(shopSvc) {
			t.Fatal("a service without a policy has a rate, or nobody asks for its policy")
		}
		say := func(l *mesh.Limit) {
			w.apply(mesh.Delta{Routes: []*mesh.Routes{{Service: shopSvc, Ports: []mesh.PortRoutes{{Port: 80, Policy: &mesh.Traffic{Limit: l}}}}}})
			tb.update(w.Snapshot())
		}
		say(&mesh.Limit{Total: mesh.Rate{PerSecond: 1, Burst: 2}})
		l := r.Rate(served, 8080, shopSvc, 80)
		if l == nil || l != r.Rate(served, 8080, shopSvc, 80) {
			t.Fatal("no limiter, or another each time")
		}
		for i := range 3 {
			if wait := l.Take("", time.Now()); (wait == 0) != (i < 2) {
				t.Errorf("request %d of those that come at once waits %v", i, wait)
			}
		}
		if r.Rate(served, 8080, shopSvc, 81) != nil || r.Rate(stranger, 8080, shopSvc, 80) != nil || r.Rate(served, 8080, dbSvc, 80) != nil {
			t.Error("another port, a pod that is no endpoint, a service that there is not")
		}
		say(&mesh.Limit{Total: mesh.Rate{PerSecond: 1, Burst: 3}})
		if l = r.Rate(served, 8080, shopSvc, 80); l.Take("", time.Now()) != 0 || l.Take("", time.Now()) == 0 {
			t.Error("one more at once, but what was used stays used")
		}
		say(nil)
		if r.Rate(served, 8080, shopSvc, 80) != nil {
			t.Error("a policy that has gone")
		}
		time.Sleep(ratesIdle + time.Second) // synctest: no real time
		r.expire()
		if tb.update(w.Snapshot()); w.has(shopSvc) || len(r.m) != 0 {
			t.Error("what nobody asks for is kept")
		}
	})
}
