package compile

import (
	"cmp"
	"reflect"
	"slices"

	"fairlead.io/fairlead/internal/mesh"
)

// makeRow makes a Service's row of the routes that are attached to it, and of the policies for it.
func (w *World) makeRow(name string) {
	groups, winners := w.contest(name)
	if len(winners) == 0 {
		delete(w.routes.winners, name)
	} else {
		w.routes.winners[name] = winners
	}
	row := w.row(name, groups, winners, w.trafficFor)
	old := w.routes.rows[name]
	switch {
	case row == nil && old == nil, row != nil && old != nil && reflect.DeepEqual(old, row):
		return
	case row == nil:
		delete(w.routes.rows, name)
		delete(w.routes.shadows, name)
	default:
		w.routes.rows[name], w.routes.shadows[name] = row, shadowsOf(row)
	}
	w.note(routesRow, name)
}

// contest is the routes that want each port of a Service, the older first, and of each port the one that decides what
// kind of route it has: the first of the most specific kind.
func (w *World) contest(name string) (map[portGroup][]*route, map[portGroup]*route) {
	s := w.services[name]
	service := splitName(name)
	groups, winners := map[portGroup][]*route{}, map[portGroup]*route{}
	var attached []*route
	for k := range w.routes.parents[name] {
		attached = append(attached, w.routes.of[k])
	}
	slices.SortFunc(attached, func(a, b *route) int { return cmp.Or(-cmp.Compare(a.kind, b.kind), older(a, b)) })
	for _, r := range attached {
		for _, p := range r.parents {
			if p.service != service {
				continue
			}
			ports, _ := p.attach(s) // that there are none is for the status to say
			for _, port := range ports {
				g := portGroup{port, r.consumer(service)}
				if winners[g] == nil {
					winners[g] = r
				}
				in := groups[g]
				twice := len(in) > 0 && in[len(in)-1] == r
				if winners[g].kind == r.kind && !twice {
					groups[g] = append(in, r)
				}
			}
		}
	}
	return groups, winners
}

// traffic tells what policies say of a rule, a route, or with the zero Key a Service.
type traffic func(service mesh.Name, route Key, rule string) *mesh.Traffic

func (w *World) row(name string, groups map[portGroup][]*route, winners map[portGroup]*route, of traffic) *mesh.Routes {
	service := splitName(name)
	row := &mesh.Routes{Service: service}
	policy := of(service, Key{}, "")
	for g, routes := range groups {
		p := mesh.PortRoutes{Port: g.port, Consumer: g.consumer, Kind: winners[g].kind, Policy: policy}
		p.Rules, p.Order = inPrecedence(routes, func(r *route) []mesh.Rule { return rulesFor(r, service, of) })
		row.Ports = append(row.Ports, p)
	}
	if s := w.services[name]; s != nil && policy != nil {
		for _, p := range s.Ports {
			if _, there := groups[portGroup{p.Number, ""}]; !there {
				row.Ports = append(row.Ports, mesh.PortRoutes{Port: p.Number, Policy: policy})
			}
		}
	}
	if len(row.Ports) == 0 {
		return nil
	}
	slices.SortFunc(row.Ports, func(a, b mesh.PortRoutes) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.Consumer, b.Consumer))
	})
	return row
}

// rulesFor are a route's rules for the traffic to a Service, with what policies say of them.
func rulesFor(r *route, service mesh.Name, of traffic) []mesh.Rule {
	out := slices.Clone(r.resolved[service].rules)
	for i := range out {
		out[i].Policy = unlessStated(of(service, r.key, out[i].Title), &r.rules[i])
	}
	return out
}

// unlessStated is a policy without the timeouts that the rule states itself. One that is stated may be none.
func unlessStated(policy *mesh.Traffic, x *rule) *mesh.Traffic {
	if policy == nil || policy.Timeouts == nil || !x.statesRequest && !x.statesAttempt {
		return policy
	}
	own, timeouts := *policy, *policy.Timeouts
	own.Timeouts = &timeouts
	if x.statesRequest {
		timeouts.Request = 0
	}
	if x.statesAttempt {
		timeouts.Attempt = 0
	}
	return &own
}
