package compile

import (
	"cmp"
	"net/netip"
	"reflect"
	"slices"

	"k8s.io/apimachinery/pkg/labels"

	"fairlead.io/fairlead/internal/mesh"
)

// policiesFor is what is about a pod beside what is for its namespace and the mesh. One that is gone keeps what it had:
// it may live on for a while, and is no endpoint any more.
func (w *World) policiesFor(m *member, addrs []netip.Addr, old *mesh.Pod) []mesh.PolicyRef {
	switch {
	case m.f.hostNet:
		return nil
	case m.gone && old != nil:
		return old.Policies
	}
	var out []mesh.PolicyRef
	for k := range w.own.selecting[m.f.name.Namespace] {
		if w.own.authz[k].selector.Matches(labels.Set(m.f.labels)) {
			out = append(out, mesh.PolicyRef{Policy: nameOf(k)})
		}
	}
	for _, a := range addrs {
		for name := range w.own.services[a] {
			if splitName(name).Namespace == m.f.name.Namespace { // whose endpoints somebody may have written by hand
				out = append(out, w.own.at[name][a]...)
			}
		}
	}
	slices.SortFunc(out, comparePolicyRefs)
	return slices.Compact(out)
}

func comparePolicyRefs(a, b mesh.PolicyRef) int {
	return cmp.Or(cmp.Compare(a.Policy.Namespace, b.Policy.Namespace), cmp.Compare(a.Policy.Name, b.Policy.Name), cmp.Compare(a.Port, b.Port))
}

// attachService finds what is about the endpoints of a Service, and has their pods looked at where that has changed.
func (w *World) attachService(name string) {
	now := refs{}
	for k := range w.own.behind[name] {
		w.attach(now, nameOf(k), w.own.authz[k].services[name], name)
	}
	old := w.own.at[name]
	for a := range old {
		if !slices.Equal(old[a], now[a]) {
			w.addressChanged(a)
		}
		if delete(w.own.services[a], name); len(w.own.services[a]) == 0 {
			delete(w.own.services, a)
		}
	}
	for a := range now {
		slices.SortFunc(now[a], comparePolicyRefs)
		now[a] = slices.Compact(now[a])
		if w.own.services[a] == nil {
			w.own.services[a] = map[string]bool{}
		}
		w.own.services[a][name] = true
		if !slices.Equal(old[a], now[a]) {
			w.addressChanged(a)
		}
	}
	if len(now) == 0 {
		delete(w.own.at, name)
		return
	}
	w.own.at[name] = now
}

// attach adds a policy to the endpoints of a Service's ports; nil is every port.
func (w *World) attach(to refs, policy mesh.Name, ports map[uint16]bool, name string) {
	e, s := w.endpoints[name], w.services[name]
	if e == nil {
		return
	}
	for _, p := range e.Ports {
		if ports != nil && (s == nil || !slices.ContainsFunc(s.Ports, func(x mesh.Port) bool { return x.Name == p.Port && ports[x.Number] })) {
			continue
		}
		for _, x := range p.Endpoints {
			to[x.Addr.Addr()] = append(to[x.Addr.Addr()], mesh.PolicyRef{Policy: policy, Port: x.Addr.Port()})
		}
	}
}

func (w *World) addressChanged(a netip.Addr) {
	for _, m := range w.membersOf(w.claims.owner[a]) {
		w.own.stale.pods[m.f.uid] = true
	}
}

// membersOf is the pods that a key has claimed UIDs for.
func (w *World) membersOf(k Key) []*member {
	var out []*member
	for _, t := range w.claims.of[k] {
		if uid, ok := t.(podUID); ok && w.members[string(uid)] != nil {
			out = append(out, w.members[string(uid)])
		}
	}
	return out
}

// countRefs counts the pods whose rows name a policy: that it matches nothing is for its status to say.
func (w *World) countRefs(old, now *mesh.Pod) {
	if old != nil && now != nil && reflect.DeepEqual(old.Policies, now.Policies) {
		return
	}
	count := func(p *mesh.Pod, by int) {
		if p == nil {
			return
		}
		for i, r := range p.Policies {
			if i > 0 && p.Policies[i-1].Policy == r.Policy {
				continue // at another port
			}
			k := Key{Kind: AuthorizationPolicy, Namespace: r.Policy.Namespace, Name: r.Policy.Name}
			w.own.pods[k] += by
			if n := w.own.pods[k]; n == 0 {
				delete(w.own.pods, k)
			}
			w.own.stale.statuses[k] = true
		}
	}
	count(now, +1)
	count(old, -1)
}
