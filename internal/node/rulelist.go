package node

import (
	"cmp"
	"slices"

	"fairlead.io/fairlead/internal/l7/routing"
	"fairlead.io/fairlead/internal/mesh"
	"fairlead.io/fairlead/internal/node/debug"
)

// ruleList is what is in force at the service ports that this node's pods have used.
func (n *node) ruleList() []debug.Rules {
	b := n.brain.Load()
	if b == nil {
		return []debug.Rules{}
	}
	return b.tables.list()
}

// list tells the rules in force, once for each port and those that they are for.
func (t *tables) list() []debug.Rules {
	all := []debug.Rules{}
	type portKey struct {
		service  mesh.Name
		port     uint16
		consumer string
	}
	seen := map[portKey]bool{}
	t.mu.Lock()
	for key, e := range t.m {
		made := e.live.Table()
		if e.row == nil || made == nil {
			continue
		}
		if k := (portKey{key.service, key.port, e.row.Consumer}); !seen[k] {
			seen[k] = true
			all = append(all, rulesOf(key.service, e.row, made, !e.due.IsZero()))
		}
	}
	t.mu.Unlock()
	slices.SortFunc(all, func(a, b debug.Rules) int {
		return cmp.Or(cmp.Compare(a.Service.Namespace, b.Service.Namespace), cmp.Compare(a.Service.Name, b.Service.Name), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Consumer, b.Consumer))
	})
	return all
}

// rulesOf tells a table. The row's rules are the table's, in the same order.
func rulesOf(service mesh.Name, row *mesh.PortRoutes, t *routing.Table, waits bool) debug.Rules {
	d := debug.Rules{Service: plainName(service), Port: row.Port, Consumer: row.Consumer, Kind: row.Kind.String(), Waits: waits,
		Policies: treatment(t.Policy), Rules: []debug.Rule{}}
	matches := make([][]string, len(t.Rules))
	for i := range row.Order {
		if m := &row.Order[i]; m.Rule < len(matches) {
			matches[m.Rule] = append(matches[m.Rule], matchText(&m.Match))
		}
	}
	for i, r := range t.Rules {
		rule := debug.Rule{Route: plainName(r.Route), Rule: ruleName(r.Rule), Matches: matches[i], Filters: filterTexts(&r.Rule.Filters),
			Backends: []debug.Backend{}, Policies: treatment(r.Policy)}
		for j := range r.Backends {
			rule.Backends = append(rule.Backends, backendOf(&r.Backends[j]))
		}
		d.Rules = append(d.Rules, rule)
	}
	return d
}

func backendOf(b *routing.Backend) debug.Backend {
	d := debug.Backend{Service: plainName(b.Service), Port: b.Port, Weight: b.Weight, Broken: b.Broken}
	switch {
	case b.Cluster != nil:
		d.Endpoints = len(b.Cluster.Endpoints())
	case d.Broken == "":
		d.Broken = "there is no such service or port"
	}
	return d
}

func plainName(n mesh.Name) debug.Name { return debug.Name{Namespace: n.Namespace, Name: n.Name} }
