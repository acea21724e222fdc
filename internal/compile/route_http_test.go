package compile

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fairlead.io/fairlead/internal/mesh"
)

func TestDefaultsOfAnHTTPRoute(t *testing.T) {
	v1 := mesh.Backend{Service: mesh.Name{Namespace: "shop", Name: "v1"}, Port: 80, Weight: 1}
	for name, c := range map[string]struct {
		rules []string
		order string
		rule  mesh.Rule
	}{
		"no rules":           {nil, "prefix /", mesh.Rule{}},
		"an empty rule":      {[]string{""}, "prefix /", mesh.Rule{}},
		"an empty match":     {[]string{"matches: [{}]"}, "prefix /", mesh.Rule{}},
		"an empty path":      {[]string{"matches: [{path: {}}]"}, "prefix /", mesh.Rule{}},
		"a path's type":      {[]string{"matches: [{path: {value: /a}}]"}, "prefix /a", mesh.Rule{}},
		"a path's value":     {[]string{"matches: [{path: {type: Exact}}]"}, "exact /", mesh.Rule{}},
		"a field's type":     {[]string{"matches: [{headers: [{name: X-A, value: B}]}]"}, "prefix / x-a:B", mesh.Rule{}},
		"a parameter's type": {[]string{"matches: [{queryParams: [{name: X-A, value: B}]}]"}, "prefix / ?X-A=B", mesh.Rule{}},
		"weight":             {[]string{toV1}, "prefix /", mesh.Rule{Backends: []mesh.Backend{v1}}},
		"a name":             {[]string{"name: a.b, " + toV1}, "prefix /", mesh.Rule{Title: "a.b", Backends: []mesh.Backend{v1}}},
		"zero weights stay": {
			[]string{"backendRefs: [{name: v1, port: 80, weight: 0}, {name: v1, port: 80, weight: 3}]"}, "prefix /",
			mesh.Rule{Backends: []mesh.Backend{{Service: v1.Service, Port: 80}, {Service: v1.Service, Port: 80, Weight: 3}}},
		},
		"group core":               {[]string{"backendRefs: [{name: v1, port: 80, group: core, kind: Service}]"}, "prefix /", mesh.Rule{Backends: []mesh.Backend{v1}}},
		"no timeouts":              {[]string{"timeouts: {request: 0s}"}, "prefix /", mesh.Rule{}},
		"timeouts":                 {[]string{"timeouts: {request: 1h2m3s4ms, backendRequest: 99999ms}"}, "prefix /", mesh.Rule{Request: time.Hour + 2*time.Minute + 3*time.Second + 4*time.Millisecond, Attempt: 99999 * time.Millisecond}},
		"backendRequest by itself": {[]string{"timeouts: {backendRequest: 1s1s}"}, "prefix /", mesh.Rule{Attempt: 2 * time.Second}},
		"no limit to the request":  {[]string{"timeouts: {request: 0h, backendRequest: 1s}"}, "prefix /", mesh.Rule{Attempt: time.Second}},
	} {
		t.Run(name, func(t *testing.T) {
			w := with(t, httpRoute("r", c.rules...))
			rule, order := ruled(t, w)
			c.rule.Kind, c.rule.Route = mesh.HTTPRoute, mesh.Name{Namespace: "shop", Name: "r"}
			if diff := cmp.Diff(c.rule, rule); diff != "" {
				t.Error(diff)
			}
			if got := matchText(order[0].Match); len(order) != 1 || got != " "+c.order {
				t.Errorf("%d matches, %s", len(order), got)
			}
		})
	}
}

