package control

import (
	"fmt"
	"math"
	"net/netip"

	"fairlead.io/fairlead/internal/control/controlpb"
	"fairlead.io/fairlead/internal/mesh"
)

func encodeDelta(d mesh.Delta) *controlpb.Delta {
	out := &controlpb.Delta{
		Reset_: d.Reset, Version: d.Version, AllEndpoints: d.AllEndpoints,
		GonePods: d.GonePods, GoneNodes: d.GoneNodes,
		GoneServices: each(d.GoneServices, encodeName), GoneEndpoints: each(d.GoneEndpoints, encodeName),
		Pods: each(d.Pods, encodePod), Services: each(d.Services, encodeService), Endpoints: each(d.Endpoints, encodeEndpoints),
		Routes: each(d.Routes, encodeRoutes), GoneRoutes: each(d.GoneRoutes, encodeName),
		Authorizations: each(d.Authorizations, encodeAuthorization), GoneAuthorizations: each(d.GoneAuthorizations, encodeName),
	}
	for _, n := range d.Nodes {
		out.Nodes = append(out.Nodes, &controlpb.Node{Name: n.Name, Zone: n.Zone, Addresses: encodeAddrs(n.Addrs)})
	}
	return out
}

func encodePod(p *mesh.Pod) *controlpb.Pod {
	return &controlpb.Pod{
		Uid: p.UID, Name: encodeName(p.Name), Account: encodeAccount(p.Account), Node: p.Node, Workload: p.Workload,
		Addresses: encodeAddrs(p.Addrs), InMesh: p.InMesh, HostNet: p.HostNet, DefaultPolicy: controlpb.DefaultPolicy(p.Policy),
		Policies: each(p.Policies, encodePolicyRef), Open: p.Open,
	}
}

func encodeService(s *mesh.Service) *controlpb.Service {
	out := &controlpb.Service{
		Name: encodeName(s.Name), Addresses: encodeAddrs(s.Addrs), Headless: s.Headless,
		ExternalName: s.ExternalName, Affinity: uint32(max(s.Affinity, 0)), LocalOnly: s.LocalOnly,
		Distribution: controlpb.Distribution(s.Distribution),
	}
	for _, p := range s.Ports {
		out.Ports = append(out.Ports, &controlpb.Port{
			Name: p.Name, Number: uint32(p.Number), NodePort: uint32(p.NodePort), Protocol: controlpb.Protocol(p.Protocol),
		})
	}
	return out
}

func encodeEndpoints(e *mesh.Endpoints) *controlpb.Endpoints {
	out := &controlpb.Endpoints{Service: encodeName(e.Service)}
	for _, p := range e.Ports {
		pe := &controlpb.PortEndpoints{Port: p.Port}
		for _, x := range p.Endpoints {
			pe.Endpoints = append(pe.Endpoints, &controlpb.Endpoint{
				Address: x.Addr.Addr().AsSlice(), Port: uint32(x.Addr.Port()), Node: x.Node, Zone: x.Zone,
				Ready: x.Ready, Serving: x.Serving, Terminating: x.Terminating, Zones: x.Zones,
			})
		}
		out.Ports = append(out.Ports, pe)
	}
	return out
}

func decodeDelta(d *controlpb.Delta) (mesh.Delta, error) {
	out := mesh.Delta{
		Reset: d.GetReset_(), Version: d.GetVersion(), AllEndpoints: d.GetAllEndpoints(),
		GonePods: d.GetGonePods(), GoneNodes: d.GetGoneNodes(),
		GoneServices: each(d.GetGoneServices(), decodeName), GoneEndpoints: each(d.GetGoneEndpoints(), decodeName),
		GoneRoutes: each(d.GetGoneRoutes(), decodeName), GoneAuthorizations: each(d.GetGoneAuthorizations(), decodeName),
	}
	for _, p := range d.GetPods() {
		addrs, err := decodeAddrs(p.GetAddresses())
		if err != nil {
			return out, fmt.Errorf("pod %s: %w", p.GetUid(), err)
		}
		out.Pods = append(out.Pods, &mesh.Pod{
			UID: p.GetUid(), Name: decodeName(p.GetName()), Account: decodeAccount(p.GetAccount()), Node: p.GetNode(),
			Workload: p.GetWorkload(), Addrs: addrs, InMesh: p.GetInMesh(), HostNet: p.GetHostNet(), Policy: decodePolicy(p.GetDefaultPolicy()),
			Policies: decodePolicyRefs(p.GetPolicies()), Open: p.GetOpen(),
		})
	}
	for _, n := range d.GetNodes() {
		addrs, err := decodeAddrs(n.GetAddresses())
		if err != nil {
			return out, fmt.Errorf("node %s: %w", n.GetName(), err)
		}
		out.Nodes = append(out.Nodes, &mesh.Node{Name: n.GetName(), Zone: n.GetZone(), Addrs: addrs})
	}
	for _, s := range d.GetServices() {
		svc, err := decodeService(s)
		if err != nil {
			return out, fmt.Errorf("service %s: %w", decodeName(s.GetName()), err)
		}
		out.Services = append(out.Services, svc)
	}
	for _, e := range d.GetEndpoints() {
		eps, err := decodeEndpoints(e)
		if err != nil {
			return out, fmt.Errorf("endpoints of %s: %w", decodeName(e.GetService()), err)
		}
		out.Endpoints = append(out.Endpoints, eps)
	}
	for _, r := range d.GetRoutes() {
		routes, err := decodeRoutes(r)
		if err != nil {
			return out, fmt.Errorf("routes of %s: %w", decodeName(r.GetService()), err)
		}
		out.Routes = append(out.Routes, routes)
	}
	for _, a := range d.GetAuthorizations() {
		policy, err := decodeAuthorization(a)
		if err != nil {
			return out, fmt.Errorf("policy %s: %w", decodeName(a.GetName()), err)
		}
		out.Authorizations = append(out.Authorizations, policy)
	}
	return out, nil
}

