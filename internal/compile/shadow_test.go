package compile

import (
	"slices"
	"strings"
	"testing"

	"fairlead.io/fairlead/internal/mesh"
)

func TestCovers(t *testing.T) {
	path := func(k mesh.PathKind, v string) mesh.Match { return mesh.Match{Path: mesh.PathMatch{Kind: k, Value: v}} }
	header := func(name string) mesh.FieldMatch { return mesh.FieldMatch{Name: name, Value: "1"} }
	for name, c := range map[string]struct {
		wide, m mesh.Match
		want    bool
	}{
		"everything":              {mesh.Match{}, path(mesh.PathExact, "/a"), true},
		"the root prefix":         {path(mesh.PathPrefix, "/"), path(mesh.PathRegex, "/a.*"), true},
		"the root and everything": {path(mesh.PathPrefix, "/a"), mesh.Match{}, false},
		"a prefix, an element":    {path(mesh.PathPrefix, "/a"), path(mesh.PathPrefix, "/a/b"), true},
		"a prefix, no element":    {path(mesh.PathPrefix, "/a"), path(mesh.PathExact, "/ab"), false},
		"a prefix, itself":        {path(mesh.PathPrefix, "/a"), path(mesh.PathExact, "/a"), true},
		"a prefix, an expression": {path(mesh.PathPrefix, "/a"), path(mesh.PathRegex, "/a/.*"), false},
		"an exact path, a prefix": {path(mesh.PathExact, "/a"), path(mesh.PathPrefix, "/a"), false},
		"equal expressions":       {path(mesh.PathRegex, "/a.*"), path(mesh.PathRegex, "/a.*"), true},
		"another method":          {mesh.Match{Method: "GET"}, mesh.Match{Method: "PUT"}, false},
		"any method":              {mesh.Match{}, mesh.Match{Method: "PUT"}, true},
		"one method of any":       {mesh.Match{Method: "PUT"}, mesh.Match{}, false},
		"fewer headers":           {mesh.Match{Headers: []mesh.FieldMatch{header("a")}}, mesh.Match{Headers: []mesh.FieldMatch{header("b"), header("a")}}, true},
		"more headers":            {mesh.Match{Headers: []mesh.FieldMatch{header("a"), header("b")}}, mesh.Match{Headers: []mesh.FieldMatch{header("a")}}, false},
		"another parameter":       {mesh.Match{Query: []mesh.FieldMatch{header("a")}}, mesh.Match{Query: []mesh.FieldMatch{header("b")}}, false},
		"the end of a name":       {mesh.Match{SNI: "*.x.io"}, mesh.Match{SNI: "*.a.x.io"}, true},
		"a name and its end":      {mesh.Match{SNI: "*.x.io"}, mesh.Match{SNI: "x.io"}, false},
	} {
		if got := covers(&c.wide, &c.m); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestShadowedRulesAreProblems has rules that are equal, and ones of which only a part is.
func TestShadowedRulesAreProblems(t *testing.T) {
	for name, c := range map[string]struct{ rules, want string }{
		"equal":             {"[{matches: [{path: {value: /a}}]}, {matches: [{path: {value: /a}}]}]", "never|rule 1|rule 0 of HTTPRoute shop/r"},
		"two, both covered": {"[{matches: [{path: {value: /a}}, {path: {value: /b}}]}, {matches: [{path: {value: /b}}, {path: {value: /a}}]}]", "rule 1"},
		"two, one covered":  {"[{matches: [{path: {value: /a}}]}, {matches: [{path: {value: /b}}, {path: {value: /a}}]}]", ""},
		"narrower first":    {"[{matches: [{path: {value: /}}]}, {matches: [{path: {value: /a}}]}]", ""},
		"its own twice":     {"[{matches: [{path: {value: /a}}, {path: {value: /a}}]}]", ""},
	} {
		w := with(t, routeOf(HTTPRoute, "shop/r", "", toWeb, "rules: "+c.rules))
		said := ""
		for _, p := range w.Problems() {
			if s := p.String(); strings.Contains(s, "Shadowed") {
				said += s
			}
		}
		words := strings.Split(strings.TrimPrefix(c.want, "never|"), "|")
		if (said == "") != (c.want == "") || slices.ContainsFunc(words, func(x string) bool { return !strings.Contains(said, x) }) {
			t.Errorf("%s: %q, want %q", name, said, c.want)
		}
	}
}
