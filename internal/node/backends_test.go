package node

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"fairlead.io/fairlead/internal/l7/balance"
	"fairlead.io/fairlead/internal/mesh"
)

// twoBackends is a service with an endpoint at dbIP and one beside it, in a world of which all endpoints are known.
func twoBackends(more ...*mesh.Endpoints) mesh.Delta {
	d := dbService()
	d.Reset, d.AllEndpoints = true, true
	second := netip.AddrPortFrom(dbIP.Next(), 3306)
	d.Endpoints = append(dbEndpoints(mesh.Endpoint{Addr: netip.AddrPortFrom(dbIP, 3306), Ready: true}, mesh.Endpoint{Addr: second, Ready: true}).Endpoints, more...)
	return d
}

func mapping(mode MapBackends) *backends {
	return newBackends(mode, prometheus.NewPedanticRegistry(), slog.New(slog.DiscardHandler))
}

func TestEndpointsAddressesStandForTheirService(t *testing.T) {
	at := netip.AddrPortFrom(dbIP, 3306)
	partial := twoBackends()
	partial.AllEndpoints = false
	other := mesh.Name{Namespace: "data", Name: "other"}
	shared := twoBackends(&mesh.Endpoints{Service: other, Ports: []mesh.PortEndpoints{{Port: "sql", Endpoints: []mesh.Endpoint{{Addr: at}}}}})
	shared.Services = append(shared.Services, &mesh.Service{Name: other, Addrs: []netip.Addr{vip.Next()}, Ports: []mesh.Port{{Name: "sql", Number: 1}}})
	headless := twoBackends(shared.Endpoints[1])
	headless.Services = append(headless.Services, &mesh.Service{Name: other, Headless: true})
	for name, tc := range map[string]struct {
		mode   MapBackends
		others []string
		world  mesh.Delta
		dst    netip.AddrPort
		mapped bool
	}{
		"off":                         {MapOff, []string{"cil_sock4_connect"}, twoBackends(), at, false},
		"nobody else":                 {MapAuto, nil, twoBackends(), at, false},
		"somebody else":               {MapAuto, []string{"cil_sock4_connect"}, twoBackends(), at, true},
		"on":                          {MapOn, nil, twoBackends(), at, true},
		"on, but not all is known":    {MapOn, nil, partial, at, false},
		"on, another port of the pod": {MapOn, nil, twoBackends(), netip.AddrPortFrom(dbIP, 9100), false},
		"on, of two services":         {MapOn, nil, shared, at, false},
		"on, of a headless one too":   {MapOn, nil, headless, at, false},
		"on, nobody's address":        {MapOn, nil, twoBackends(), netip.MustParseAddrPort("203.0.113.1:3306"), false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			w.apply(tc.world)
			b := testBrain(w)
			b.backends = mapping(tc.mode)
			b.backends.told(tc.others)
			d, err := b.Outbound(t.Context(), webPod, tc.dst)
			if err != nil {
				t.Fatal(err)
			}
			if d.Mapped != tc.mapped || d.Addr != tc.dst || b.Moved(d) {
				t.Errorf("%+v, moved %v", d, b.Moved(d))
			}
			if !tc.mapped {
				if d.Endpoint == nil || d.Endpoint.Addr != tc.dst || d.Service != (mesh.Name{}) || d.Cluster != nil {
					t.Errorf("not dialled as it is: %+v", d)
				}
				return
			}
			if d.Service != dbSvc || d.Port.Number != 3306 || d.Port.Protocol != mesh.TCP || !slices.Contains(w.subs, dbSvc) {
				t.Errorf("%+v, subscribed to %v", d, w.subs)
			}
			got := map[netip.AddrPort]bool{}
			for range 100 {
				e, err := d.Cluster.Pick(balance.Choice{})
				if err != nil {
					t.Fatal(err)
				}
				e.Start()
				got[e.Addr] = true
			}
			if len(got) != 2 {
				t.Errorf("balanced over %v", got)
			}
			// It is the Service's own cluster, by whichever address it was dialled.
			direct, err := b.Outbound(t.Context(), webPod, netip.AddrPortFrom(vip, 3306))
			if err != nil || direct.Mapped || direct.Cluster != d.Cluster {
				t.Errorf("by the service's own address: %+v, %v", direct, err)
			}
		})
	}
}