func TestFilters(t *testing.T) {
	mirror := func(part, of uint32) mesh.Filters {
		return mesh.Filters{Mirrors: []mesh.Mirror{{Backend: mesh.Backend{Service: mesh.Name{Namespace: "shop", Name: "v2"}, Port: 80, Weight: 1}, Part: part, Of: of}}}
	}
	edit := mesh.FieldEdit{Set: []mesh.FieldValue{{Name: "X-A", Value: "b"}}, Add: []mesh.FieldValue{{Name: "c", Value: "d"}}, Remove: []string{"E"}}
	const modifier = "{set: [{name: X-A, value: b}, {name: x-a, value: later}], add: [{name: c, value: d}], remove: [E, e]}"
	const prefix = "matches: [{path: {value: /p}}], "
	redirect := func(r mesh.Redirect) mesh.Filters { return mesh.Filters{Redirect: &r} }
	cases := map[string]struct {
		filters string
		want    mesh.Filters
	}{
		"request":         {"type: RequestHeaderModifier, requestHeaderModifier: " + modifier, mesh.Filters{Request: &edit}},
		"response":        {"type: ResponseHeaderModifier, responseHeaderModifier: " + modifier, mesh.Filters{Response: &edit}},
		"redirect":        {"type: RequestRedirect, requestRedirect: {}", redirect(mesh.Redirect{Status: 302})},
		"redirect scheme": {"type: RequestRedirect, requestRedirect: {scheme: https, statusCode: 301}", redirect(mesh.Redirect{Scheme: "https", Status: 301})},
		"redirect host":   {"type: RequestRedirect, requestRedirect: {hostname: a.b, port: 8443}", redirect(mesh.Redirect{Host: "a.b", Port: 8443, Status: 302})},
		"redirect path":   {"type: RequestRedirect, requestRedirect: {path: {type: ReplaceFullPath, replaceFullPath: /x}}", redirect(mesh.Redirect{Path: mesh.PathEdit{Kind: mesh.PathFull, Value: "/x"}, Status: 302})},
		"redirect prefix": {"type: RequestRedirect, requestRedirect: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /x}}", redirect(mesh.Redirect{Path: mesh.PathEdit{Kind: mesh.PathMatched, Value: "/x"}, Status: 302})},
		"rewrite":         {"type: URLRewrite, urlRewrite: {hostname: a.b}", mesh.Filters{Rewrite: &mesh.Rewrite{Host: "a.b"}}},
		"rewrite prefix":  {"type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: ''}}", mesh.Filters{Rewrite: &mesh.Rewrite{Path: mesh.PathEdit{Kind: mesh.PathMatched}}}},
		"rewrite path":    {"type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: /x/}}", mesh.Filters{Rewrite: &mesh.Rewrite{Path: mesh.PathEdit{Kind: mesh.PathFull, Value: "/x/"}}}},
		"mirror":          {"type: RequestMirror, requestMirror: {backendRef: {name: v2, port: 80}}", mirror(100, 100)},
		"mirror percent":  {"type: RequestMirror, requestMirror: {backendRef: {name: v2, port: 80}, percent: 0}", mirror(0, 100)},
		"mirror fraction": {"type: RequestMirror, requestMirror: {backendRef: {name: v2, port: 80}, fraction: {numerator: 3}}", mirror(3, 100)},
		"mirror of":       {"type: RequestMirror, requestMirror: {backendRef: {name: v2, port: 80}, fraction: {numerator: 1, denominator: 1000}}", mirror(1, 1000)},
		"two mirrors": {
			"type: RequestMirror, requestMirror: {backendRef: {name: v2, port: 80}}}, {type: RequestMirror, requestMirror: {backendRef: {name: v2, port: 80}}",
			mesh.Filters{Mirrors: append(mirror(100, 100).Mirrors, mirror(100, 100).Mirrors...)},
		},
		"cors": {"type: CORS, cors: {}", mesh.Filters{CORS: &mesh.CORS{MaxAge: 5 * time.Second}}},
		"cors all": {
			"type: CORS, cors: {allowOrigins: ['https://A.b:443', 'http://*.c:8080', 'http://*', 'http://x:80'], allowCredentials: true, allowMethods: [GET, PUT], allowHeaders: [X-A], exposeHeaders: ['*', b], maxAge: 60}",
			mesh.Filters{CORS: &mesh.CORS{
				Origins: []string{"https://a.b", "http://*.c:8080", "http://*", "http://x"}, Credentials: true, Methods: []string{"GET", "PUT"},
				Headers: []string{"X-A"}, Expose: []string{"*", "b"}, MaxAge: time.Minute,
			}},
		},
		"cors any": {"type: CORS, cors: {allowOrigins: ['*'], allowMethods: ['*'], allowHeaders: ['*']}", mesh.Filters{CORS: &mesh.CORS{
			Origins: []string{"*"}, Methods: []string{"*"}, Headers: []string{"*"}, MaxAge: 5 * time.Second,
		}}},
	}
	for _, status := range []int{301, 302, 303, 307, 308} {
		cases[fmt.Sprint("redirect ", status)] = struct {
			filters string
			want    mesh.Filters
		}{fmt.Sprintf("type: RequestRedirect, requestRedirect: {statusCode: %d}", status), redirect(mesh.Redirect{Status: status})}
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			rule, _ := ruled(t, with(t, httpRoute("r", prefix+"filters: [{"+c.filters+"}]")))
			if diff := cmp.Diff(c.want, rule.Filters); diff != "" {
				t.Error("of a rule", diff)
			}
			rule, _ = ruled(t, with(t, httpRoute("r", prefix+"backendRefs: [{name: v1, port: 80, filters: [{"+c.filters+"}]}]")))
			if diff := cmp.Diff(c.want, rule.Backends[0].Filters); diff != "" {
				t.Error("of a backend", diff)
			}
		})
	}
}

