package node

import (
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"fairlead.io/fairlead/internal/l7/balance"
	"fairlead.io/fairlead/internal/l7/routing"
	"fairlead.io/fairlead/internal/mesh"
)

// backendsWait is how long rules wait for the endpoints of the backends that they name. Those that have not come by then are
// taken for none: requests for such a backend are answered with 503.
const backendsWait = 2 * time.Second

// tables are the rules for the service ports that this node's pods have used, in force under the connections that live.
type tables struct {
	clusters *clusters
	world    subscriptions
	log      *slog.Logger
	now      func() time.Time // time.Now

	mu    sync.Mutex // protects what follows
	m     map[tableKey]*ruleset
	asked map[mesh.Name]struct{} // the backends that were subscribed to, and what is held
	held  map[mesh.Name]struct{} // services whose policies are needed for what pods take
}

// subscriptions are what World is for tables.
type subscriptions interface {
	Subscribe(mesh.Name)
	Unsubscribe(mesh.Name)
}

// tableKey is a service port, as pods of one namespace have dialled it.
type tableKey struct {
	service  mesh.Name
	port     uint16
	v4       bool
	consumer string
}

// ruleset is what is in force for one key, and what it was made of.
type ruleset struct {
	live     routing.Live
	row      *mesh.PortRoutes
	services []*mesh.Service // of the backends
	clusters []clusterKey    // of rules' own manners
	due      time.Time       // when a newer row is put in force at the latest; zero if none waits
}

func newTables(c *clusters, world subscriptions, log *slog.Logger) *tables {
	return &tables{clusters: c, world: world, log: log, now: time.Now, m: map[tableKey]*ruleset{}, asked: map[mesh.Name]struct{}{}, held: map[mesh.Name]struct{}{}}
}

// rowOf is the rules for a port and the callers of a namespace: its own, or else everybody's.
func rowOf(r *mesh.Routes, port uint16, namespace string) (row *mesh.PortRoutes) {
	if r == nil {
		return nil
	}
	for i := range r.Ports {
		p := &r.Ports[i]
		switch {
		case p.Port != port:
		case p.Consumer == namespace:
			return p
		case p.Consumer == "":
			row = p
		}
	}
	return row
}

// declared is what a port speaks, as far as somebody has said it: a policy, a route by its kind, or the Service.
func declared(port mesh.Port, row *mesh.PortRoutes) mesh.Protocol {
	if row == nil {
		return port.Protocol
	}
	if row.Policy != nil && row.Policy.Protocol != mesh.Unknown {
		return row.Policy.Protocol
	}
	switch {
	case row.Kind == mesh.TCPRoute || row.Kind == mesh.TLSRoute:
		return mesh.TCP
	case port.Protocol != mesh.Unknown:
		return port.Protocol
	case row.Kind == mesh.HTTPRoute:
		return mesh.HTTP1
	case row.Kind == mesh.GRPCRoute:
		return mesh.HTTP2
	}
	return port.Protocol
}

// opaque tells whether rules are for connections, not for requests.
func opaque(t *routing.Table) bool {
	return t != nil && (t.Kind == mesh.TCPRoute || t.Kind == mesh.TLSRoute || t.Policy != nil && t.Policy.Protocol == mesh.TCP)
}

// backendsOf are the services that rules lead to, mirrors included.
func backendsOf(row *mesh.PortRoutes) (names []mesh.Name) {
	add := func(b *mesh.Backend) {
		if b.Broken == "" && !slices.Contains(names, b.Service) {
			names = append(names, b.Service)
		}
	}
	if row == nil {
		return nil
	}
	for i := range row.Rules {
		r := &row.Rules[i]
		for j := range r.Filters.Mirrors {
			add(&r.Filters.Mirrors[j].Backend)
		}
		for j := range r.Backends {
			add(&r.Backends[j])
			for k := range r.Backends[j].Filters.Mirrors {
				add(&r.Backends[j].Filters.Mirrors[k].Backend)
			}
		}
	}
	return names
}

// subscribe asks for the endpoints of rules' backends.
func (t *tables) subscribe(names []mesh.Name) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ask(names)
}

// hold subscribes to a service until release.
func (t *tables) hold(service mesh.Name) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.held[service] = struct{}{}
	t.ask([]mesh.Name{service})
}

// release takes that back, with the next update.
func (t *tables) release(service mesh.Name) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.held, service)
}

// ask is called with mu held.
func (t *tables) ask(names []mesh.Name) {
	for _, n := range names {
		if _, is := t.asked[n]; !is {
			t.asked[n] = struct{}{}
			t.world.Subscribe(n)
		}
	}
}

// known tells whether the endpoints of all backends that there are have come.
func known(s *mesh.Snapshot, names []mesh.Name) bool {
	for _, n := range names {
		if s.Service(n) != nil && s.Endpoints(n) == nil {
			return false
		}
	}
	return true
}

// get returns the rules for a service port, made from the snapshot on first use.
func (t *tables) get(s *mesh.Snapshot, svc *mesh.Service, port mesh.Port, dst netip.Addr, namespace string) *routing.Live {
	key := tableKey{svc.Name, port.Number, dst.Unmap().Is4(), namespace}
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.m[key]
	if e == nil {
		e = &ruleset{}
		t.m[key] = e
		t.world.Subscribe(key.service) // again: it may have been a backend that was none any more a moment ago
		t.make(s, key, e)
	}
	return &e.live
}

