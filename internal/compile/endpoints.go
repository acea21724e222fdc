package compile

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"fairlead.io/fairlead/internal/mesh"
)

// maxEndpoints is what Kubernetes allows in one slice.
const maxEndpoints = 1000

func (w *World) setSlice(k Key, s *discoveryv1.EndpointSlice) (warnings []error, err error) {
	service := s.Labels[discoveryv1.LabelServiceName]
	if service == "" {
		return []error{fmt.Errorf("no label %s: it belongs to no service", discoveryv1.LabelServiceName)}, w.moveSlice(k, "")
	}
	if err := checkName(Key{Kind: Service, Namespace: s.Namespace, Name: service}); err != nil {
		return nil, fmt.Errorf("label %s: %w", discoveryv1.LabelServiceName, err)
	}
	if err := checkSlice(s); err != nil {
		return nil, err
	}
	name := mesh.Name{Namespace: s.Namespace, Name: service}.String()
	if err := w.moveSlice(k, name); err != nil {
		return nil, err
	}
	put(w.index.slicesOf, name, k)
	w.mergeSlices(name, k, s)
	return nil, nil
}

// moveSlice takes a slice away from the service that it belonged to before, if that is another.
func (w *World) moveSlice(k Key, to string) error {
	old, there := w.objects[k]
	if !there {
		return nil
	}
	if from := sliceService(old.Value.(*discoveryv1.EndpointSlice)); from != to && from != "" {
		drop(w.index.slicesOf, from, k)
		w.mergeSlices(from, Key{}, nil)
	}
	return nil
}

func (w *World) dropSlice(k Key, s *discoveryv1.EndpointSlice) {
	if name := sliceService(s); name != "" {
		drop(w.index.slicesOf, name, k)
		w.mergeSlices(name, Key{}, nil)
	}
}

func sliceService(s *discoveryv1.EndpointSlice) string {
	service := s.Labels[discoveryv1.LabelServiceName]
	if service == "" {
		return ""
	}
	return mesh.Name{Namespace: s.Namespace, Name: service}.String()
}

func checkSlice(s *discoveryv1.EndpointSlice) error {
	if s.AddressType != discoveryv1.AddressTypeIPv4 && s.AddressType != discoveryv1.AddressTypeIPv6 {
		return fmt.Errorf("addressType %q is not served", s.AddressType)
	}
	if len(s.Endpoints) > maxEndpoints {
		return fmt.Errorf("%d endpoints, at most %d are allowed", len(s.Endpoints), maxEndpoints)
	}
	for i, e := range s.Endpoints {
		if len(e.Addresses) == 0 {
			return fmt.Errorf("endpoint %d has no address", i)
		}
		for _, text := range e.Addresses {
			a, err := parseAddr(text)
			if err != nil {
				return fmt.Errorf("endpoint %d: %w", i, err)
			}
			if a.Is4() != (s.AddressType == discoveryv1.AddressTypeIPv4) {
				return fmt.Errorf("endpoint %d: %s is not of addressType %s", i, a, s.AddressType)
			}
		}
	}
	for _, p := range s.Ports {
		if p.Port != nil && (*p.Port < 1 || *p.Port > 65535) {
			return fmt.Errorf("port %d", *p.Port)
		}
	}
	return nil
}

// mergeSlices makes a service's endpoints of all its slices, of which one may be newer than the one in force.
func (w *World) mergeSlices(name string, newer Key, s *discoveryv1.EndpointSlice) {
	ports := map[string]map[netip.AddrPort]mesh.Endpoint{}
	for k := range w.index.slicesOf[name] {
		if k == newer {
			addSlice(ports, s)
			continue
		}
		addSlice(ports, w.objects[k].Value.(*discoveryv1.EndpointSlice))
	}
	if len(w.index.slicesOf[name]) == 0 {
		if w.endpoints[name] != nil {
			delete(w.endpoints, name)
			w.note(EndpointSlice, name)
			w.endpointsChanged(name)
		}
		return
	}
	row := &mesh.Endpoints{Service: splitName(name)}
	for port, set := range ports {
		pe := mesh.PortEndpoints{Port: port}
		for _, e := range set {
			pe.Endpoints = append(pe.Endpoints, e)
		}
		slices.SortFunc(pe.Endpoints, func(a, b mesh.Endpoint) int { return a.Addr.Compare(b.Addr) })
		row.Ports = append(row.Ports, pe)
	}
	slices.SortFunc(row.Ports, func(a, b mesh.PortEndpoints) int { return strings.Compare(a.Port, b.Port) })
	if old := w.endpoints[name]; old != nil && reflect.DeepEqual(old, row) {
		return
	}
	w.endpoints[name] = row
	w.note(EndpointSlice, name)
	w.endpointsChanged(name)
}

// addSlice adds a slice that is checked. An endpoint that is in two slices, as while one is split, is as good as
// the better of the two.
func addSlice(ports map[string]map[netip.AddrPort]mesh.Endpoint, s *discoveryv1.EndpointSlice) {
	for _, p := range s.Ports {
		if p.Port == nil || p.Protocol != nil && *p.Protocol != corev1.ProtocolTCP {
			continue
		}
		set := ports[deref(p.Name)]
		if set == nil {
			set = map[netip.AddrPort]mesh.Endpoint{}
			ports[deref(p.Name)] = set
		}
		for _, e := range s.Endpoints {
			addr, err := parseAddr(e.Addresses[0]) // the others are the same endpoint
			if err != nil {
				continue // checkSlice has refused such
			}
			x := endpoint(netip.AddrPortFrom(addr, uint16(*p.Port)), e)
			if old, twice := set[x.Addr]; twice && rank(old) >= rank(x) {
				continue
			}
			set[x.Addr] = x
		}
	}
}

func endpoint(addr netip.AddrPort, e discoveryv1.Endpoint) mesh.Endpoint {
	ready := e.Conditions.Ready == nil || *e.Conditions.Ready
	serving := ready
	if e.Conditions.Serving != nil {
		serving = *e.Conditions.Serving
	}
	return mesh.Endpoint{
		Addr: addr, Node: deref(e.NodeName), Zone: deref(e.Zone), Zones: hints(e.Hints),
		Ready: ready, Serving: serving, Terminating: e.Conditions.Terminating != nil && *e.Conditions.Terminating,
	}
}

// maxHints is what Kubernetes allows at one endpoint.
const maxHints = 8

func hints(h *discoveryv1.EndpointHints) (zones []string) {
	if h == nil {
		return nil
	}
	for _, z := range h.ForZones {
		if z.Name != "" && len(zones) < maxHints {
			zones = append(zones, z.Name)
		}
	}
	return zones
}

func rank(e mesh.Endpoint) int {
	switch {
	case e.Ready:
		return 2
	case e.Serving:
		return 1
	}
	return 0
}

func deref[T ~string](s *T) T {
	if s == nil {
		return ""
	}
	return *s
}
