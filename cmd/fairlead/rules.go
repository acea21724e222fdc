package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"fairlead.io/fairlead/internal/fleet"
	"fairlead.io/fairlead/internal/node/debug"
)

// ruleJSON is a rule in force for other programs, with what it has done at all nodes since the proxies' start.
type ruleJSON struct {
	Service  debug.Name        `json:"service"`
	Port     uint16            `json:"port"`
	Consumer string            `json:"consumer,omitempty"`
	Kind     string            `json:"kind,omitempty"` // of route; empty: there are only policies
	Nodes    []string          `json:"nodes"`          // where it is in force
	Rule     *debug.Rule       `json:"rule,omitempty"`
	Policies debug.Treatment   `json:"policies"`
	Backends []fleet.RuleCount `json:"counted"` // by backend; without one: answered by the proxy
	fleet.RuleActions
}

func (t *tool) rules(ctx context.Context, name string) error {
	c, err := t.connect()
	if err != nil {
		return err
	}
	f := t.fleet(c)
	nodes, err := f.NodePods(ctx)
	if err != nil {
		return err
	}
	told := fleet.Proxies[[]debug.Rules](ctx, f, nodes, debug.RulesPath, nil)
	if err := nobody(told); err != nil {
		return err
	}
	counted := fleet.Scrape(ctx, f, nodes, fleet.ProxyName)
	for _, m := range append(missed(told), missed(counted)...) {
		fmt.Fprintln(t.err, "not counted:", m)
	}
	counts := fleet.RulesOf(counted)
	namespace := t.namespace(c)
	all := slices.DeleteFunc(inForce(told), func(r ruleJSON) bool {
		return namespace != "" && r.Service.Namespace != namespace || name != "" && r.Service.Name != name
	})
	for i := range all {
		r := &all[i]
		key := fleet.RuleKey{Service: r.Service.Namespace + "/" + r.Service.Name, Kind: r.Kind}
		if r.Rule != nil {
			key.Route, key.Rule = r.Rule.Route.Namespace+"/"+r.Rule.Route.Name, r.Rule.Rule
		}
		if n := counts[key]; n != nil {
			r.Backends, r.RuleActions = n.Backends(), n.RuleActions
		}
	}
	if t.format == "json" {
		return printJSON(t.out, all)
	}
	t.printRules(all)
	return nil
}

// inForce joins what the nodes tell: what two of them have alike is one row. Nodes that have different rules for a moment are
// different rows.
func inForce(told []fleet.Told[[]debug.Rules]) []ruleJSON {
	all, at := []ruleJSON{}, map[string]int{}
	add := func(node string, r ruleJSON) {
		key := r.key()
		i, there := at[key]
		if !there {
			i = len(all)
			at[key] = i
			all = append(all, r)
		}
		all[i].Nodes = append(all[i].Nodes, node)
	}
	for _, one := range told {
		for _, s := range one.What {
			row := ruleJSON{Service: s.Service, Port: s.Port, Consumer: s.Consumer, Kind: s.Kind, Policies: s.Policies, Backends: []fleet.RuleCount{}}
			for i := range s.Rules {
				r := row
				r.Rule, r.Policies = &s.Rules[i], s.Rules[i].Policies
				add(one.Node(), r)
			}
			if len(s.Rules) == 0 {
				add(one.Node(), row)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b ruleJSON) int {
		return cmp.Or(cmp.Compare(a.Service.Namespace, b.Service.Namespace), cmp.Compare(a.Service.Name, b.Service.Name), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Consumer, b.Consumer))
	})
	return all
}

// key is what tells one row from another. Endpoints are each node's own.
func (r ruleJSON) key() string {
	if r.Rule != nil {
		rule := *r.Rule
		rule.Backends = slices.Clone(rule.Backends)
		for i := range rule.Backends {
			rule.Backends[i].Endpoints = 0
		}
		r.Rule = &rule
	}
	text, _ := json.Marshal(r) // it came as JSON
	return string(text)
}

// printRules has a line for each backend; what is the rule's own stands in its first one.
func (t *tool) printRules(all []ruleJSON) {
	heads := []string{"SERVICE", ">PORT", "ROUTE", "RULE", "MATCHES", "BACKEND", ">WEIGHT", ">REQUESTS", ">FAILURES", ">RETRIES", ">FAULTS", ">LIMITED", ">MIRRORED"}
	if t.format == "wide" {
		heads = append(heads, "FILTERS", "POLICIES", "CALLERS", "NODES")
	}
	table := newTable(heads...)
	for i := range all {
		r := &all[i]
		service, route, rule, matches, filters := r.Service.Name, none, none, none, none
		if t.all {
			service = r.Service.Namespace + "/" + service
		}
		if r.Rule != nil {
			route, rule = r.Rule.Route.Name, r.Rule.Rule
			if r.Rule.Route.Namespace != r.Service.Namespace {
				route = r.Rule.Route.Namespace + "/" + route
			}
			matches, filters = cmp.Or(strings.Join(r.Rule.Matches, ", "), "*"), dash(strings.Join(r.Rule.Filters, "; "))
		}
		for j, b := range r.lines() {
			cells := []string{service, fmt.Sprint(r.Port), route, rule, matches, b.name, b.weight, fmt.Sprint(b.requests), fmt.Sprint(b.failures)}
			if j == 0 {
				cells = append(cells, fmt.Sprint(r.Retries), fmt.Sprint(r.Faults), fmt.Sprint(r.Limited), fmt.Sprint(r.Mirrored))
			} else {
				cells = append(cells, none, none, none, none)
			}
			if t.format == "wide" {
				var from []string
				for _, n := range r.Policies.From {
					from = append(from, n.Namespace+"/"+n.Name)
				}
				cells = append(cells, filters, dash(strings.Join(from, ", ")), cmp.Or(r.Consumer, "all"), strings.Join(r.Nodes, ", "))
			}
			table.row(cells...)
		}
	}
	table.print(t.out)
}

// backendLine is a backend, and what it was sent.
type backendLine struct {
	name, weight       string
	requests, failures uint64
}

// lines are the backends that the rule has, and after them whatever else has been counted: what the proxy answered itself.
func (r *ruleJSON) lines() (all []backendLine) {
	counted := map[string]fleet.RuleCount{}
	for _, c := range r.Backends {
		counted[c.Backend] = c
	}
	if r.Rule != nil {
		for _, b := range r.Rule.Backends {
			full := b.Service.Namespace + "/" + b.Service.Name
			c := counted[full]
			delete(counted, full) // two ports of one service are counted as one
			name := fmt.Sprintf("%s:%d", strings.TrimPrefix(full, r.Service.Namespace+"/"), b.Port)
			if b.Broken != "" {
				name += " ✗ " + b.Broken
			}
			all = append(all, backendLine{name, fmt.Sprint(b.Weight), c.Requests, c.Failures})
		}
	}
	if own := counted[""]; own.Requests > 0 || len(all) == 0 {
		all = append(all, backendLine{none, none, own.Requests, own.Failures})
	}
	return all
}
