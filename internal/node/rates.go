package node

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"fairlead.io/fairlead/internal/l7"
	"fairlead.io/fairlead/internal/l7/limit"
	"fairlead.io/fairlead/internal/mesh"
)

const (
	// ratesIdle is how long a rate is kept that nobody asks for.
	ratesIdle = 10 * time.Minute
	// ratesMax bounds those that are kept. What comes above has no limit of its own until there is room.
	ratesMax = 10000
)

// rates are the limits that policies of Services set to the requests which the pods of this node take, each pod for itself. They
// come with a Service's endpoints, so a Service is subscribed to when its first request comes. It implements l7.Rates.
type rates struct {
	world  World
	tables *tables          // which sees to subscriptions
	now    func() time.Time // time.Now

	mu sync.Mutex // protects m
	m  map[rateKey]*rateEntry
}

// rateKey is a pod as one port of a Service.
type rateKey struct {
	pod     string // UID
	service mesh.Name
	port    uint16
}

// rateEntry is the limiter of one key, and what it was made of.
type rateEntry struct {
	by   *limit.Limiter
	of   *mesh.Limit
	used time.Time
}

func newRates(world World, t *tables) *rates {
	return &rates{world: world, tables: t, now: time.Now, m: map[rateKey]*rateEntry{}}
}

// Rate finds the limit of the Service that was dialled: of whoever does not say which, that of the one behind which the pod is,
// if it can be told.
func (r *rates) Rate(p *l7.Pod, own uint16, service mesh.Name, port uint16) *limit.Limiter {
	s := r.world.Snapshot()
	if service == (mesh.Name{}) {
		if service, port = behind(s, p, own); port == 0 {
			return nil
		}
	}
	if s.Service(service) == nil {
		return nil
	}
	l, isNew := r.find(s, p, rateKey{p.UID, service, port})
	if isNew {
		r.tables.hold(service)
	}
	return l
}

// find is the limiter of a key, and whether it was asked for the first time.
func (r *rates) find(s *mesh.Snapshot, p *l7.Pod, key rateKey) (l *limit.Limiter, isNew bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.m[key]
	if e == nil {
		if len(r.m) >= ratesMax {
			return nil, false
		}
		e = &rateEntry{}
		r.m[key], isNew = e, true
	}
	e.used = r.now()
	if endpoints := s.Endpoints(key.service); endpoints != nil && !isAmong(endpoints, p) {
		e.by, e.of = nil, nil // the peer's node errs
		return nil, isNew
	}
	e.set(limitOf(s.Routes(key.service), key.port), e.used)
	return e.by, isNew
}

// set makes the limiter what the policy says. One that stays keeps what has been used.
func (e *rateEntry) set(l *mesh.Limit, now time.Time) {
	switch {
	case l == e.of:
	case l == nil:
		e.by = nil
	case e.by == nil:
		e.by = limit.New(l, now)
	default:
		e.by = e.by.Renew(l)
	}
	e.of = l
}

// limitOf is what a Service's own policy says for a port.
func limitOf(r *mesh.Routes, port uint16) *mesh.Limit {
	if row := rowOf(r, port, ""); row != nil && row.Policy != nil {
		return row.Policy.Limit
	}
	return nil
}

// behind is the Service that a pod's port serves, if all are known and it is one.
func behind(s *mesh.Snapshot, p *l7.Pod, own uint16) (mesh.Name, uint16) {
	if !s.AllEndpoints() {
		return mesh.Name{}, 0
	}
	for _, a := range p.Addrs {
		if svc, port, ok := s.ServiceByBackend(netip.AddrPortFrom(a, own)); ok {
			return svc.Name, port.Number
		}
	}
	return mesh.Name{}, 0
}

func isAmong(e *mesh.Endpoints, p *l7.Pod) bool {
	for _, port := range e.Ports {
		for _, x := range port.Endpoints {
			if p.Has(x.Addr.Addr()) {
				return true
			}
		}
	}
	return false
}

// expire forgets the rates that nobody has asked for.
func (r *rates) expire() {
	r.mu.Lock()
	gone, kept := map[mesh.Name]bool{}, map[mesh.Name]bool{}
	for key, e := range r.m {
		if r.now().Sub(e.used) > ratesIdle {
			delete(r.m, key)
			gone[key.service] = true
		} else {
			kept[key.service] = true
		}
	}
	r.mu.Unlock()
	for service := range gone {
		if !kept[service] {
			r.tables.release(service)
		}
	}
}

// run forgets now and then what nobody asks for.
func (r *rates) run(ctx context.Context) error {
	t := time.NewTicker(time.Minute)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			r.expire()
		case <-ctx.Done():
			return nil
		}
	}
}
