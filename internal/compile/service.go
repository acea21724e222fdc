package compile

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"fairlead.io/fairlead/internal/mesh"
)

// defaultAffinity is what Kubernetes takes for sessionAffinity: ClientIP without a timeout, in seconds.
const defaultAffinity = 10800

func parseAddr(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("bad address: %w", err)
	}
	a = a.Unmap()
	if a.Zone() != "" || !usable(a) {
		return netip.Addr{}, fmt.Errorf("bad address %s: not one that others can reach", s)
	}
	return a, nil
}

func usable(a netip.Addr) bool {
	return a.IsValid() && !a.IsUnspecified() && !a.IsLoopback() && !a.IsMulticast() && !a.IsLinkLocalUnicast()
}

func splitName(key string) mesh.Name {
	ns, name, _ := strings.Cut(key, "/")
	return mesh.Name{Namespace: ns, Name: name}
}

func (w *World) setService(k Key, s *corev1.Service) (warnings []error, err error) {
	row, err := serviceRow(s)
	if err != nil {
		return nil, err
	}
	var things []any
	for _, a := range row.Addrs {
		things = append(things, a)
	}
	for _, p := range row.Ports {
		if p.NodePort != 0 {
			things = append(things, nodePort(p.NodePort))
		}
	}
	for _, t := range things {
		if err := w.claims.taken(k, t); err != nil {
			return nil, err
		}
	}
	// Addresses from outside are given by others, and can be shared; a Service is served without those that are taken.
	for _, text := range externalAddrs(s) {
		addr, err := parseAddr(text)
		if err == nil {
			err = w.claims.taken(k, addr)
		}
		if err != nil {
			warnings = append(warnings, fmt.Errorf("external address left out: %w", err))
			continue
		}
		if !slices.Contains(row.Addrs, addr) {
			row.Addrs = append(row.Addrs, addr)
			things = append(things, addr)
		}
	}
	if len(row.Addrs) == 0 && !row.Headless && row.ExternalName == "" {
		warnings = append(warnings, errors.New("no cluster IP: nothing can be sent to it"))
	}
	w.claims.set(k, things)
	key := row.String()
	if old := w.services[key]; old != nil && reflect.DeepEqual(old, row) {
		return warnings, nil
	}
	w.services[key] = row
	w.note(Service, key)
	w.serviceChanged(key)
	return warnings, nil
}

// serviceRow compiles all but the external addresses.
func serviceRow(s *corev1.Service) (*mesh.Service, error) {
	row := &mesh.Service{Name: mesh.Name{Namespace: s.Namespace, Name: s.Name}}
	switch s.Spec.Type {
	case corev1.ServiceTypeExternalName:
		if s.Spec.ExternalName == "" || len(s.Spec.ExternalName) > 253 {
			return nil, errors.New("type ExternalName without a proper externalName")
		}
		row.ExternalName = s.Spec.ExternalName
	case "", corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer:
		if err := clusterIPs(s, row); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("unknown type %q", s.Spec.Type)
	}
	if err := servicePorts(s, row); err != nil {
		return nil, err
	}
	switch s.Spec.SessionAffinity {
	case "", corev1.ServiceAffinityNone:
	case corev1.ServiceAffinityClientIP:
		row.Affinity = defaultAffinity
		if c := s.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
			row.Affinity = int(*c.ClientIP.TimeoutSeconds)
		}
		if row.Affinity <= 0 || row.Affinity > 86400 {
			return nil, fmt.Errorf("session affinity of %d seconds", row.Affinity)
		}
	default:
		return nil, fmt.Errorf("unknown sessionAffinity %q", s.Spec.SessionAffinity)
	}
	if p := s.Spec.InternalTrafficPolicy; p != nil {
		switch *p {
		case corev1.ServiceInternalTrafficPolicyCluster:
		case corev1.ServiceInternalTrafficPolicyLocal:
			row.LocalOnly = true
		default:
			return nil, fmt.Errorf("unknown internalTrafficPolicy %q", *p)
		}
	}
	row.Distribution = distribution(s.Spec.TrafficDistribution)
	return row, nil
}

// distribution is a preference only: one that is not known is none.
func distribution(p *string) mesh.Distribution {
	switch deref(p) {
	case corev1.ServiceTrafficDistributionPreferClose, corev1.ServiceTrafficDistributionPreferSameZone:
		return mesh.PreferSameZone
	case corev1.ServiceTrafficDistributionPreferSameNode:
		return mesh.PreferSameNode
	}
	return mesh.AnyEndpoint
}

func clusterIPs(s *corev1.Service, row *mesh.Service) error {
	ips := s.Spec.ClusterIPs
	if len(ips) == 0 && s.Spec.ClusterIP != "" {
		ips = []string{s.Spec.ClusterIP}
	}
	if len(ips) > 0 && s.Spec.ClusterIP != "" && ips[0] != s.Spec.ClusterIP {
		return fmt.Errorf("clusterIP %s is not the first of clusterIPs", s.Spec.ClusterIP)
	}
	if len(ips) == 1 && ips[0] == corev1.ClusterIPNone {
		row.Headless = true
		return nil
	}
	for _, text := range ips {
		addr, err := parseAddr(text)
		if err != nil {
			return fmt.Errorf("clusterIP: %w", err)
		}
		if slices.Contains(row.Addrs, addr) {
			return fmt.Errorf("clusterIP %s twice", addr)
		}
		row.Addrs = append(row.Addrs, addr)
	}
	return nil
}

func servicePorts(s *corev1.Service, row *mesh.Service) error {
	exposed := s.Spec.Type == corev1.ServiceTypeNodePort || s.Spec.Type == corev1.ServiceTypeLoadBalancer
	for _, p := range s.Spec.Ports {
		if p.Protocol != "" && p.Protocol != corev1.ProtocolTCP {
			continue
		}
		if p.Port < 1 || p.Port > 65535 || p.NodePort < 0 || p.NodePort > 65535 {
			return fmt.Errorf("port %d, node port %d", p.Port, p.NodePort)
		}
		for _, q := range row.Ports {
			if q.Number == uint16(p.Port) || q.Name == p.Name {
				return fmt.Errorf("port %d (%q) twice", p.Port, p.Name)
			}
		}
		port := mesh.Port{Name: p.Name, Number: uint16(p.Port)}
		if exposed {
			port.NodePort = uint16(p.NodePort)
		}
		if p.AppProtocol != nil {
			port.Protocol = mesh.ParseAppProtocol(*p.AppProtocol)
		}
		row.Ports = append(row.Ports, port)
	}
	return nil
}

func externalAddrs(s *corev1.Service) []string {
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	out := slices.Clone(s.Spec.ExternalIPs)
	if s.Spec.Type == corev1.ServiceTypeLoadBalancer {
		for _, i := range s.Status.LoadBalancer.Ingress {
			if i.IP != "" {
				out = append(out, i.IP)
			}
		}
	}
	return out
}
