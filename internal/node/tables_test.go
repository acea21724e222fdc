package node

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"fairlead.io/fairlead/internal/l7"
	"fairlead.io/fairlead/internal/l7/routing"
	"fairlead.io/fairlead/internal/mesh"
)

var (
	shopSvc, v1Svc, v2Svc = mesh.Name{Namespace: "shop", Name: "front"}, mesh.Name{Namespace: "shop", Name: "v1"}, mesh.Name{Namespace: "shop", Name: "v2"}
	shopPod               = &l7.Pod{UID: "web", Name: mesh.Name{Namespace: "shop", Name: "web-1"}}
	otherPod              = &l7.Pod{UID: "other", Name: mesh.Name{Namespace: "other", Name: "web-1"}}
)

// shop is a service and two versions of it, with the endpoints of the first two.
func shop() mesh.Delta {
	service := func(n mesh.Name, addr netip.Addr) *mesh.Service {
		return &mesh.Service{Name: n, Addrs: []netip.Addr{addr}, Ports: []mesh.Port{{Name: "http", Number: 80}}}
	}
	return mesh.Delta{
		Services:  []*mesh.Service{service(shopSvc, vip), service(v1Svc, netip.MustParseAddr("10.96.0.11")), service(v2Svc, netip.MustParseAddr("10.96.0.12"))},
		Endpoints: []*mesh.Endpoints{shopEndpoints(shopSvc, "10.244.1.1"), shopEndpoints(v1Svc, "10.244.1.2")},
	}
}

func shopEndpoints(n mesh.Name, addr string) *mesh.Endpoints {
	return &mesh.Endpoints{Service: n, Ports: []mesh.PortEndpoints{{Port: "http", Endpoints: []mesh.Endpoint{{Addr: netip.AddrPortFrom(netip.MustParseAddr(addr), 8080), Ready: true}}}}}
}

func canaryRule(v1, v2 uint32) mesh.Rule {
	return mesh.Rule{Kind: mesh.HTTPRoute, Route: mesh.Name{Namespace: "shop", Name: "canary"}, Title: "split", Backends: []mesh.Backend{
		{Service: v1Svc, Port: 80, Weight: v1}, {Service: v2Svc, Port: 80, Weight: v2}}}
}

func shopRoutes(rules ...mesh.Rule) *mesh.Routes {
	p := mesh.PortRoutes{Port: 80, Kind: mesh.HTTPRoute, Rules: rules}
	for i := range rules {
		p.Order = append(p.Order, mesh.RuleMatch{Rule: i})
	}
	return &mesh.Routes{Service: shopSvc, Ports: []mesh.PortRoutes{p}}
}

func only(b mesh.Rule, n int) mesh.Rule {
	b.Backends = b.Backends[n : n+1]
	return b
}

func (w *fakeWorld) has(n mesh.Name) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Contains(w.subs, n)
}

// outbound is what the shop's service is for a pod.
func outbound(t *testing.T, b *brain, p *l7.Pod) *l7.Destination {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	d, err := b.Outbound(ctx, p, netip.AddrPortFrom(vip, 80))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// backends are the services that the first rule of a table leads to.
func leadsTo(t *routing.Table) (names []string) {
	if t == nil {
		return nil
	}
	for _, b := range t.Rules[0].Backends {
		names = append(names, b.Service.Name)
	}
	return names
}

func TestRulesWaitForTheirBackends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.apply(shop())
		b := testBrain(w)
		d := outbound(t, b, shopPod)
		if d.Routes == nil || d.Routes.Table() != nil || d.Port.Protocol != mesh.Unknown {
			t.Fatalf("without routes: %+v", d)
		}
		w.apply(mesh.Delta{Routes: []*mesh.Routes{shopRoutes(only(canaryRule(1, 0), 0))}})
		if again := b.tables.update(w.Snapshot()); again != 0 || !slices.Equal(leadsTo(d.Routes.Table()), []string{"v1"}) {
			t.Fatalf("a backend that is known: %v, %v", again, leadsTo(d.Routes.Table()))
		}
		if b.Moved(d) {
			t.Error("a connection must not end for new routes")
		}
		w.apply(mesh.Delta{Routes: []*mesh.Routes{shopRoutes(canaryRule(90, 10))}})
		if again := b.tables.update(w.Snapshot()); again != backendsWait || len(leadsTo(d.Routes.Table())) != 1 || !w.has(v2Svc) {
			t.Fatalf("a new backend: %v, %v", again, leadsTo(d.Routes.Table()))
		}
		w.apply(mesh.Delta{Endpoints: []*mesh.Endpoints{shopEndpoints(v2Svc, "10.244.1.3")}})
		if again := b.tables.update(w.Snapshot()); again != 0 || len(leadsTo(d.Routes.Table())) != 2 {
			t.Fatalf("when it is known: %v, %v", again, leadsTo(d.Routes.Table()))
		}
		w.apply(mesh.Delta{Routes: []*mesh.Routes{shopRoutes(only(canaryRule(1, 1), 1))}})
		if b.tables.update(w.Snapshot()); !slices.Equal(leadsTo(d.Routes.Table()), []string{"v2"}) || w.has(v1Svc) {
			t.Fatalf("v1 is none any more: %v, subscribed %v", leadsTo(d.Routes.Table()), w.has(v1Svc))
		}
		w.apply(mesh.Delta{GoneRoutes: []mesh.Name{shopSvc}})
		if b.tables.update(w.Snapshot()); d.Routes.Table() != nil || w.has(v2Svc) || !w.has(shopSvc) {
			t.Fatal("routes that have gone")
		}
	})
}

