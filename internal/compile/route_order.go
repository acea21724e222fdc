package compile

import (
	"cmp"
	"slices"
	"strings"

	"fairlead.io/fairlead/internal/mesh"
)

// Ranks of matches, by the precedence of the API; where it leaves the place of a regular expression open, that is
// after what is exact and before what is a prefix, for otherwise a prefix / would hide it.

func rankHTTP(m mesh.Match) [5]int {
	kind, length := 0, 0
	switch m.Path.Kind {
	case mesh.PathExact:
		kind = 3
	case mesh.PathRegex:
		kind, length = 2, len(m.Path.Value)
	case mesh.PathPrefix:
		kind, length = 1, len(m.Path.Value)
	}
	return [5]int{kind, length, count(m.Method != ""), len(m.Headers), len(m.Query)}
}

// rankGRPC: service, then method, then header fields.
func rankGRPC(service, method string, regex bool, headers int) [5]int {
	exact := count(!regex)
	return [5]int{exact * count(service != ""), len(service), exact * count(method != ""), len(method), headers}
}

// rankTLS: whole names, then longer ends of names.
func rankTLS(sni string) [5]int {
	return [5]int{count(!strings.HasPrefix(sni, "*.")), len(sni)}
}

func count(yes bool) int {
	if yes {
		return 1
	}
	return 0
}

// older is the order of routes whose matches are of one rank: by age, then by namespace/name.
func older(a, b *route) int {
	return cmp.Or(
		a.created.Compare(b.created),
		strings.Compare(a.key.Namespace+"/"+a.key.Name, b.key.Namespace+"/"+b.key.Name),
	)
}

// inPrecedence merges the rules of routes, which stand in the order of older, and puts their matches in order. Matches
// of one rank keep the order of routes, then of rules, then of a rule's matches: so it is total.
func inPrecedence(from []*route, rules func(*route) []mesh.Rule) ([]mesh.Rule, []mesh.RuleMatch) {
	var merged []mesh.Rule
	var matches []match
	for _, r := range from {
		for _, m := range r.matches {
			m.rule += len(merged)
			matches = append(matches, m)
		}
		merged = append(merged, rules(r)...)
	}
	slices.SortStableFunc(matches, func(a, b match) int { return slices.Compare(b.rank[:], a.rank[:]) })
	out := make([]mesh.RuleMatch, 0, len(matches))
	for _, m := range matches {
		out = append(out, mesh.RuleMatch{Rule: m.rule, Match: m.Match})
	}
	return merged, out
}
