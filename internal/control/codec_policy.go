package control

import (
	"fmt"
	"net/netip"

	"fairlead.io/fairlead/internal/control/controlpb"
	"fairlead.io/fairlead/internal/mesh"
)

func encodeAuthorization(a *mesh.Authorization) *controlpb.Authorization {
	out := &controlpb.Authorization{Name: encodeName(a.Name), Action: controlpb.Action(a.Action), Mesh: a.Mesh, All: a.All}
	for _, p := range a.Ports {
		out.Ports = append(out.Ports, uint32(p))
	}
	for _, r := range a.Rules {
		rule := &controlpb.AuthRule{From: each(r.From, encodePeer)}
		for _, o := range r.To {
			rule.To = append(rule.To, &controlpb.Operation{Matches: each(o.Matches, encodeMatch)})
		}
		out.Rules = append(out.Rules, rule)
	}
	return out
}

// decodeAuthorization fails closed: an action of a later version is DENY, and what of a rule is not known here holds for DENY,
// and for nothing else.
func decodeAuthorization(a *controlpb.Authorization) (*mesh.Authorization, error) {
	out := &mesh.Authorization{Name: decodeName(a.GetName()), Action: mesh.Action(a.GetAction()), Mesh: a.GetMesh(), All: a.GetAll()}
	if a.GetAction() < 0 || a.GetAction() > controlpb.Action(mesh.Audit) {
		out.Action = mesh.Deny
	}
	for _, p := range a.GetPorts() {
		port, err := decodePort(p)
		if err != nil {
			return nil, err
		}
		out.Ports = append(out.Ports, port)
	}
	for i, r := range a.GetRules() {
		rule := mesh.AuthRule{}
		for _, p := range r.GetFrom() {
			peer, err := decodePeer(p)
			if err != nil {
				return nil, fmt.Errorf("rule %d: %w", i, err)
			}
			rule.From = append(rule.From, peer)
		}
		known := true
		rule.To, known = decodeOperations(r.GetTo(), out.Action)
		if known {
			out.Rules = append(out.Rules, rule)
		}
	}
	return out, nil
}

// decodeOperations is false if nothing is left of what a rule is about.
func decodeOperations(in []*controlpb.Operation, action mesh.Action) (out []mesh.Operation, known bool) {
	for _, o := range in {
		x := mesh.Operation{}
		for _, m := range o.GetMatches() {
			match, known := decodeMatch(m)
			switch {
			case known:
				x.Matches = append(x.Matches, match)
			case action == mesh.Deny:
				x.Matches = append(x.Matches, mesh.Match{Method: m.GetMethod()}) // whatever the path
			}
		}
		if len(x.Matches) > 0 || len(o.GetMatches()) == 0 {
			out = append(out, x)
		}
	}
	return out, len(out) > 0 || len(in) == 0
}

func encodePeer(p mesh.Peer) *controlpb.Peer {
	return &controlpb.Peer{Ids: p.IDs, Accounts: each(p.Accounts, encodeAccount), Namespaces: p.Namespaces, Cidrs: each(p.CIDRs, encodePrefix),
		Except: each(p.Except, encodePrefix), Authenticated: p.Authenticated, Unauthenticated: p.Unauthenticated}
}

func decodePeer(p *controlpb.Peer) (out mesh.Peer, err error) {
	out = mesh.Peer{IDs: p.GetIds(), Accounts: each(p.GetAccounts(), decodeAccount), Namespaces: p.GetNamespaces(),
		Authenticated: p.GetAuthenticated(), Unauthenticated: p.GetUnauthenticated()}
	if out.CIDRs, err = decodePrefixes(p.GetCidrs()); err != nil {
		return out, err
	}
	out.Except, err = decodePrefixes(p.GetExcept())
	return out, err
}

func encodePrefix(p netip.Prefix) *controlpb.Prefix {
	return &controlpb.Prefix{Address: p.Addr().AsSlice(), Bits: uint32(max(p.Bits(), 0))}
}

func decodePrefixes(in []*controlpb.Prefix) (out []netip.Prefix, err error) {
	for _, p := range in {
		addr, ok := netip.AddrFromSlice(p.GetAddress())
		if !ok || p.GetBits() > uint32(addr.BitLen()) {
			return nil, fmt.Errorf("network of %d bytes and %d bits", len(p.GetAddress()), p.GetBits())
		}
		out = append(out, netip.PrefixFrom(addr, int(p.GetBits())))
	}
	return out, nil
}

func encodePolicyRef(r mesh.PolicyRef) *controlpb.PolicyRef {
	return &controlpb.PolicyRef{Policy: encodeName(r.Policy), Port: uint32(r.Port)}
}

// decodePolicyRefs: a port that is none is every port.
func decodePolicyRefs(in []*controlpb.PolicyRef) (out []mesh.PolicyRef) {
	for _, r := range in {
		port, _ := decodePort(r.GetPort())
		out = append(out, mesh.PolicyRef{Policy: decodeName(r.GetPolicy()), Port: port})
	}
	return out
}
