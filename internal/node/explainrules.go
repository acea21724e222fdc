package node

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"

	"fairlead.io/fairlead/internal/l7"
	"fairlead.io/fairlead/internal/l7/exchange"
	"fairlead.io/fairlead/internal/l7/routing"
	"fairlead.io/fairlead/internal/mesh"
)

// maxAsked bounds the header fields that may be asked about.
const maxAsked = 64

// requestOf reads the request that is asked about: ?method=&path=&header=name:value, each header once or more. nil is none.
func requestOf(r *http.Request) (*routing.Request, error) {
	q := &routing.Request{Method: r.FormValue("method"), Path: r.FormValue("path")}
	headers := r.Form["header"]
	if q.Method == "" && q.Path == "" && len(headers) == 0 {
		return nil, nil
	}
	if len(headers) > maxAsked {
		return nil, fmt.Errorf("%d headers, at most %d are taken", len(headers), maxAsked)
	}
	for _, h := range headers {
		name, value, ok := strings.Cut(h, ":")
		if name = strings.TrimSpace(name); !ok || !exchange.ValidToken(name) {
			return nil, fmt.Errorf("header %.100q is not name:value", h)
		}
		q.Fields = append(q.Fields, exchange.Field{Name: strings.ToLower(name), Value: strings.TrimSpace(value)})
	}
	if q.Method == "" {
		q.Method = http.MethodGet
	}
	if q.Path == "" {
		q.Path = "/"
	}
	return q, nil
}

// rules tells which rules are in force for a service port, and which of them a request would meet.
func (e *explainer) rules(s *mesh.Snapshot, svc *mesh.Service, port mesh.Port, dst netip.Addr) {
	row := rowOf(s.Routes(svc.Name), port.Number, e.pod.Name.Namespace)
	t, waits := e.b.tables.peek(s, svc, port, dst, e.pod.Name.Namespace)
	switch {
	case waits:
		e.step(false, "routes", "newer rules wait for the endpoints of their backends, %v at most", backendsWait)
	case t == nil && row == nil && e.request == nil:
		return
	case t == nil && row == nil:
		e.step(true, "routes", "none are for port %d: the service's own endpoints serve it", port.Number)
		return
	}
	if t == nil {
		e.step(false, "routes", "there are rules, and none of them is in force")
		return
	}
	e.step(true, "routes", "%s", describe(t, row))
	if len(t.Rules) == 0 {
		e.treat(t.Policy)
	}
	if e.request == nil || t.Kind == mesh.NoRoute || opaque(t) {
		return
	}
	c := t.Match(e.request)
	if c.Rule == nil {
		e.step(false, "rule", "%s %s meets none of them: it is answered with 404", e.request.Method, e.request.Path)
		return
	}
	e.step(true, "rule", "%s %s meets rule %s of %s %s: %s", e.request.Method, e.request.Path, ruleName(c.Rule.Rule), c.Kind, c.Route, shares(c.Rule))
	if texts := filterTexts(&c.Rule.Rule.Filters); len(texts) > 0 {
		e.step(true, "filters", "%s", strings.Join(texts, "; "))
	}
	e.treat(c.Policy)
}

// treat tells what policies make of a request, part by part.
func (e *explainer) treat(t *mesh.Traffic) {
	if t == nil {
		return
	}
	d := treatment(t)
	e.out.Treatment = &d
	for _, p := range d.Parts {
		e.step(true, "traffic", "%s: %s", p.Name, p.Text)
	}
}

// arrival tells whether the request that is asked about would be let in.
func (e *explainer) arrival(src netip.Addr, port uint16) {
	if e.request == nil {
		return
	}
	s := e.b.world.Snapshot()
	row := s.Pod(e.pod.UID)
	if row == nil {
		return // the step before has said so
	}
	d := e.b.deciders.of(s, e.pod, row)
	if d.Trivial() {
		return // everything passes, and the step before has said so
	}
	origin := e.b.Origin(e.pod, netip.AddrPortFrom(src, 0))
	who := e.b.claimed(s, &l7.Arrival{Pod: e.pod, Peer: netip.AddrPortFrom(src, 0)}, d.NeedsID())
	who.Authenticated = origin.Mesh
	head := view{Method: e.request.Method, Path: e.request.Path, Fields: e.request.Fields}
	for _, f := range e.request.Fields {
		if f.Name == "host" {
			head.Authority = f.Value
		}
	}
	v := d.Request(&who, port, &head)
	e.step(v.Allowed, "request", "%s %s %s", e.request.Method, e.request.Path, passes(v))
}

// describe is a table in a sentence.
func describe(t *routing.Table, row *mesh.PortRoutes) string {
	var from []string
	seen := map[mesh.Name]bool{}
	for _, r := range t.Rules {
		if !seen[r.Route] {
			seen[r.Route] = true
			from = append(from, r.Route.String())
		}
	}
	text := fmt.Sprintf("%d rules of %s %s", len(t.Rules), t.Kind, strings.Join(from, ", "))
	if t.Kind == mesh.NoRoute {
		text = "none"
	}
	if row != nil && row.Consumer != "" {
		text += ", for pods of namespace " + row.Consumer + " only"
	}
	if t.Policy != nil {
		text += "; policies of the service: " + listed(t.Policy.From)
	}
	return text
}

// listed is a list of names in one text.
func listed(all []mesh.Name) string {
	texts := make([]string, len(all))
	for i, n := range all {
		texts[i] = n.String()
	}
	return strings.Join(texts, ", ")
}

// shares tells where a rule's requests go.
func shares(r *routing.Rule) string {
	var parts []string
	if r.Rule.Filters.Redirect != nil {
		parts = append(parts, "a redirect")
	}
	for i := range r.Backends {
		b := &r.Backends[i]
		part := fmt.Sprintf("weight %d to %s", b.Weight, b.Label)
		switch {
		case b.Broken != "":
			part += " (answered with 500: " + b.Broken + ")"
		case b.Cluster == nil:
			part += " (answered with 500: there is no such service or port)"
		case len(b.Cluster.Endpoints()) == 0:
			part += " (without an endpoint)"
		}
		parts = append(parts, part)
	}
	for i := range r.Mirrors {
		parts = append(parts, "copies to "+r.Mirrors[i].Label)
	}
	if r.Policy != nil && len(r.Policy.From) > 0 {
		parts = append(parts, "policies "+listed(r.Policy.From))
	}
	if len(parts) == 0 {
		return "no backend: it is answered with 500"
	}
	return strings.Join(parts, "; ")
}
