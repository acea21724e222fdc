package mesh

import (
	"net/netip"
	"slices"
)

// backend is a service port that an address serves, by the port's name.
type backend struct {
	service Name
	port    string
}

// ServiceByBackend tells which service and port an endpoint's address stands behind. It is for addresses that somebody else
// has chosen when a Service was dialled, and says nothing where that could not be: the address of a headless Service's
// endpoint is dialled for its own sake, and behind several Services it cannot be told which one was meant. Of several
// ports of one Service it is the lowest.
func (s *Snapshot) ServiceByBackend(a netip.AddrPort) (*Service, Port, bool) {
	behind, _ := s.backends.get(netip.AddrPortFrom(a.Addr().Unmap(), a.Port()))
	var svc *Service
	var port Port
	for _, b := range behind {
		x := s.services[b.service]
		if x == nil {
			continue
		}
		if x.Headless {
			return nil, Port{}, false
		}
		p, ok := x.portNamed(b.port)
		switch {
		case !ok || len(x.Addrs) == 0:
		case svc != nil && svc != x:
			return nil, Port{}, false
		case svc == nil || p.Number < port.Number:
			svc, port = x, p
		}
	}
	return svc, port, svc != nil
}

func (s *Service) portNamed(name string) (Port, bool) {
	for _, p := range s.Ports {
		if p.Name == name {
			return p, true
		}
	}
	return Port{}, false
}

// AllEndpoints tells whether the endpoints of all services are known: only then does it mean something that an address is
// behind one Service and no other.
func (s *Snapshot) AllEndpoints() bool { return s.all }

// applyEndpoints keeps the services' endpoints, and the way back from an address to what it serves.
func (n *Snapshot) applyEndpoints(s *Snapshot, d Delta) {
	n.endpoints, n.backends = s.endpoints, s.backends
	if len(d.Endpoints)+len(d.GoneEndpoints) == 0 {
		return
	}
	endpoints, backends := s.endpoints.edit(), s.backends.edit()
	for _, k := range d.GoneEndpoints {
		old, _ := endpoints.get(k)
		moveBackends(backends, old, nil)
		endpoints.delete(k)
	}
	for _, e := range d.Endpoints {
		old, _ := endpoints.get(e.Service)
		moveBackends(backends, old, e)
		endpoints.set(e.Service, e)
	}
	n.endpoints, n.backends = endpoints.table, backends.table
}

type backendTable = tableEdit[netip.AddrPort, []backend]

// moveBackends makes the difference between a service's endpoints before and now.
func moveBackends(t *backendTable, before, now *Endpoints) {
	type row struct {
		addr netip.AddrPort
		port string
	}
	gone := map[row]bool{}
	before.each(func(a netip.AddrPort, port string) { gone[row{a, port}] = true })
	now.each(func(a netip.AddrPort, port string) {
		if r := (row{a, port}); gone[r] {
			delete(gone, r)
			return
		}
		have, _ := t.get(a)
		if b := (backend{now.Service, port}); !slices.Contains(have, b) {
			t.set(a, append(slices.Clip(have), b))
		}
	})
	for r := range gone {
		have, _ := t.get(r.addr)
		left := slices.DeleteFunc(slices.Clone(have), func(b backend) bool { return b == backend{before.Service, r.port} })
		if len(left) == 0 {
			t.delete(r.addr)
			continue
		}
		t.set(r.addr, left)
	}
}

// each calls f with every endpoint's address and the name of its port.
func (e *Endpoints) each(f func(a netip.AddrPort, port string)) {
	if e == nil {
		return
	}
	for _, p := range e.Ports {
		for _, x := range p.Endpoints {
			f(netip.AddrPortFrom(x.Addr.Addr().Unmap(), x.Addr.Port()), p.Port)
		}
	}
}
