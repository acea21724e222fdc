package compile

import (
	"fmt"
	"regexp"
	"strings"

	"fairlead.io/fairlead/internal/mesh"
)

// routeRules makes the rules of a policy for a route: each of them for the requests that the route matches alone. What
// cannot be told that way is closed: ALLOW allows nothing, DENY denies all that the route matches.
func (w *World) routeRules(p *authzPolicy, row *mesh.Authorization) {
	p.unmade = nil
	scope := w.routeMatches(p.target)
	row.Rules = nil
	if len(scope) == 0 {
		return // no such route: no request is about it
	}
	rules, err := within(scope, p.rules)
	if err != nil {
		p.unmade = err
		if row.Action == mesh.Deny {
			row.Rules = []mesh.AuthRule{{To: []mesh.Operation{{Matches: scope}}}}
		}
		return
	}
	row.Rules = rules
}

// routeMatches is what a route matches, or one rule of it.
func (w *World) routeMatches(t target) []mesh.Match {
	r := w.routes.of[t.object]
	if r == nil {
		return nil
	}
	var out []mesh.Match
	for _, m := range r.matches {
		if t.rule == "" || r.rules[m.rule].Title == t.rule {
			out = append(out, m.Match)
		}
	}
	return out
}

// within narrows rules to a scope. A rule that can match nothing of it is left out.
func within(scope []mesh.Match, rules []mesh.AuthRule) ([]mesh.AuthRule, error) {
	var out []mesh.AuthRule
	total := 0
	for i, x := range rules {
		own := []mesh.Match{{}}
		if len(x.To) > 0 {
			own = nil
		}
		for _, o := range x.To {
			own = append(own, o.Matches...)
		}
		if total += len(own) * len(scope); total > maxAuthzMatches {
			return nil, fmt.Errorf("rules: with the matches of the route more than %d", maxAuthzMatches)
		}
		var matches []mesh.Match
		for _, a := range scope {
			for _, b := range own {
				m, ok, err := both(a, b)
				if err != nil {
					return nil, fmt.Errorf("rules[%d].to: %w", i, err)
				}
				if ok {
					matches = append(matches, m)
				}
			}
		}
		if len(matches) > 0 {
			out = append(out, mesh.AuthRule{From: x.From, To: []mesh.Operation{{Matches: matches}}})
		}
	}
	return out, nil
}

// both is the match of what two match; false if that is nothing.
func both(a, b mesh.Match) (mesh.Match, bool, error) {
	path, ok, err := bothPaths(a.Path, b.Path)
	if err != nil || !ok || a.Method != "" && b.Method != "" && a.Method != b.Method {
		return mesh.Match{}, false, err
	}
	out := mesh.Match{Path: path, Method: a.Method + b.Method, SNI: a.SNI}
	if a.Method != "" {
		out.Method = a.Method
	}
	out.Headers = append(append(out.Headers, a.Headers...), b.Headers...)
	out.Query = append(append(out.Query, a.Query...), b.Query...)
	return out, true, nil
}

func bothPaths(a, b mesh.PathMatch) (mesh.PathMatch, bool, error) {
	if everyPath(b) || a == b {
		return a, true, nil
	}
	if everyPath(a) {
		return b, true, nil
	}
	if b.Kind == mesh.PathExact {
		a, b = b, a
	}
	switch {
	case a.Kind == mesh.PathExact && b.Kind == mesh.PathExact:
		return a, false, nil // a == b was asked before
	case a.Kind == mesh.PathExact && b.Kind == mesh.PathPrefix:
		return a, beneath(a.Value, b.Value), nil
	case a.Kind == mesh.PathExact:
		re, err := regexp.Compile("^(?:" + b.Value + ")$")
		if err != nil {
			return a, false, fmt.Errorf("path: %w", err)
		}
		return a, re.MatchString(a.Value), nil
	case a.Kind == mesh.PathPrefix && b.Kind == mesh.PathPrefix:
		if beneath(a.Value, b.Value) {
			return a, true, nil
		}
		return b, beneath(b.Value, a.Value), nil
	}
	return a, false, fmt.Errorf("path: %q and %q of the route cannot be told as one, because there is a regular expression", b.Value, a.Value)
}

func everyPath(p mesh.PathMatch) bool {
	return p.Kind == mesh.PathAny || p.Kind == mesh.PathPrefix && p.Value == "/"
}

// beneath tells whether a path is a prefix's, which is of whole elements.
func beneath(path, prefix string) bool {
	rest, ok := strings.CutPrefix(path, prefix)
	return ok && (rest == "" || rest[0] == '/' || strings.HasSuffix(prefix, "/"))
}
