package compile

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairlead.io/fairlead/api/v1alpha1"
	"fairlead.io/fairlead/internal/mesh"
)

func prefixOf(s string) mesh.PathMatch { return mesh.PathMatch{Kind: mesh.PathPrefix, Value: s} }
func exactly(s string) mesh.PathMatch  { return mesh.PathMatch{Kind: mesh.PathExact, Value: s} }
func regex(s string) mesh.PathMatch    { return mesh.PathMatch{Kind: mesh.PathRegex, Value: s} }

func TestBothOfTwoPaths(t *testing.T) {
	none := mesh.PathMatch{Kind: 99}
	for _, c := range []struct{ a, b, want mesh.PathMatch }{
		{mesh.PathMatch{}, mesh.PathMatch{}, mesh.PathMatch{}},
		{mesh.PathMatch{}, exactly("/a"), exactly("/a")},
		{prefixOf("/"), regex("/x.*"), regex("/x.*")},
		{exactly("/a"), exactly("/a"), exactly("/a")},
		{exactly("/a"), exactly("/b"), none},
		{exactly("/a/b"), prefixOf("/a"), exactly("/a/b")},
		{exactly("/ab"), prefixOf("/a"), none},
		{exactly("/a"), regex("/[a-c]"), exactly("/a")},
		{exactly("/ad"), regex("/[a-c]"), none},
		{prefixOf("/a"), prefixOf("/a/b"), prefixOf("/a/b")},
		{prefixOf("/a"), prefixOf("/b"), none},
		{prefixOf("/a"), prefixOf("/ab"), none},
		{regex("/a"), regex("/a"), regex("/a")},
	} {
		for _, in := range [][2]mesh.PathMatch{{c.a, c.b}, {c.b, c.a}} {
			got, ok, err := bothPaths(in[0], in[1])
			if err != nil || ok != (c.want != none) || ok && got != c.want && (!everyPath(got) || !everyPath(c.want)) {
				t.Errorf("%v and %v: %v %v %v", in[0], in[1], got, ok, err)
			}
		}
	}
	for _, p := range []mesh.PathMatch{prefixOf("/a"), regex("/b")} {
		if _, _, err := bothPaths(p, regex("/a")); err == nil {
			t.Errorf("%v and an expression are told as one", p)
		}
	}
}

const pods = `{from: [{namespaces: [shop]}]}`

func TestAPolicyForARoute(t *testing.T) {
	route := strings.Replace(routeOfWeb, "name: web, port: 80}]}\n  - {name: rest", "name: canary, port: 80}]}\n  - {name: rest", 1)
	canary := strings.NewReplacer("10.1.0.1", "10.1.0.2", "name: web", "name: canary").Replace(twoPorts)
	docs := []string{nsShop, twoPorts, canary, route,
		sliceOf("shop", "web", "http", 8080, "10.0.0.1"), sliceOf("shop", "web", "admin", 9090, "10.0.0.1"), sliceOf("shop", "canary", "http", 8081, "10.0.0.2"),
		labelled("shop", "a", "10.0.0.1", "web"), labelled("shop", "b", "10.0.0.2", "canary")}
	from := []mesh.Peer{{Namespaces: []string{"shop"}}}
	to := func(m ...mesh.Match) []mesh.AuthRule {
		return []mesh.AuthRule{{From: from, To: []mesh.Operation{{Matches: m}}}}
	}
	for name, c := range map[string]struct {
		target, rule string
		rules        []mesh.AuthRule
		a, b, say    string
	}{
		"route":      {"kind: HTTPRoute, name: r", pods, to(mesh.Match{Path: prefixOf("/admin")}, mesh.Match{Path: prefixOf("/")}), "shop/p:8080", "shop/p:8081", "ResolvedRefs=True"},
		"rule":       {"kind: HTTPRoute, name: r, sectionName: admin", pods, to(mesh.Match{Path: prefixOf("/admin")}), "shop/p:8080", "shop/p:8081", "ResolvedRefs=True"},
		"other rule": {"kind: HTTPRoute, name: r, sectionName: rest", pods, to(mesh.Match{Path: prefixOf("/")}), "shop/p:8080", "", "ResolvedRefs=True"},
		"narrower": {"kind: HTTPRoute, name: r, sectionName: admin", `{from: [{namespaces: [shop]}], to: [{methods: [GET], paths: [{value: /admin/x}]}, {paths: [{value: /other}]}]}`,
			to(mesh.Match{Path: prefixOf("/admin/x"), Method: "GET"}), "shop/p:8080", "shop/p:8081", "ResolvedRefs=True"},
		"of nothing": {"kind: HTTPRoute, name: r, sectionName: admin", `{to: [{paths: [{value: /other}]}]}`, nil, "shop/p:8080", "shop/p:8081", "match no request"},
		"untold": {"kind: HTTPRoute, name: r, sectionName: admin", `{to: [{paths: [{type: RegularExpression, value: "/[a-z]+"}]}]}`, nil, "shop/p:8080", "shop/p:8081",
			"Accepted=False Invalid (rules[0].to: path"},
		"no route": {"kind: HTTPRoute, name: x", pods, nil, "", "", v1alpha1.ReasonTargetNotFound},
		"no rule":  {"kind: HTTPRoute, name: r, sectionName: x", pods, nil, "shop/p:8080", "", v1alpha1.ReasonTargetNotFound},
	} {
		w := load(t, append(docs, authzDoc("shop", "p", c.target, "action: ALLOW\n  rules: ["+c.rule+"]"))...)
		row := rowOf(w, "shop/p")
		if diff := cmp.Diff(c.rules, row.Rules); diff != "" || row.Ports != nil || row.All != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if got := []string{refsOf(w, "u-a"), refsOf(w, "u-b")}; !cmp.Equal(got, []string{c.a, c.b}) {
			t.Errorf("%s: about the pods: %q", name, got)
		}
		if s, _ := w.PolicyStatus(policyKey(AuthorizationPolicy, "p")); !strings.Contains(policyConditions(s), c.say) {
			t.Errorf("%s: %s", name, policyConditions(s))
		}
	}
}