func decodeService(s *controlpb.Service) (*mesh.Service, error) {
	addrs, err := decodeAddrs(s.GetAddresses())
	if err != nil {
		return nil, err
	}
	out := &mesh.Service{
		Name: decodeName(s.GetName()), Addrs: addrs, Headless: s.GetHeadless(), ExternalName: s.GetExternalName(),
		Affinity: int(s.GetAffinity()), LocalOnly: s.GetLocalOnly(), Distribution: decodeDistribution(s.GetDistribution()),
	}
	for _, p := range s.GetPorts() {
		if p.GetNumber() > math.MaxUint16 || p.GetNodePort() > math.MaxUint16 {
			return nil, fmt.Errorf("port %d, node port %d", p.GetNumber(), p.GetNodePort())
		}
		out.Ports = append(out.Ports, mesh.Port{
			Name: p.GetName(), Number: uint16(p.GetNumber()), NodePort: uint16(p.GetNodePort()), Protocol: decodeProtocol(p.GetProtocol()),
		})
	}
	return out, nil
}

func decodeEndpoints(e *controlpb.Endpoints) (*mesh.Endpoints, error) {
	out := &mesh.Endpoints{Service: decodeName(e.GetService())}
	for _, p := range e.GetPorts() {
		pe := mesh.PortEndpoints{Port: p.GetPort()}
		for _, x := range p.GetEndpoints() {
			addr, ok := netip.AddrFromSlice(x.GetAddress())
			if !ok || x.GetPort() > math.MaxUint16 {
				return nil, fmt.Errorf("address of %d bytes, port %d", len(x.GetAddress()), x.GetPort())
			}
			pe.Endpoints = append(pe.Endpoints, mesh.Endpoint{
				Addr: netip.AddrPortFrom(addr.Unmap(), uint16(x.GetPort())), Node: x.GetNode(), Zone: x.GetZone(),
				Ready: x.GetReady(), Serving: x.GetServing(), Terminating: x.GetTerminating(), Zones: x.GetZones(),
			})
		}
		out.Ports = append(out.Ports, pe)
	}
	return out, nil
}

// decodeProtocol: a protocol of a later version is one to detect.
func decodeProtocol(p controlpb.Protocol) mesh.Protocol {
	if p < 0 || p > controlpb.Protocol(mesh.HTTP2) {
		return mesh.Unknown
	}
	return mesh.Protocol(p)
}

// decodeDistribution: one of a later version is none.
func decodeDistribution(d controlpb.Distribution) mesh.Distribution {
	if d < 0 || d > controlpb.Distribution(mesh.PreferSameNode) {
		return mesh.AnyEndpoint
	}
	return mesh.Distribution(d)
}

// decodePolicy: of one of a later version nothing is known, so it is the strictest.
func decodePolicy(p controlpb.DefaultPolicy) mesh.DefaultPolicy {
	if p < 0 || p > controlpb.DefaultPolicy(mesh.PolicyDeny) {
		return mesh.PolicyDeny
	}
	return mesh.DefaultPolicy(p)
}

func encodeName(n mesh.Name) *controlpb.Name {
	return &controlpb.Name{Namespace: n.Namespace, Name: n.Name}
}

func decodeName(n *controlpb.Name) mesh.Name {
	return mesh.Name{Namespace: n.GetNamespace(), Name: n.GetName()}
}

func encodeAccount(a mesh.Account) *controlpb.Account {
	return &controlpb.Account{Namespace: a.Namespace, Name: a.Name}
}

func decodeAccount(a *controlpb.Account) mesh.Account {
	return mesh.Account{Namespace: a.GetNamespace(), Name: a.GetName()}
}

func encodeAddrs(addrs []netip.Addr) [][]byte {
	return each(addrs, func(a netip.Addr) []byte { return a.AsSlice() })
}

func decodeAddrs(raw [][]byte) ([]netip.Addr, error) {
	var out []netip.Addr
	for _, b := range raw {
		a, ok := netip.AddrFromSlice(b)
		if !ok {
			return nil, fmt.Errorf("address of %d bytes", len(b))
		}
		out = append(out, a.Unmap())
	}
	return out, nil
}

func each[A, B any](in []A, f func(A) B) []B {
	if len(in) == 0 {
		return nil
	}
	out := make([]B, len(in))
	for i, x := range in {
		out[i] = f(x)
	}
	return out
}