func TestMappedDestinationsMove(t *testing.T) {
	at := netip.AddrPortFrom(dbIP, 3306)
	renumbered := twoBackends()
	renumbered.Services[0].Ports = []mesh.Port{{Name: "sql", Number: 3307}}
	other := mesh.Name{Namespace: "data", Name: "other"}
	taken := mesh.Delta{Endpoints: []*mesh.Endpoints{{Service: dbSvc}, {Service: other, Ports: []mesh.PortEndpoints{{Port: "x", Endpoints: []mesh.Endpoint{{Addr: at}}}}}},
		Services: []*mesh.Service{{Name: other, Addrs: []netip.Addr{vip.Next()}, Ports: []mesh.Port{{Name: "x", Number: 5}}}}}
	for name, tc := range map[string]struct {
		then   mesh.Delta
		others []string
		moved  bool
	}{
		"nothing":                         {mesh.Delta{}, []string{"a"}, false},
		"the endpoint is gone":            {mesh.Delta{Endpoints: []*mesh.Endpoints{{Service: dbSvc}}}, []string{"a"}, false},
		"the service is gone":             {mesh.Delta{GoneServices: []mesh.Name{dbSvc}}, []string{"a"}, true},
		"its port is another":             {renumbered, []string{"a"}, true},
		"the address is another's":        {taken, []string{"a"}, true},
		"nobody rewrites any more":        {mesh.Delta{}, nil, true},
		"less is known for now":           {mesh.Delta{Reset: true, Services: dbService().Services}, []string{"a"}, false},
		"a headless service has them too": {mesh.Delta{Services: []*mesh.Service{{Name: other, Headless: true}}, Endpoints: taken.Endpoints[1:]}, []string{"a"}, false},
	} {
		w := newWorld()
		w.apply(twoBackends())
		b := testBrain(w)
		b.backends = mapping(MapAuto)
		b.backends.told([]string{"a"})
		d, err := b.Outbound(t.Context(), webPod, at)
		if err != nil || !d.Mapped {
			t.Fatalf("%+v, %v", d, err)
		}
		w.apply(tc.then)
		b.backends.told(tc.others)
		if b.Moved(d) != tc.moved {
			t.Errorf("%s: moved %v", name, b.Moved(d))
		}
	}
	// What was dialled as a pod's address stands for the service as soon as that is known.
	w := newWorld()
	d := twoBackends()
	d.AllEndpoints = false
	w.apply(d)
	b := testBrain(w)
	b.backends = mapping(MapOn)
	direct, err := b.Outbound(t.Context(), webPod, at)
	if err != nil || b.Moved(direct) {
		t.Fatalf("%+v, %v", direct, err)
	}
	w.apply(twoBackends())
	if !b.Moved(direct) {
		t.Error("a pod's address that stands for a service now has not moved")
	}
}

// subscriber is a World's switch. Who reads told has heard from more, or waited for the end.
type subscriber struct {
	told []bool
	more chan struct{}
}

func (s *subscriber) SubscribeAll(on bool) { s.told = append(s.told, on) }

// TestAllServicesAreSubscribedToWhileOthersRewrite follows the keeper's word, by way of the handler that it comes to.
func TestAllServicesAreSubscribedToWhileOthersRewrite(t *testing.T) {
	for mode, want := range map[MapBackends][]bool{MapAuto: {true, false}, MapOn: {true, true}, MapOff: {false, false}} {
		p := testPods()
		p.backends = mapping(mode)
		s := &subscriber{more: make(chan struct{})}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = p.backends.follow(ctx, s, func() { s.more <- struct{}{} }) })
		for _, programs := range [][]string{nil, {"a"}, {"a", "b"}, nil, nil} {
			before := p.backends.others.Load()
			p.Others(programs)
			if before != (len(programs) > 0) {
				<-s.more
			}
		}
		cancel()
		running.Wait()
		if !slices.Equal(s.told, want) {
			t.Errorf("mode %d: subscribed %v, want %v", mode, s.told, want)
		}
	}
	testPods().Others([]string{"a"}) // a node that maps nothing takes it as well
}

func TestWhetherBackendsAreMappedIsAMetric(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	b := newBackends(MapAuto, reg, slog.New(slog.DiscardHandler))
	value := func() float64 {
		families, err := reg.Gather()
		if err != nil || len(families) != 1 || families[0].GetName() != "fairlead_backends_mapped" {
			t.Fatalf("%v, %v", families, err)
		}
		return families[0].Metric[0].GetGauge().GetValue()
	}
	if n := value(); n != 0 {
		t.Errorf("%v at first", n)
	}
	b.told([]string{"a"})
	if n := value(); n != 1 {
		t.Errorf("%v beside another program", n)
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
}

func TestModesOfMapping(t *testing.T) {
	for _, name := range []string{"auto", "on", "off"} {
		var m MapBackends
		if err := m.UnmarshalText([]byte(name)); err != nil {
			t.Error(err)
		}
		if text, err := m.MarshalText(); err != nil || string(text) != name {
			t.Errorf("%s is written as %q, %v", name, text, err)
		}
	}
	var m MapBackends
	if err := m.UnmarshalText([]byte("yes")); err == nil {
		t.Error("yes is a mode")
	}
	if _, err := MapBackends(9).MarshalText(); err == nil {
		t.Error("9 is a mode")
	}
}
