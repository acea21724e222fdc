package mesh

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"testing"
)

// behind makes endpoints of one port.
func behind(service Name, port string, addrs ...string) *Endpoints {
	p := PortEndpoints{Port: port}
	for _, a := range addrs {
		p.Endpoints = append(p.Endpoints, Endpoint{Addr: netip.MustParseAddrPort(a)})
	}
	return &Endpoints{Service: service, Ports: []PortEndpoints{p}}
}

func TestServiceByBackend(t *testing.T) {
	name := func(s string) Name { return Name{"shop", s} }
	clusterIP := func(s, ip string, ports ...Port) *Service {
		return &Service{Name: name(s), Addrs: []netip.Addr{netip.MustParseAddr(ip)}, Ports: ports}
	}
	http := Port{Name: "http", Number: 80}
	s := (&Snapshot{}).Apply(Delta{Reset: true, AllEndpoints: true,
		Services: []*Service{
			clusterIP("web", "10.96.0.1", http), clusterIP("one", "10.96.0.2", http), clusterIP("two", "10.96.0.3", http),
			clusterIP("both", "10.96.0.4", Port{Name: "alt", Number: 8080}, http), clusterIP("db", "10.96.0.5", http),
			clusterIP("renamed", "10.96.0.6", http),
			{Name: name("db-headless"), Headless: true, Ports: []Port{http}}, {Name: name("pods"), Headless: true, Ports: []Port{http}},
			{Name: name("nowhere"), Ports: []Port{http}},
		},
		Endpoints: []*Endpoints{
			behind(name("web"), "http", "10.244.0.1:8080", "[fd44::1]:8080"),
			behind(name("one"), "http", "10.244.0.2:8080"), behind(name("two"), "http", "10.244.0.2:8080"),
			{Service: name("both"), Ports: []PortEndpoints{behind(name("both"), "alt", "10.244.0.3:8080").Ports[0], behind(name("both"), "http", "10.244.0.3:8080").Ports[0]}},
			behind(name("db"), "http", "10.244.0.4:8080"), behind(name("db-headless"), "http", "10.244.0.4:8080"),
			behind(name("pods"), "http", "10.244.0.5:8080"), behind(name("nowhere"), "http", "10.244.0.6:8080"),
			behind(name("renamed"), "old", "10.244.0.7:8080"), behind(name("unknown"), "http", "10.244.0.8:8080"),
		}})
	if !s.AllEndpoints() {
		t.Error("not all endpoints are known")
	}
	for at, want := range map[string]string{
		"10.244.0.1:8080":          "shop/web:80",
		"[fd44::1]:8080":           "shop/web:80",
		"[::ffff:10.244.0.1]:8080": "shop/web:80",
		"10.244.0.1:80":            "",
		"10.244.0.2:8080":          "", // of two Services
		"10.244.0.3:8080":          "shop/both:80",
		"10.244.0.4:8080":          "", // a headless Service has it too
		"10.244.0.5:8080":          "",
		"10.244.0.6:8080":          "", // of a Service without an address
		"10.244.0.7:8080":          "", // of a port that the Service has no longer
		"10.244.0.8:8080":          "",
		"10.244.0.9:8080":          "",
	} {
		svc, port, ok := s.ServiceByBackend(netip.MustParseAddrPort(at))
		got := ""
		if ok {
			got = fmt.Sprintf("%s:%d", svc.Name, port.Number)
		}
		if got != want || ok != (svc != nil) {
			t.Errorf("%s is behind %q, want %q", at, got, want)
		}
	}
	// What is told apart by the Services follows them, though no endpoint has changed.
	s = s.Apply(Delta{GoneServices: []Name{name("two"), name("db-headless")}})
	for at, want := range map[string]Name{"10.244.0.2:8080": name("one"), "10.244.0.4:8080": name("db")} {
		if svc, _, ok := s.ServiceByBackend(netip.MustParseAddrPort(at)); !ok || svc.Name != want {
			t.Errorf("%s is behind %v, want %v", at, svc, want)
		}
	}
	if s = s.Apply(Delta{Reset: true}); s.AllEndpoints() {
		t.Error("all endpoints are known after a reset without them")
	}
}

