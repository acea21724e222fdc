package compile

import (
	"reflect"
	"slices"

	"fairlead.io/fairlead/api/v1alpha1"
	"fairlead.io/fairlead/internal/mesh"
)

// trafficPolicy is a TrafficPolicy in force.
type trafficPolicy struct {
	policyHead
	trafficContent
}

// trafficContent is what its text comes to.
type trafficContent struct {
	targets []target
	parts   mesh.Traffic
	zone    bool // it states a preference about zones, which may be none
}

// setTraffic takes a TrafficPolicy in force. An invalid one leaves the last valid version where it is.
func (w *World) setTraffic(k Key, v *v1alpha1.TrafficPolicy) error {
	h := readHead(k, v)
	content, err := readTraffic(k, &v.Spec)
	if err != nil {
		return w.refuse(h, err)
	}
	delete(w.own.refused, k)
	w.own.stale.statuses[k] = true
	if old := w.own.traffic[k]; old != nil {
		if reflect.DeepEqual(old.trafficContent, content) && old.created.Equal(h.created) {
			old.policyHead = h
			return nil
		}
		w.unlinkTraffic(old)
	}
	w.own.traffic[k] = &trafficPolicy{h, content}
	for _, t := range content.targets {
		put(w.own.about, t.object, k)
		w.trafficChanged(t)
	}
	return nil
}

func (w *World) dropTraffic(k Key) {
	delete(w.own.refused, k)
	w.own.stale.statuses[k] = true
	if p := w.own.traffic[k]; p != nil {
		w.unlinkTraffic(p)
	}
}

func (w *World) unlinkTraffic(p *trafficPolicy) {
	delete(w.own.traffic, p.key)
	for _, t := range p.targets {
		drop(w.own.about, t.object, p.key)
		w.trafficChanged(t)
	}
}

// trafficChanged looks again at the rows of a target, and at the other policies for it.
func (w *World) trafficChanged(t target) {
	for k := range w.own.about[t.object] {
		w.own.stale.statuses[k] = true
	}
	if t.object.Kind == Service {
		w.refreshRoutes(nameOf(t.object))
		return
	}
	if r := w.routes.of[t.object]; r != nil {
		for _, p := range r.parents {
			w.refreshRoutes(p.service)
		}
	}
}

// trafficFor is what policies say of the traffic to a Service: of a rule by its name, of a route with rule "", of the
// Service itself with the zero Key. What it returns is not changed afterwards; nil is nothing. Each part is whole from
// the most specific policy that has it, and of several for one target from the oldest.
func (w *World) trafficFor(service mesh.Name, route Key, rule string) *mesh.Traffic {
	var out mesh.Traffic
	zone := false // stated
	for _, t := range levels(service, route, rule) {
		for _, p := range w.trafficAt(t) {
			if took := take(&out, &p.parts); len(took) == 0 {
				continue
			} else if slices.Contains(took, partBalance) {
				zone = p.zone
			}
			out.From = append(out.From, nameOf(p.key))
		}
	}
	if !zone && prefersZone(w.objects[Key{Kind: Service, Namespace: service.Namespace, Name: service.Name}]) {
		balance := mesh.Balance{}
		if out.Balance != nil {
			balance = *out.Balance
		}
		balance.Zone = true
		out.Balance = &balance
	}
	if len(out.From) == 0 && out.Balance == nil {
		return nil
	}
	return &out
}

// levels are the targets that speak of a rule's traffic, the most specific first.
func levels(service mesh.Name, route Key, rule string) []target {
	var out []target
	if route != (Key{}) {
		if rule != "" {
			out = append(out, target{route, rule})
		}
		out = append(out, target{route, ""})
	}
	return append(out, target{Key{Kind: Service, Namespace: service.Namespace, Name: service.Name}, ""})
}

// trafficAt is the policies for a target, the oldest first.
func (w *World) trafficAt(t target) []*trafficPolicy {
	var out []*trafficPolicy
	for k := range w.own.about[t.object] {
		if p := w.own.traffic[k]; p != nil && slices.Contains(p.targets, t) {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b *trafficPolicy) int { return a.before(b.policyHead) })
	return out
}

// The names of the parts, as users write them.
const (
	partRetries  = "retries"
	partTimeouts = "timeouts"
	partBreaker  = "circuitBreaker"
	partBalance  = "loadBalancing"
	partLimit    = "rateLimit"
	partFaults   = "faults"
	partProtocol = "protocol"
)

// take puts the parts into out that it lacks, and names them.
func take(out, from *mesh.Traffic) (took []string) {
	part := func(name string, has, lacks bool, put func()) {
		if has && lacks {
			put()
			took = append(took, name)
		}
	}
	part(partRetries, from.Retry != nil, out.Retry == nil, func() { out.Retry = from.Retry })
	part(partTimeouts, from.Timeouts != nil, out.Timeouts == nil, func() { out.Timeouts = from.Timeouts })
	part(partBreaker, from.Breaker != nil, out.Breaker == nil, func() { out.Breaker = from.Breaker })
	part(partBalance, from.Balance != nil, out.Balance == nil, func() { out.Balance = from.Balance })
	part(partLimit, from.Limit != nil, out.Limit == nil, func() { out.Limit = from.Limit })
	part(partFaults, from.Faults != nil, out.Faults == nil, func() { out.Faults = from.Faults })
	part(partProtocol, from.Protocol != mesh.Unknown, out.Protocol == mesh.Unknown, func() { out.Protocol = from.Protocol })
	return took
}

// names are those of the parts that a policy has.
func (p *trafficPolicy) names() []string { return take(&mesh.Traffic{}, &p.parts) }

// lost is the parts of a policy that an older one for the same target has, too, with that policy's name.
func (w *World) lost(p *trafficPolicy, t target) (parts []string, to Key) {
	var before mesh.Traffic
	for _, q := range w.trafficAt(t) {
		if q == p {
			break
		}
		for _, name := range take(&before, &q.parts) {
			if slices.Contains(p.names(), name) {
				parts, to = append(parts, name), q.key
			}
		}
	}
	return parts, to
}
