// Package routing decides what becomes of a request to a Service that has rules: a Table is made of a row of mesh.PortRoutes,
// and finds the rule for a request; a Rule draws a backend, and its Filters change the request and the answer.
//
// Promises:
//  1. The first match of PortRoutes.Order that holds decides; an index makes that cheap, and is never asked what it means.
//  2. A Table never changes. It is safe for concurrent use.
//  3. To find a rule takes no lock, and no memory but where a regular expression is asked about several fields of one name or an
//     escaped parameter, and for values beyond 512 bytes of those two kinds.
//  4. What a request costs is bounded by the table, whatever the request: a path is not looked at beyond the longest prefix.
//     What nothing exact tells apart is asked one after the other: a thousand rules of regular expressions cost a thousand of them.
package routing

import (
	"fmt"
	"sync/atomic"

	"fairlead.io/fairlead/internal/l7/balance"
	"fairlead.io/fairlead/internal/l7/exchange"
	"fairlead.io/fairlead/internal/mesh"
)

// Table is the rules of one port of a Service, as one caller has them.
type Table struct {
	Port   uint16
	Kind   mesh.RouteKind
	Policy *mesh.Traffic // of the port, where there are no rules
	Faults Faults        // of Policy
	Rules  []*Rule
	order  []condition
	paths  index
}

// Clusters finds the endpoints of a backend; nil if there is no such Service or port.
type Clusters func(service mesh.Name, port uint16) *balance.Cluster

// New makes a table. An error names the rule that cannot be: the row comes from a compiler that has checked it, so there is
// none, or the two do not understand each other.
func New(p *mesh.PortRoutes, clusters Clusters) (*Table, error) {
	t := &Table{Port: p.Port, Kind: p.Kind, Policy: p.Policy}
	var err error
	if t.Faults, err = newFaults(p.Policy); err != nil {
		return nil, err
	}
	for i := range p.Rules {
		r, err := newRule(&p.Rules[i], clusters)
		if err != nil {
			return nil, fmt.Errorf("rule %d of %s %s: %w", p.Rules[i].Index, p.Rules[i].Kind, p.Rules[i].Route, err)
		}
		t.Rules = append(t.Rules, r)
	}
	t.order = make([]condition, len(p.Order))
	for i := range p.Order {
		m := &p.Order[i]
		if m.Rule < 0 || m.Rule >= len(t.Rules) {
			return nil, fmt.Errorf("match %d: there is no rule %d", i, m.Rule)
		}
		c, err := newCondition(&m.Match)
		if err != nil {
			r := t.Rules[m.Rule]
			return nil, fmt.Errorf("match of rule %d of %s %s: %w", r.Index, r.Kind, r.Route, err)
		}
		c.rule = t.Rules[m.Rule]
		t.order[i] = c
	}
	t.paths = newIndex(t.order)
	return t, nil
}

// Request is what a match looks at.
type Request struct {
	Method string
	Path   string // with its query, as in exchange.Head
	Fields []exchange.Field
}

// Choice is a rule, and what of the path its match has matched, if that was a prefix.
type Choice struct {
	*Rule
	Prefix string
}

// Match finds the rule for a request; none of them, and Choice.Rule is nil.
func (t *Table) Match(q *Request) Choice {
	i := t.paths.first(t.order, q)
	if i < 0 {
		return Choice{}
	}
	c := &t.order[i]
	if c.match.Path.Kind == mesh.PathPrefix {
		return Choice{c.rule, c.match.Path.Value}
	}
	return Choice{c.rule, ""}
}

// MatchName finds the rule for a connection by the name of its TLS handshake, which may be empty: for TLSRoutes and TCPRoutes.
func (t *Table) MatchName(sni string) *Rule {
	for i := range t.order {
		if c := &t.order[i]; sameHost(c.match.SNI, sni) {
			return c.rule
		}
	}
	return nil
}

// Live is the table in force for a port and its callers, nil while there is none. Its zero value is ready.
type Live struct{ table atomic.Pointer[Table] }

// Table is the one in force; nil if the traffic goes as without rules.
func (l *Live) Table() *Table {
	if l == nil {
		return nil
	}
	return l.table.Load()
}

// Set exchanges it.
func (l *Live) Set(t *Table) { l.table.Store(t) }