func TestAPolicyThatCannotBeToldDeniesWhatItsRouteMatches(t *testing.T) {
	w := load(t, nsShop, twoPorts, routeOfWeb, authzDoc("shop", "p", "kind: HTTPRoute, name: r, sectionName: admin",
		`{action: DENY}`), authzDoc("shop", "q", "kind: HTTPRoute, name: r, sectionName: admin",
		"action: DENY\n  rules: [{to: [{paths: [{type: RegularExpression, value: '/[a-z]+'}]}]}]"))
	want := []mesh.AuthRule{{To: []mesh.Operation{{Matches: []mesh.Match{{Path: prefixOf("/admin")}}}}}}
	if got := rowOf(w, "shop/q"); !cmp.Equal(want, got.Rules) || got.Action != mesh.Deny {
		t.Errorf("%+v", got)
	}
}

func TestAPolicyFollowsItsRoute(t *testing.T) {
	w, f := NewWorld(Config{}), newFiles()
	apply(t, w, f, "ns", nsShop, sliceOf("shop", "web", "http", 8080, "10.0.0.1"), labelled("shop", "a", "10.0.0.1", "web"),
		authzDoc("shop", "p", "kind: HTTPRoute, name: r", "action: ALLOW\n  rules: ["+pods+"]"))
	step := func(name, refs string, matches int) {
		t.Helper()
		n := 0
		for _, r := range rowOf(w, "shop/p").Rules {
			n += len(r.To[0].Matches)
		}
		if got := refsOf(w, "u-a"); got != refs || n != matches {
			t.Errorf("%s: %q with %d matches, want %q with %d", name, got, n, refs, matches)
		}
	}
	step("nothing", "", 0)
	apply(t, w, f, "route", routeOfWeb)
	step("a route without its Service", "", 2)
	apply(t, w, f, "svc", twoPorts)
	step("its Service", "shop/p:8080", 2)
	apply(t, w, f, "route", strings.Replace(routeOfWeb, "{path: {value: /admin}}", "{path: {value: /admin}}, {path: {value: /x}}", 1))
	step("another match", "shop/p:8080", 3)
	apply(t, w, f, "route", strings.Replace(routeOfWeb, "value: /admin", "value: admin", 1)) // invalid: the last valid one
	step("an invalid one", "shop/p:8080", 3)
	apply(t, w, f, "route", strings.ReplaceAll(routeOfWeb, "name: web", "name: elsewhere"))
	step("for another Service", "", 2)
	apply(t, w, f, "route")
	step("no route", "", 0)
}

// TestARouteReachesNoOtherNamespace: a consumer route is for a Service of others, whose pods are not its policies' concern.
func TestARouteReachesNoOtherNamespace(t *testing.T) {
	route := strings.NewReplacer("namespace: shop}", "namespace: other}", "kind: Service, name: web", "kind: Service, namespace: shop, name: web").Replace(routeOfWeb)
	w := load(t, nsShop, nsOther, twoPorts, route, sliceOf("shop", "web", "http", 8080, "10.0.0.1"), labelled("shop", "a", "10.0.0.1", "web"),
		authzDoc("other", "p", "kind: HTTPRoute, name: r", "action: DENY\n  rules: ["+pods+"]"))
	if got := refsOf(w, "u-a"); got != "" || w.routes.of[Key{Kind: HTTPRoute, Namespace: "other", Name: "r"}] == nil {
		t.Errorf("about a pod of namespace shop: %q", got)
	}
}

func TestAPolicyIsToldAsTheChangeThatItIs(t *testing.T) {
	w, f := NewWorld(Config{}), newFiles()
	docs := []string{nsShop}
	for i := range 200 {
		docs = append(docs, labelled("shop", fmt.Sprintf("p%d", i), fmt.Sprintf("10.0.0.%d", 1+i), fmt.Sprintf("app%d", i%100)),
			authzDoc("shop", fmt.Sprintf("z%d", i), fmt.Sprintf("kind: Pods, selector: {matchLabels: {app: app%d}}", i), allowShop))
	}
	apply(t, w, f, "all", docs...)
	before := w.Version()
	apply(t, w, f, "one", authzDoc("shop", "new", "kind: Pods, selector: {matchLabels: {app: app7}}", denyShop))
	if d := w.Delta(before, all); d.Reset || len(d.Authorizations) != 1 || len(d.Pods) != 2 || len(d.Routes)+len(d.Services)+len(d.GoneAuthorizations) != 0 {
		t.Errorf("a policy for two pods: %+v", d)
	}
	before = w.Version()
	apply(t, w, f, "one", authzDoc("shop", "new", "kind: Pods, selector: {matchLabels: {app: app7}}", denyShop))
	if w.Version() != before {
		t.Error("the same again is a change")
	}
	apply(t, w, f, "one")
	if d := w.Delta(before, all); len(d.Authorizations) != 0 || len(d.Pods) != 2 || len(d.GoneAuthorizations) != 1 || d.GoneAuthorizations[0].Name != "new" {
		t.Errorf("it is gone: %+v", d)
	}
	nobody := w.Delta(0, func(mesh.Name) bool { return false })
	if len(nobody.Authorizations) != 200 {
		t.Errorf("a node that wants no Service is told %d policies", len(nobody.Authorizations))
	}
}
