package compile

import (
	"errors"
	"fmt"
	"reflect"
	"slices"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"fairlead.io/fairlead/internal/mesh"
)

const (
	defaultWeight = 1
	maxWeight     = 1_000_000
)

// ref is a reference to a backend.
type ref struct {
	at      string // where in the route it stands
	service mesh.Name
	port    uint16
	wrong   string // why it is none to a Service
}

// refFailure is why a reference leads nowhere, by the API's reason.
type refFailure struct {
	reason  gatewayv1.RouteConditionReason
	message string
}

// readRef reads a reference of a rule. One to something that is no Service is a broken backend, not an invalid route.
func (r *route) readRef(rule int, at string, b gatewayv1.BackendObjectReference) (ref, error) {
	out := ref{at: fmt.Sprintf("rules[%d].%s", rule, at), service: mesh.Name{Namespace: r.key.Namespace, Name: string(b.Name)}}
	if b.Namespace != nil && *b.Namespace != "" {
		out.service.Namespace = string(*b.Namespace)
	}
	kind := gatewayv1.Kind("Service")
	if b.Kind != nil && *b.Kind != "" {
		kind = *b.Kind
	}
	if b.Group != nil && !core(*b.Group) || kind != "Service" {
		group := ""
		if b.Group != nil && *b.Group != "" {
			group = "." + string(*b.Group)
		}
		out.wrong = fmt.Sprintf("%.63s%.254s %s is no backend here: only a Service is", kind, group, out.service)
		return out, nil
	}
	if b.Port == nil {
		return ref{}, errors.New("port: a Service needs one")
	}
	if *b.Port < 1 || *b.Port > 65535 {
		return ref{}, fmt.Errorf("port: %d is not a port", *b.Port)
	}
	out.port = uint16(*b.Port)
	return out, nil
}

// readBackend adds a backend to a rule.
func (r *route) readBackend(x *rule, b gatewayv1.BackendRef, f filters) error {
	at := fmt.Sprintf("backendRefs[%d]", len(x.refs))
	to, err := r.readRef(x.Index, at, b.BackendObjectReference)
	if err != nil {
		return fmt.Errorf("%s.%w", at, err)
	}
	weight := int32(defaultWeight)
	if b.Weight != nil {
		weight = *b.Weight
	}
	if weight < 0 || weight > maxWeight {
		return fmt.Errorf("%s.weight: %d, from 0 to %d are allowed", at, weight, maxWeight)
	}
	x.Backends = append(x.Backends, mesh.Backend{Service: to.service, Port: to.port, Weight: uint32(weight), Filters: f.Filters})
	x.refs = append(x.refs, to)
	x.backendMirrors = append(x.backendMirrors, f.mirrors)
	return nil
}

// resolution is what a route's references have come to, for the traffic to one of its parents.
type resolution struct {
	rules    []mesh.Rule
	failures []refFailure
}

// resolve follows a route's references, and returns the parents for which that has changed what its rules do.
func (w *World) resolve(r *route) (changed []mesh.Name) {
	resolved := make(map[mesh.Name]resolution, len(r.parents))
	for _, p := range r.parents {
		if _, done := resolved[p.service]; done {
			continue
		}
		now := w.resolveFor(r, p.service)
		resolved[p.service] = now
		if !reflect.DeepEqual(r.resolved[p.service].rules, now.rules) {
			changed = append(changed, p.service)
		}
	}
	r.resolved = resolved
	return changed
}

func (w *World) resolveFor(r *route, service mesh.Name) resolution {
	var out resolution
	follow := func(to ref, b *mesh.Backend) {
		reason, why := w.follow(r, service, to)
		b.Broken = why
		if why != "" {
			out.failures = append(out.failures, refFailure{reason: reason, message: to.at + ": " + why})
		}
	}
	mirrors := func(refs []ref, f *mesh.Filters) {
		f.Mirrors = slices.Clone(f.Mirrors)
		for i, to := range refs {
			follow(to, &f.Mirrors[i].Backend)
		}
	}
	for _, x := range r.rules {
		now := x.Rule
		mirrors(x.mirrors, &now.Filters)
		now.Backends = slices.Clone(x.Backends)
		for i, to := range x.refs {
			follow(to, &now.Backends[i])
			mirrors(x.backendMirrors[i], &now.Backends[i].Filters)
		}
		out.rules = append(out.rules, now)
	}
	return out
}

// follow tells why a reference leads nowhere; "" if it leads to a Service's port. Who may not refer to a Service does
// not learn whether it exists.
func (w *World) follow(r *route, parent mesh.Name, to ref) (gatewayv1.RouteConditionReason, string) {
	if to.wrong != "" {
		return gatewayv1.RouteReasonInvalidKind, to.wrong
	}
	if to.service != parent && !w.granted(r.key, to.service) {
		return gatewayv1.RouteReasonRefNotPermitted, fmt.Sprintf("no ReferenceGrant in namespace %s lets %ss of namespace %s refer to Service %s",
			to.service.Namespace, r.key.Kind, r.key.Namespace, to.service.Name)
	}
	s := w.services[to.service.String()]
	if s == nil {
		return gatewayv1.RouteReasonBackendNotFound, fmt.Sprintf("Service %s does not exist", to.service)
	}
	if s.ExternalName != "" {
		return gatewayv1.RouteReasonInvalidKind, fmt.Sprintf("Service %s is of type ExternalName, which is no backend", to.service)
	}
	if _, there := s.Port(to.port); !there {
		return gatewayv1.RouteReasonBackendNotFound, fmt.Sprintf("Service %s has no TCP port %d", to.service, to.port)
	}
	return "", ""
}
