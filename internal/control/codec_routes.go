package control

import (
	"fmt"
	"math"
	"time"

	"fairlead.io/fairlead/internal/control/controlpb"
	"fairlead.io/fairlead/internal/mesh"
)

func encodeRoutes(r *mesh.Routes) *controlpb.Routes {
	out := &controlpb.Routes{Service: encodeName(r.Service)}
	for i := range r.Ports {
		p := &r.Ports[i]
		row := &controlpb.PortRoutes{Port: uint32(p.Port), Consumer: p.Consumer, Kind: controlpb.RouteKind(p.Kind),
			Rules: each(p.Rules, encodeRule), Policy: encodeTraffic(p.Policy)}
		for _, m := range p.Order {
			row.Order = append(row.Order, &controlpb.RuleMatch{Rule: uint32(m.Rule), Match: encodeMatch(m.Match)})
		}
		out.Ports = append(out.Ports, row)
	}
	return out
}

func decodeRoutes(r *controlpb.Routes) (*mesh.Routes, error) {
	out := &mesh.Routes{Service: decodeName(r.GetService())}
	for _, p := range r.GetPorts() {
		row, err := decodePortRoutes(p)
		if err != nil {
			return nil, fmt.Errorf("port %d: %w", p.GetPort(), err)
		}
		out.Ports = append(out.Ports, row)
	}
	return out, nil
}

func decodePortRoutes(p *controlpb.PortRoutes) (row mesh.PortRoutes, err error) {
	row = mesh.PortRoutes{Consumer: p.GetConsumer(), Kind: decodeKind(p.GetKind())}
	if row.Port, err = decodePort(p.GetPort()); err != nil {
		return row, err
	}
	for i, r := range p.GetRules() {
		rule, err := decodeRule(r)
		if err != nil {
			return row, fmt.Errorf("rule %d: %w", i, err)
		}
		row.Rules = append(row.Rules, rule)
	}
	for _, m := range p.GetOrder() {
		if int64(m.GetRule()) >= int64(len(row.Rules)) {
			return row, fmt.Errorf("match for rule %d of %d", m.GetRule(), len(row.Rules))
		}
		if match, known := decodeMatch(m.GetMatch()); known {
			row.Order = append(row.Order, mesh.RuleMatch{Rule: int(m.GetRule()), Match: match})
		}
	}
	row.Policy = decodeTraffic(p.GetPolicy())
	return row, nil
}

func encodeRule(r mesh.Rule) *controlpb.Rule {
	return &controlpb.Rule{Kind: controlpb.RouteKind(r.Kind), Route: encodeName(r.Route), Index: uint32(r.Index), Title: r.Title,
		Filters: encodeFilters(r.Filters), Backends: each(r.Backends, encodeBackend), RequestNs: int64(r.Request), AttemptNs: int64(r.Attempt),
		Policy: encodeTraffic(r.Policy)}
}

func decodeRule(r *controlpb.Rule) (out mesh.Rule, err error) {
	out = mesh.Rule{Kind: decodeKind(r.GetKind()), Route: decodeName(r.GetRoute()), Index: int(r.GetIndex()), Title: r.GetTitle(),
		Request: decodeTime(r.GetRequestNs()), Attempt: decodeTime(r.GetAttemptNs()), Policy: decodeTraffic(r.GetPolicy())}
	if out.Filters, err = decodeFilters(r.GetFilters()); err != nil {
		return out, err
	}
	for _, b := range r.GetBackends() {
		backend, err := decodeBackend(b)
		if err != nil {
			return out, fmt.Errorf("backend %s: %w", decodeName(b.GetService()), err)
		}
		out.Backends = append(out.Backends, backend)
	}
	return out, nil
}

func encodeBackend(b mesh.Backend) *controlpb.Backend {
	return &controlpb.Backend{Service: encodeName(b.Service), Port: uint32(b.Port), Weight: b.Weight, Filters: encodeFilters(b.Filters), Broken: b.Broken}
}

func decodeBackend(b *controlpb.Backend) (out mesh.Backend, err error) {
	out = mesh.Backend{Service: decodeName(b.GetService()), Weight: b.GetWeight(), Broken: b.GetBroken()}
	if out.Port, err = decodePort(b.GetPort()); err != nil {
		return out, err
	}
	out.Filters, err = decodeFilters(b.GetFilters())
	return out, err
}

func encodeMatch(m mesh.Match) *controlpb.Match {
	return &controlpb.Match{PathKind: controlpb.PathKind(m.Path.Kind), Path: m.Path.Value, Method: m.Method, Sni: m.SNI,
		Headers: each(m.Headers, encodeFieldMatch), Query: each(m.Query, encodeFieldMatch)}
}

// decodeMatch tells whether all of the match is known here.
func decodeMatch(m *controlpb.Match) (out mesh.Match, known bool) {
	kind := m.GetPathKind()
	if kind < 0 || kind > controlpb.PathKind(mesh.PathRegex) {
		return out, false
	}
	return mesh.Match{Path: mesh.PathMatch{Kind: mesh.PathKind(kind), Value: m.GetPath()}, Method: m.GetMethod(), SNI: m.GetSni(),
		Headers: each(m.GetHeaders(), decodeFieldMatch), Query: each(m.GetQuery(), decodeFieldMatch)}, true
}

func encodeFieldMatch(f mesh.FieldMatch) *controlpb.FieldMatch {
	return &controlpb.FieldMatch{Name: f.Name, Value: f.Value, Regex: f.Regex}
}

func decodeFieldMatch(f *controlpb.FieldMatch) mesh.FieldMatch {
	return mesh.FieldMatch{Name: f.GetName(), Value: f.GetValue(), Regex: f.GetRegex()}
}

// decodeKind: a kind of a later version is more special than those known here, and so is asked as the most special of them.
func decodeKind(k controlpb.RouteKind) mesh.RouteKind {
	if k < 0 || k > controlpb.RouteKind(mesh.GRPCRoute) {
		return mesh.GRPCRoute
	}
	return mesh.RouteKind(k)
}

func decodePort(n uint32) (uint16, error) {
	if n > math.MaxUint16 {
		return 0, fmt.Errorf("port %d", n)
	}
	return uint16(n), nil
}

// decodeTime: less than nothing is nothing.
func decodeTime(ns int64) time.Duration { return time.Duration(max(ns, 0)) }