// TestBackendsThatDoNotCome: a rule is used without them when the wait is over.
func TestBackendsThatDoNotCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.apply(shop())
		b := testBrain(w)
		d := outbound(t, b, shopPod)
		w.apply(mesh.Delta{Routes: []*mesh.Routes{shopRoutes(canaryRule(90, 10))}})
		b.tables.update(w.Snapshot())
		time.Sleep(backendsWait) // synctest: no real time
		if again := b.tables.update(w.Snapshot()); again != 0 || len(leadsTo(d.Routes.Table())) != 2 {
			t.Fatalf("%v, %v", again, leadsTo(d.Routes.Table()))
		}
		b2, began := testBrain(w), time.Now()
		if d := outbound(t, b2, shopPod); len(leadsTo(d.Routes.Table())) != 2 || time.Since(began) != backendsWait || d.Port.Protocol != mesh.HTTP1 {
			t.Fatalf("first use: %v after %v, %+v", leadsTo(d.Routes.Table()), time.Since(began), d.Port)
		}
	})
}

func TestConsumersHaveTheirOwnRules(t *testing.T) {
	w := newWorld()
	w.apply(shop())
	all, own := shopRoutes(only(canaryRule(1, 0), 0)), shopRoutes(only(canaryRule(0, 1), 1))
	own.Ports[0].Consumer = "shop"
	all.Ports = append(all.Ports, own.Ports[0])
	w.apply(mesh.Delta{Routes: []*mesh.Routes{all}, Endpoints: []*mesh.Endpoints{shopEndpoints(v2Svc, "10.244.1.3")}})
	b := testBrain(w)
	for pod, want := range map[*l7.Pod]string{shopPod: "v2", otherPod: "v1"} {
		if got := leadsTo(outbound(t, b, pod).Routes.Table()); !slices.Equal(got, []string{want}) {
			t.Errorf("%s: %v, want %s", pod.Name, got, want)
		}
	}
}

func TestDeclaredProtocol(t *testing.T) {
	policy := &mesh.Traffic{Protocol: mesh.TCP}
	for _, test := range []struct {
		port mesh.Protocol
		row  *mesh.PortRoutes
		want mesh.Protocol
	}{
		{mesh.Unknown, nil, mesh.Unknown},
		{mesh.Unknown, &mesh.PortRoutes{}, mesh.Unknown},
		{mesh.Unknown, &mesh.PortRoutes{Kind: mesh.HTTPRoute}, mesh.HTTP1},
		{mesh.HTTP2, &mesh.PortRoutes{Kind: mesh.HTTPRoute}, mesh.HTTP2},
		{mesh.Unknown, &mesh.PortRoutes{Kind: mesh.GRPCRoute}, mesh.HTTP2},
		{mesh.HTTP1, &mesh.PortRoutes{Kind: mesh.TCPRoute}, mesh.TCP},
		{mesh.HTTP1, &mesh.PortRoutes{Kind: mesh.TLSRoute}, mesh.TCP},
		{mesh.TCP, &mesh.PortRoutes{Kind: mesh.HTTPRoute}, mesh.TCP},
		{mesh.HTTP1, &mesh.PortRoutes{Kind: mesh.HTTPRoute, Policy: policy}, mesh.TCP},
	} {
		if got := declared(mesh.Port{Protocol: test.port}, test.row); got != test.want {
			t.Errorf("%v, %+v: %v, want %v", test.port, test.row, got, test.want)
		}
	}
}

// TestRulesChooseEndpointsTheirWay: a rule's policy has a cluster of its own where it says something else than the service's.
func TestRulesChooseEndpointsTheirWay(t *testing.T) {
	w := newWorld()
	w.apply(shop())
	own, other := canaryRule(1, 0), canaryRule(1, 0)
	own.Policy = &mesh.Traffic{Breaker: &mesh.Breaker{Consecutive: 3}}
	other.Policy = &mesh.Traffic{Breaker: &mesh.Breaker{Consecutive: 5}}
	front := shopRoutes(only(own, 0), only(other, 0), only(canaryRule(1, 0), 0))
	v1 := &mesh.Routes{Service: v1Svc, Ports: []mesh.PortRoutes{{Port: 80, Policy: &mesh.Traffic{Breaker: &mesh.Breaker{Consecutive: 3}}}}}
	w.apply(mesh.Delta{Routes: []*mesh.Routes{front, v1}})
	b := testBrain(w)
	rules := outbound(t, b, shopPod).Routes.Table().Rules
	same, differs, none := rules[0].Backends[0].Cluster, rules[1].Backends[0].Cluster, rules[2].Backends[0].Cluster
	if same != none || differs == none || len(differs.Endpoints()) != 1 {
		t.Error("a cluster for each of two manners is wanted")
	}
	w.apply(mesh.Delta{Routes: []*mesh.Routes{shopRoutes(only(canaryRule(1, 0), 0))}})
	before := len(b.clusters.m)
	if b.tables.update(w.Snapshot()); len(b.clusters.m) != before-1 {
		t.Errorf("%d clusters of %d are left, want one less", len(b.clusters.m), before)
	}
}