// peek is the rules in force for who only looks: what nobody has used is made of the snapshot, and not kept. waits tells whether
// newer ones wait for their backends.
func (t *tables) peek(s *mesh.Snapshot, svc *mesh.Service, port mesh.Port, dst netip.Addr, namespace string) (found *routing.Table, waits bool) {
	key := tableKey{svc.Name, port.Number, dst.Unmap().Is4(), namespace}
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.m[key]; e != nil {
		return e.live.Table(), !e.due.IsZero()
	}
	row := rowOf(s.Routes(svc.Name), port.Number, namespace)
	if row == nil {
		return nil, false
	}
	found, _ = routing.New(row, func(service mesh.Name, number uint16) *balance.Cluster {
		to := s.Service(service)
		if to == nil {
			return nil
		}
		p, ok := to.Port(number)
		if !ok {
			return nil
		}
		return t.clusters.peek(s, to, p, familyOf(to, key.v4))
	})
	return found, false
}

// update gives every table what the snapshot says, and takes back the subscriptions that no rule needs any more. A table whose
// new backends are not known yet stays as it is for a while: again is when to look the next time, 0 if there is no need.
func (t *tables) update(s *mesh.Snapshot) (again time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	needed := map[mesh.Name]bool{}
	for n := range t.held {
		needed[n] = true
	}
	for key, e := range t.m {
		svc := s.Service(key.service)
		if svc == nil {
			e.live.Set(nil)
			delete(t.m, key)
			continue
		}
		row := rowOf(s.Routes(key.service), key.port, key.consumer)
		if left := t.refresh(s, key, e, row); left > 0 && (again == 0 || left < again) {
			again = left
		}
		needed[key.service] = true
		for _, n := range append(backendsOf(e.row), backendsOf(row)...) {
			needed[n] = true
		}
	}
	t.forget(needed)
	used := map[clusterKey]bool{}
	for _, e := range t.m {
		for _, key := range e.clusters {
			used[key] = true
		}
	}
	t.clusters.keep(used)
	return again
}

// refresh puts a newer row in force, as soon as its backends are known or have been waited for. It returns how long that may last.
func (t *tables) refresh(s *mesh.Snapshot, key tableKey, e *ruleset, row *mesh.PortRoutes) time.Duration {
	names := backendsOf(row)
	if row == e.row && slices.Equal(servicesOf(s, names), e.services) {
		e.due = time.Time{}
		return 0
	}
	t.ask(names)
	now := t.now()
	if e.due.IsZero() {
		e.due = now.Add(backendsWait)
	}
	if left := e.due.Sub(now); left > 0 && !known(s, names) {
		return left
	}
	t.make(s, key, e)
	return 0
}

// forget takes back the subscriptions to backends that are none any more.
func (t *tables) forget(needed map[mesh.Name]bool) {
	for n := range t.asked {
		if !needed[n] {
			delete(t.asked, n)
			t.world.Unsubscribe(n)
			t.clusters.drop(n)
		}
	}
}

func servicesOf(s *mesh.Snapshot, names []mesh.Name) []*mesh.Service {
	services := make([]*mesh.Service, len(names))
	for i, n := range names {
		services[i] = s.Service(n)
	}
	return services
}

// make puts what the snapshot says in force.
func (t *tables) make(s *mesh.Snapshot, key tableKey, e *ruleset) {
	row := rowOf(s.Routes(key.service), key.port, key.consumer)
	names := backendsOf(row)
	t.ask(names)
	e.row, e.services, e.due = row, servicesOf(s, names), time.Time{}
	if row == nil {
		e.clusters = nil
		e.live.Set(nil)
		return
	}
	made, err := routing.New(row, func(service mesh.Name, port uint16) *balance.Cluster {
		return t.backend(s, service, port, key.v4)
	})
	if err != nil { // the last one stays in force: it is the controller's business that there is none such
		t.log.Error("rules cannot be used", "service", key.service.String(), "port", key.port, "err", err)
		return
	}
	e.clusters = e.clusters[:0]
	for _, r := range made.Rules {
		if r.Policy == nil || r.Policy.Balance == nil && r.Policy.Breaker == nil {
			continue
		}
		for i := range r.Backends {
			if b := &r.Backends[i]; b.Cluster != nil {
				b.Cluster = t.ruled(s, key, e, b.Service, b.Port, r.Policy)
			}
		}
	}
	e.live.Set(made)
}

// ruled is a backend's cluster as a rule's policy has it.
func (t *tables) ruled(s *mesh.Snapshot, key tableKey, e *ruleset, service mesh.Name, number uint16, policy *mesh.Traffic) *balance.Cluster {
	svc := s.Service(service)
	port, _ := svc.Port(number)
	of, b := t.clusters.getFor(s, svc, port, familyOf(svc, key.v4), policy)
	e.clusters = append(e.clusters, of)
	return b
}

// backend is the cluster of a backend; nil if there is no such service or port.
func (t *tables) backend(s *mesh.Snapshot, service mesh.Name, number uint16, v4 bool) *balance.Cluster {
	svc := s.Service(service)
	if svc == nil {
		return nil
	}
	port, ok := svc.Port(number)
	if !ok {
		return nil
	}
	return t.clusters.get(s, svc, port, familyOf(svc, v4))
}

// familyOf is an address of the family that a backend is reached by: that of the address which was dialled, unless it has only
// the other.
func familyOf(svc *mesh.Service, v4 bool) netip.Addr {
	want, other := netip.IPv4Unspecified(), netip.IPv6Unspecified()
	if !v4 {
		want, other = other, want
	}
	is := func(a netip.Addr) bool { return a.Unmap().Is4() == v4 }
	if len(svc.Addrs) > 0 && !slices.ContainsFunc(svc.Addrs, is) {
		return other
	}
	return want
}
