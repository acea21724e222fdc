package testnet

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// rules is what a node's kernel does with connections to services: what kube-proxy is for. The nftables side is nft.go.
type rules struct{ text string }

// rule leads connections to one address and port to the endpoints.
type rule struct {
	addr       netip.AddrPort
	protocol   corev1.Protocol
	endpoints  []netip.AddrPort
	affinity   bool // by the client's address
	masquerade bool // answered through this node: the address is the node's, but the endpoint may be elsewhere
}

// setRules puts the rules for the present services in force, all in one step.
func (n *Node) setRules() error {
	want := n.lab.world.rulesFor(n)
	text := fmt.Sprint(want)
	if text == n.rules.text {
		return nil
	}
	if err := setNFT(n.netns.fd(), want); err != nil {
		return fmt.Errorf("service rules of %s: %w", n.Name, err)
	}
	n.rules.text = text
	return nil
}

func (w *world) rulesFor(n *Node) []rule {
	var list []rule
	for _, k := range slices.Sorted(maps.Keys(w.services)) {
		s := w.services[k]
		if s.Spec.Type == corev1.ServiceTypeExternalName || s.Spec.ClusterIP == corev1.ClusterIPNone {
			continue
		}
		for _, p := range s.Spec.Ports {
			for _, addr := range frontAddrs(s) {
				list = append(list, w.rule(n, s, p, netip.AddrPortFrom(addr, uint16(p.Port)), false))
			}
			if p.NodePort == 0 {
				continue
			}
			for _, addr := range n.Addrs {
				list = append(list, w.rule(n, s, p, netip.AddrPortFrom(addr, uint16(p.NodePort)), true))
			}
		}
	}
	return list
}

// frontAddrs are the addresses that the service answers at on every node.
func frontAddrs(s *corev1.Service) []netip.Addr {
	texts := slices.Concat(s.Spec.ClusterIPs, s.Spec.ExternalIPs)
	for _, i := range s.Status.LoadBalancer.Ingress {
		texts = append(texts, i.IP)
	}
	var addrs []netip.Addr
	for _, text := range texts {
		if a, err := netip.ParseAddr(text); err == nil {
			addrs = append(addrs, a)
		}
	}
	return addrs
}

func (w *world) rule(n *Node, s *corev1.Service, p corev1.ServicePort, addr netip.AddrPort, nodePort bool) rule {
	r := rule{addr: addr, protocol: p.Protocol, affinity: s.Spec.SessionAffinity == corev1.ServiceAffinityClientIP, masquerade: nodePort}
	local := !nodePort && s.Spec.InternalTrafficPolicy != nil && *s.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal
	if nodePort && s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal {
		local, r.masquerade = true, false
	}
	var ready, serving []netip.AddrPort
	for _, slice := range w.slices {
		isV4 := slice.AddressType == discoveryv1.AddressTypeIPv4
		if slice.Namespace != s.Namespace || slice.Labels[discoveryv1.LabelServiceName] != s.Name || isV4 != addr.Addr().Is4() {
			continue
		}
		port := slicePort(slice, p.Name)
		for _, e := range slice.Endpoints {
			to := netip.AddrPortFrom(netip.MustParseAddr(e.Addresses[0]), port)
			switch {
			case port == 0 || local && *e.NodeName != n.Name:
			case *e.Conditions.Ready:
				ready = append(ready, to)
			case *e.Conditions.Serving:
				serving = append(serving, to)
			}
		}
	}
	if r.endpoints = ready; len(ready) == 0 {
		r.endpoints = serving
	}
	slices.SortFunc(r.endpoints, func(a, b netip.AddrPort) int { return cmp.Compare(a.String(), b.String()) })
	return r
}

func slicePort(slice *discoveryv1.EndpointSlice, name string) uint16 {
	for _, p := range slice.Ports {
		if *p.Name == name {
			return uint16(*p.Port)
		}
	}
	return 0
}