func TestAGRPCRoute(t *testing.T) {
	rules := "rules: [{name: one, filters: [{type: RequestHeaderModifier, requestHeaderModifier: {remove: [a]}}, {type: RequestMirror, requestMirror: {backendRef: {name: v2, port: 80}}}], " +
		"backendRefs: [{name: v1, port: 80, weight: 7, filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {remove: [b]}}]}]}]"
	rule, order := ruled(t, with(t, routeOf(GRPCRoute, "shop/r", "", toWeb, rules)))
	want := mesh.Rule{
		Kind: mesh.GRPCRoute, Route: mesh.Name{Namespace: "shop", Name: "r"}, Title: "one",
		Filters: mesh.Filters{
			Request: &mesh.FieldEdit{Remove: []string{"a"}},
			Mirrors: []mesh.Mirror{{Backend: mesh.Backend{Service: mesh.Name{Namespace: "shop", Name: "v2"}, Port: 80, Weight: 1}, Part: 100, Of: 100}},
		},
		Backends: []mesh.Backend{{
			Service: mesh.Name{Namespace: "shop", Name: "v1"}, Port: 80, Weight: 7, Filters: mesh.Filters{Response: &mesh.FieldEdit{Remove: []string{"b"}}},
		}},
	}
	if diff := cmp.Diff(want, rule); diff != "" || len(order) != 1 || !cmp.Equal(order[0], mesh.RuleMatch{}) {
		t.Errorf("%s%+v", diff, order)
	}
}

// Host names of HTTPRoute and GRPCRoute are for gateways (GEP-1294); they change nothing, and the status says so.
func TestHostnamesDoNotCountAtAService(t *testing.T) {
	for kind, want := range map[Kind]string{HTTPRoute: "HTTPRoute\nr#0 prefix /", GRPCRoute: "GRPCRoute\nr#0"} {
		w := with(t, routeOf(kind, "shop/r", "", toWeb, "hostnames: [other.example]\n  rules: [{}]"))
		if got := ask(w, web, 80, ""); got != want {
			t.Error(got)
		}
		if got := conditions(w, kind, "shop/r"); !strings.Contains(got, "In force at Service shop/web, port 80, 8080; hostnames do not count at a Service.") {
			t.Error(got)
		}
	}
}

func TestARouteOfV1beta1IsOneOfV1(t *testing.T) {
	w := with(t, strings.Replace(httpRoute("r", toV1), "networking.k8s.io/v1\n", "networking.k8s.io/v1beta1\n", 1))
	if got := ask(w, web, 80, ""); got != "HTTPRoute\nr#0 prefix /" {
		t.Error(got)
	}
}
