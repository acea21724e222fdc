package compile

import (
	"fmt"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"fairlead.io/fairlead/internal/mesh"
)

// parent is a Service that a route is attached to: at one port, by number or by name, or at all.
type parent struct {
	service mesh.Name
	port    uint16
	section string
}

// portGroup is a port, for the pods of one namespace or, with "", for all.
type portGroup struct {
	port     uint16
	consumer string
}

// core tells whether a group is that of Services. "core" is not its name, but what people write.
func core(g gatewayv1.Group) bool { return g == "" || g == "core" }

// readParents takes the parents that are Services; the others are other controllers'.
func (r *route) readParents(refs []gatewayv1.ParentReference) error {
	if err := atMost("parentRefs", len(refs), maxParents); err != nil {
		return err
	}
	for i, ref := range refs {
		if ref.Kind == nil || *ref.Kind != "Service" {
			continue
		}
		if ref.Group == nil || *ref.Group == gatewayv1.GroupName {
			r.hint = fmt.Sprintf("parentRefs[%d]: for a Service the group is \"\", and has to be stated", i)
		}
		if ref.Group == nil || !core(*ref.Group) {
			continue
		}
		p := parent{service: mesh.Name{Namespace: r.key.Namespace, Name: string(ref.Name)}}
		if ref.Namespace != nil && *ref.Namespace != "" {
			p.service.Namespace = string(*ref.Namespace)
		}
		if ref.SectionName != nil {
			p.section = string(*ref.SectionName)
		}
		r.refs = append(r.refs, ref)
		if ref.Port != nil {
			if *ref.Port < 1 || *ref.Port > 65535 {
				return fmt.Errorf("parentRefs[%d].port: %d is not a port", i, *ref.Port)
			}
			p.port = uint16(*ref.Port)
		}
		r.parents = append(r.parents, p)
	}
	return nil
}

// consumer is the namespace whose pods the route is for at a Service: its own, if that is not the Service's.
func (r *route) consumer(service mesh.Name) string {
	if r.key.Namespace == service.Namespace {
		return ""
	}
	return r.key.Namespace
}

// attach is the ports of a Service that a parent means, or why there are none.
func (p parent) attach(s *mesh.Service) (ports []uint16, why string) {
	switch {
	case s == nil:
		return nil, fmt.Sprintf("Service %s does not exist", p.service)
	case s.ExternalName != "":
		return nil, fmt.Sprintf("Service %s is of type ExternalName: there is no address that traffic to it is known by", p.service)
	case s.Headless:
		return nil, fmt.Sprintf("Service %s is headless: there is no address that traffic to it is known by", p.service)
	}
	for _, x := range s.Ports {
		if (p.port == 0 || p.port == x.Number) && (p.section == "" || p.section == x.Name) {
			ports = append(ports, x.Number)
		}
	}
	if len(ports) > 0 {
		return ports, ""
	}
	var what []string
	if p.port != 0 {
		what = append(what, fmt.Sprintf("port %d", p.port))
	}
	if p.section != "" {
		what = append(what, fmt.Sprintf("port named %q", p.section))
	}
	if len(what) == 0 {
		return nil, fmt.Sprintf("Service %s has no TCP port", p.service)
	}
	return nil, fmt.Sprintf("Service %s has no TCP %s", p.service, strings.Join(what, ", "))
}
