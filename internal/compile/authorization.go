package compile

import (
	"errors"
	"fmt"
	"reflect"

	"k8s.io/apimachinery/pkg/labels"

	"fairlead.io/fairlead/api/v1alpha1"
	"fairlead.io/fairlead/internal/mesh"
)

// authzPolicy is an AuthorizationPolicy in force.
type authzPolicy struct {
	policyHead
	authzContent
	services map[string]map[uint16]bool // behind which its pods are, and the Services' ports; nil is every port
	unmade   error                      // why its row is not what the text says, but closed
}

// authzContent is what its text comes to, but for what routes say.
type authzContent struct {
	kind     string
	target   target // of a Service or a route
	selector labels.Selector
	ports    []uint16
	action   mesh.Action
	rules    []mesh.AuthRule
	closed   bool // it is invalid, has never been valid, and denies everything at its target
}

// setAuthorization takes an AuthorizationPolicy in force. An invalid one leaves the last valid version where it is; if
// there is none, everything is denied at its target, for somebody has meant to protect it.
func (w *World) setAuthorization(k Key, v *v1alpha1.AuthorizationPolicy) error {
	h := readHead(k, v)
	content, err := readAuthorization(k, &v.Spec)
	if err == nil && content.kind == v1alpha1.TargetMesh && k.Namespace != w.home {
		err = fmt.Errorf("target.kind: Mesh is for policies in namespace %s alone: %w", w.home, errNotPermitted)
	}
	if err != nil {
		old := w.own.authz[k]
		if last := old != nil && !old.closed; !last && content.action != mesh.Audit && !errors.Is(err, errNotPermitted) {
			w.enforce(h, closedFor(k, content, w.home))
		} else if old != nil && old.closed {
			w.unlinkAuthorization(old)
		}
		return w.refuse(h, err)
	}
	delete(w.own.refused, k)
	w.own.stale.statuses[k] = true
	w.enforce(h, content)
	return nil
}

// closedFor denies everything at the target of a policy that is invalid; where that cannot be read, in its namespace.
func closedFor(k Key, of authzContent, home string) authzContent {
	out := authzContent{
		kind: of.kind, target: of.target, selector: of.selector, ports: of.ports,
		action: mesh.Deny, rules: []mesh.AuthRule{{}}, closed: true,
	}
	if out.kind == "" || out.kind == v1alpha1.TargetMesh && k.Namespace != home {
		out = authzContent{kind: v1alpha1.TargetNamespace, action: mesh.Deny, rules: out.rules, closed: true}
	}
	return out
}

func (w *World) enforce(h policyHead, content authzContent) {
	if old := w.own.authz[h.key]; old != nil {
		if reflect.DeepEqual(old.authzContent, content) {
			old.policyHead = h
			return
		}
		w.unlinkAuthorization(old)
	}
	p := &authzPolicy{policyHead: h, authzContent: content}
	w.own.authz[h.key] = p
	w.own.stale.authz[h.key], w.own.stale.statuses[h.key] = true, true
	if p.target != (target{}) {
		put(w.own.about, p.target.object, h.key)
	}
	if p.selector != nil {
		put(w.own.selecting, h.key.Namespace, h.key)
		w.selectorChanged(h.key.Namespace, p.selector)
	}
}

func (w *World) dropAuthorization(k Key) {
	delete(w.own.refused, k)
	w.own.stale.statuses[k] = true
	if p := w.own.authz[k]; p != nil {
		w.unlinkAuthorization(p)
	}
}

func (w *World) unlinkAuthorization(p *authzPolicy) {
	delete(w.own.authz, p.key)
	w.own.stale.authz[p.key] = true
	if p.target != (target{}) {
		drop(w.own.about, p.target.object, p.key)
	}
	if p.selector != nil {
		drop(w.own.selecting, p.key.Namespace, p.key)
		w.selectorChanged(p.key.Namespace, p.selector)
	}
	w.linkServices(p.key, p.services, nil)
}

// selectorChanged looks again at the pods that a selector selects.
func (w *World) selectorChanged(namespace string, s labels.Selector) {
	for k := range w.index.podsOf[namespace] {
		for _, m := range w.membersOf(k) {
			if s.Matches(labels.Set(m.f.labels)) {
				w.own.stale.pods[m.f.uid] = true
			}
		}
	}
}

// linkServices notes which Services' endpoints a policy is about.
func (w *World) linkServices(k Key, old, now map[string]map[uint16]bool) {
	for name := range old {
		drop(w.own.behind, name, k)
		w.own.stale.services[name] = true
	}
	for name := range now {
		put(w.own.behind, name, k)
		w.own.stale.services[name] = true
	}
}

// makeAuthorization makes a policy's row anew.
func (w *World) makeAuthorization(k Key) {
	name := nameOf(k)
	p := w.own.authz[k]
	var row *mesh.Authorization
	if p != nil {
		row = &mesh.Authorization{Name: name, Action: p.action, Rules: p.rules}
		switch p.kind {
		case v1alpha1.TargetMesh:
			row.Mesh, row.Ports = true, p.ports
		case v1alpha1.TargetNamespace:
			row.All, row.Ports = k.Namespace, p.ports
		case v1alpha1.TargetPods:
			row.Ports = p.ports
		case v1alpha1.TargetHTTPRoute, v1alpha1.TargetGRPCRoute:
			w.routeRules(p, row)
		}
		services := w.servicesOf(p)
		if !reflect.DeepEqual(services, p.services) {
			w.linkServices(k, p.services, services)
			p.services = services
		}
		w.own.stale.statuses[k] = true
	}
	old := w.own.rows[name.String()]
	switch {
	case row == nil && old == nil, row != nil && old != nil && reflect.DeepEqual(old, row):
		return
	case row == nil:
		delete(w.own.rows, name.String())
	default:
		w.own.rows[name.String()] = row
	}
	w.note(AuthorizationPolicy, name.String())
}

// servicesOf is the Services of the policy's namespace behind which its pods are, with their ports: a Service itself;
// of a route its parents and its backends.
func (w *World) servicesOf(p *authzPolicy) map[string]map[uint16]bool {
	switch p.kind {
	case v1alpha1.TargetService:
		var ports map[uint16]bool
		for _, n := range p.ports {
			if ports == nil {
				ports = map[uint16]bool{}
			}
			ports[n] = true
		}
		return map[string]map[uint16]bool{nameOf(p.target.object).String(): ports}
	case v1alpha1.TargetHTTPRoute, v1alpha1.TargetGRPCRoute:
	default:
		return nil
	}
	r := w.routes.of[p.target.object]
	if r == nil {
		return nil
	}
	out := map[string]map[uint16]bool{}
	add := func(service mesh.Name, port uint16) {
		if service.Namespace != p.key.Namespace {
			return // a namespace is no other's to protect
		}
		if out[service.String()] == nil {
			out[service.String()] = map[uint16]bool{}
		}
		out[service.String()][port] = true
	}
	for _, x := range r.parents {
		ports, _ := x.attach(w.services[x.service.String()])
		for _, port := range ports {
			add(x.service, port)
		}
	}
	for _, x := range r.rules {
		if p.target.rule != "" && x.Title != p.target.rule {
			continue
		}
		for _, b := range x.refs {
			if b.wrong == "" {
				add(b.service, b.port)
			}
		}
	}
	return out
}