// TestBackendsFollowTheEndpoints makes random changes and compares each snapshot, and earlier ones, with what they must be.
func TestBackendsFollowTheEndpoints(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	model, s := map[Name]*Endpoints{}, &Snapshot{}
	type moment struct {
		s     *Snapshot
		model map[Name]*Endpoints
	}
	var past []moment
	for step := range 400 {
		d := Delta{Version: uint64(step), Reset: step%97 == 96}
		if d.Reset {
			clear(model)
		}
		for range random.IntN(4) {
			n := Name{"ns", fmt.Sprint(random.IntN(12))}
			if random.IntN(4) == 0 {
				d.GoneEndpoints = append(d.GoneEndpoints, n)
				continue
			}
			e := &Endpoints{Service: n}
			for _, port := range []string{"a", "b"}[:1+random.IntN(2)] {
				var addrs []string
				for range random.IntN(5) {
					addrs = append(addrs, fmt.Sprintf("10.0.0.%d:%d", random.IntN(9), 80+random.IntN(2)))
				}
				e.Ports = append(e.Ports, behind(n, port, addrs...).Ports...)
			}
			d.Endpoints = append(d.Endpoints, e)
		}
		for _, n := range d.GoneEndpoints {
			delete(model, n)
		}
		for _, e := range d.Endpoints {
			model[e.Service] = e
		}
		s = s.Apply(d)
		past = append(past, moment{s, maps.Clone(model)})
		if len(past) > 20 {
			past = past[1:]
		}
		for _, m := range past {
			compareBackends(t, m.s, m.model)
		}
		if t.Failed() {
			t.Fatalf("after step %d", step)
		}
	}
}

func compareBackends(t *testing.T, s *Snapshot, model map[Name]*Endpoints) {
	t.Helper()
	want := map[netip.AddrPort]map[backend]bool{}
	for n, e := range model {
		if s.Endpoints(n) != e {
			t.Errorf("endpoints of %v: %v", n, s.Endpoints(n))
		}
		e.each(func(a netip.AddrPort, port string) {
			if want[a] == nil {
				want[a] = map[backend]bool{}
			}
			want[a][backend{n, port}] = true
		})
	}
	if _, _, n := s.Counts(); n != len(model) || s.backends.len != len(want) {
		t.Errorf("%d endpoints objects, %d addresses, want %d and %d", n, s.backends.len, len(model), len(want))
	}
	for a, set := range want {
		got, _ := s.backends.get(a)
		if len(got) != len(set) {
			t.Errorf("%v is behind %v, want %v", a, got, set)
		}
		for _, b := range got {
			if !set[b] {
				t.Errorf("%v is behind %v, want %v", a, got, set)
			}
		}
	}
}

// TestAChangeOfEndpointsCostsTheChange: the world is large, and one endpoint of one Service goes and comes.
func TestAChangeOfEndpointsCostsTheChange(t *testing.T) {
	const services, each = 5000, 20
	object := func(i, n int) *Endpoints {
		e := &Endpoints{Service: Name{"ns", fmt.Sprint(i)}, Ports: []PortEndpoints{{Port: "p"}}}
		for k := range n {
			addr := netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), byte(k)})
			e.Ports[0].Endpoints = append(e.Ports[0].Endpoints, Endpoint{Addr: netip.AddrPortFrom(addr, 80), Ready: true})
		}
		return e
	}
	d := Delta{Reset: true, AllEndpoints: true}
	for i := range services {
		d.Endpoints = append(d.Endpoints, object(i, each))
	}
	s := (&Snapshot{}).Apply(d)
	less, more := Delta{Endpoints: []*Endpoints{object(7, each-1)}}, Delta{Endpoints: []*Endpoints{object(7, each)}}
	var before, after runtime.MemStats
	const rounds = 200
	runtime.ReadMemStats(&before)
	for range rounds {
		s = s.Apply(less).Apply(more)
	}
	runtime.ReadMemStats(&after)
	if per := (after.TotalAlloc - before.TotalAlloc) / (2 * rounds); per > 32<<10 {
		t.Errorf("one endpoint of %d costs %d bytes", services*each, per)
	}
	if s.backends.len != services*each {
		t.Errorf("%d addresses", s.backends.len)
	}
}
