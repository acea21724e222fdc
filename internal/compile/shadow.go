package compile

import (
	"fmt"
	"slices"
	"strings"

	"fairlead.io/fairlead/internal/mesh"
)

// reasonShadowed begins what is said of such a rule, as the reasons of conditions begin other problems.
const reasonShadowed = "Shadowed"

// maxCompared bounds how many matches of a port are compared with each other, as each is with all before it.
const maxCompared = 1000

// shadowProblems are rules that no request ever meets.
func (w *World) shadowProblems() (out []Problem) {
	for name, ports := range w.routes.shadows {
		row := w.routes.rows[name]
		for i, found := range ports {
			p := &row.Ports[i]
			for _, s := range found {
				r, by := &p.Rules[s.rule], &p.Rules[s.by]
				o := w.objects[Key{Kind: Kind(r.Kind.String()), Namespace: r.Route.Namespace, Name: r.Route.Name}]
				out = append(out, problems(o, []error{fmt.Errorf("%s: no request to Service %s, port %d, ever meets rule %d: rule %d of %s %s takes what it matches before",
					reasonShadowed, row.Service, p.Port, r.Index, by.Index, by.Kind, by.Route)})...)
			}
		}
	}
	return out
}

// shadowsOf looks for them in each port of a row, once: problems are asked for often.
func shadowsOf(row *mesh.Routes) [][]shadow {
	out := make([][]shadow, len(row.Ports))
	for i := range row.Ports {
		out[i] = shadowed(&row.Ports[i])
	}
	return out
}

// shadow is a rule, and one of those that take its requests. Both are indices in PortRoutes.Rules.
type shadow struct{ rule, by int }

// shadowed finds the rules every match of which comes after an equal or wider one of another rule. Of several TCPRoutes the
// status of each says who has the port.
func shadowed(p *mesh.PortRoutes) (out []shadow) {
	if p.Kind == mesh.TCPRoute || len(p.Order) > maxCompared {
		return nil
	}
	open, by := make([]bool, len(p.Rules)), make([]int, len(p.Rules))
	for i := range by {
		by[i] = -1
	}
	for i := range p.Order {
		m := &p.Order[i]
		if open[m.Rule] {
			continue
		}
		before := slices.IndexFunc(p.Order[:i], func(o mesh.RuleMatch) bool { return o.Rule != m.Rule && covers(&o.Match, &m.Match) })
		if before < 0 {
			open[m.Rule] = true
		} else if by[m.Rule] < 0 {
			by[m.Rule] = p.Order[before].Rule
		}
	}
	for i := range p.Rules {
		if !open[i] && by[i] >= 0 {
			out = append(out, shadow{i, by[i]})
		}
	}
	return out
}

// covers tells whether everything that m matches is matched by wide. It may say no where that is so: of two regular expressions
// only equal ones are compared.
func covers(wide, m *mesh.Match) bool {
	return (wide.Method == "" || wide.Method == m.Method) && coversPath(wide.Path, m.Path) && coversName(wide.SNI, m.SNI) &&
		coversFields(wide.Headers, m.Headers) && coversFields(wide.Query, m.Query)
}

func coversPath(wide, p mesh.PathMatch) bool {
	switch {
	case wide.Kind == mesh.PathAny || wide == p:
		return true
	case wide.Kind != mesh.PathPrefix:
		return false
	}
	prefix := strings.TrimSuffix(wide.Value, "/")
	if prefix == "" {
		return true
	}
	return (p.Kind == mesh.PathPrefix || p.Kind == mesh.PathExact) && (p.Value == prefix || strings.HasPrefix(p.Value, prefix+"/"))
}

func coversName(wide, name string) bool {
	end, wildcard := strings.CutPrefix(wide, "*")
	return wide == "" || wide == name || wildcard && strings.HasSuffix(name, end)
}

// coversFields: every condition of the wide one is also one of the other.
func coversFields(wide, fields []mesh.FieldMatch) bool {
	for _, f := range wide {
		if !slices.Contains(fields, f) {
			return false
		}
	}
	return true
}
