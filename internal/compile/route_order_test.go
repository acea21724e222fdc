package compile

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPrecedence(t *testing.T) {
	at := func(kind Kind, name, created, rules string) string {
		meta := ""
		if created != "" {
			meta = ", creationTimestamp: '" + created + "'"
		}
		return routeOf(kind, "shop/"+name, meta, toWeb, "rules: "+rules)
	}
	http := func(matches ...string) string { return "[{matches: [{" + strings.Join(matches, "}, {") + "}]}]" }
	const early, late = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"
	for name, c := range map[string]struct {
		docs []string
		want string
	}{
		"exact, regex, longer prefix, shorter": {
			[]string{at(HTTPRoute, "r", "", http("path: {value: /a}", "path: {value: /a/b/}", "path: {type: RegularExpression, value: /x.*}",
				"path: {type: RegularExpression, value: /xyz.*}", "path: {type: Exact, value: /a}"))},
			"HTTPRoute\nr#0 exact /a\nr#0 regex /xyz.*\nr#0 regex /x.*\nr#0 prefix /a/b\nr#0 prefix /a",
		},
		"a trailing / is no character of a prefix": {
			[]string{at(HTTPRoute, "r", "", "[{matches: [{path: {value: /a/}}]}, {matches: [{path: {value: /b}}]}]")},
			"HTTPRoute\nr#0 prefix /a\nr#1 prefix /b",
		},
		"a path before a method, a method before fields, header fields before parameters": {
			[]string{at(HTTPRoute, "r", "", http(
				"queryParams: [{name: a, value: b}, {name: c, value: d}]", "headers: [{name: a, value: b}]", "headers: [{name: a, value: b}, {name: c, value: d}]",
				"method: GET", "path: {value: /a}", "method: GET, headers: [{name: a, value: b}]", "headers: [{name: a, value: b}], queryParams: [{name: a, value: b}]"))},
			"HTTPRoute\nr#0 prefix /a\nr#0 prefix / GET a:b\nr#0 prefix / GET\nr#0 prefix / a:b c:d\nr#0 prefix / a:b ?a=b\nr#0 prefix / a:b\nr#0 prefix / ?a=b ?c=d",
		},
		"fields that are named twice count once": {
			[]string{at(HTTPRoute, "r", "", http("headers: [{name: A, value: b}, {name: a, value: c}]", "headers: [{name: x, value: w}, {name: z, value: z}]"))},
			"HTTPRoute\nr#0 prefix / x:w z:z\nr#0 prefix / a:b",
		},
		"the older route": {
			[]string{at(HTTPRoute, "a", late, http("method: GET")), at(HTTPRoute, "b", early, http("method: GET"))},
			"HTTPRoute\nb#0 prefix / GET\na#0 prefix / GET",
		},
		"of one age, by name": {
			[]string{at(HTTPRoute, "b", early, http("method: GET")), at(HTTPRoute, "a", early, http("method: GET"))},
			"HTTPRoute\na#0 prefix / GET\nb#0 prefix / GET",
		},
		"of one route, the first rule; of one rule, the first match": {
			[]string{at(HTTPRoute, "r", "", "[{matches: [{method: GET}, {method: PUT}]}, {matches: [{method: POST}]}]")},
			"HTTPRoute\nr#0 prefix / GET\nr#0 prefix / PUT\nr#1 prefix / POST",
		},
		"precedence is across routes, not rules": {
			[]string{at(HTTPRoute, "a", early, http("path: {value: /}", "path: {type: Exact, value: /z}")), at(HTTPRoute, "b", late, http("path: {value: /b}"))},
			"HTTPRoute\na#0 exact /z\nb#0 prefix /b\na#0 prefix /",
		},
		"gRPC: service, method, fields": {
			[]string{at(GRPCRoute, "g", "", http("headers: [{name: a, value: b}]", "method: {method: M}", "method: {service: s.T}", "method: {service: s.T, method: M}",
				"method: {service: s.T, method: M}, headers: [{name: a, value: b}]", "method: {service: s.Longer}", "method: {type: RegularExpression, service: 's.*'}"))},
			"GRPCRoute\ng#0 prefix /s.Longer\ng#0 exact /s.T/M a:b\ng#0 exact /s.T/M\ng#0 prefix /s.T\ng#0 regex /(?:s.*)/(?:[^/]+)\ng#0 regex /[^/]+/M\ng#0 a:b",
		},
		"gRPC: what is exact before a longer regular expression": {
			[]string{at(GRPCRoute, "g", "", http("method: {type: RegularExpression, service: 'aaaa.*'}", "method: {service: a}",
				"method: {type: RegularExpression, method: 'mmmm.*'}", "method: {method: m}"))},
			"GRPCRoute\ng#0 prefix /a\ng#0 regex /(?:aaaa.*)/(?:[^/]+)\ng#0 regex /[^/]+/m\ng#0 regex /(?:[^/]+)/(?:mmmm.*)",
		},
		"gRPC: the older route, then the first rule": {
			[]string{at(GRPCRoute, "a", late, "[{}, {}]"), at(GRPCRoute, "b", early, "[{}]")},
			"GRPCRoute\nb#0\na#0\na#1",
		},
		"TLS: whole names, longer ends": {
			[]string{
				routeOf(TLSRoute, "shop/t", "", toWeb, "hostnames: ['*.b.c', x.c, '*.a.b.c', a.b.c]\n  rules: [{"+toV1+"}]"),
			},
			"TLSRoute\nt#0 sni a.b.c\nt#0 sni x.c\nt#0 sni *.a.b.c\nt#0 sni *.b.c",
		},
		"TCP: the older route": {
			[]string{at(TCPRoute, "a", late, "[{"+toV1+"}]"), at(TCPRoute, "b", early, "[{"+toV2+"}]")},
			"TCPRoute\nb#0\na#0",
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := with(t, c.docs...)
			if diff := cmp.Diff(c.want, ask(w, web, 80, "")); diff != "" {
				t.Errorf("%s%v", diff, w.Problems())
			}
		})
	}
}

// A name with - is before one with / in "{namespace}/{name}", though its namespace alone is behind.
func TestRoutesOfOneAgeAreOrderedByNamespaceAndNameTogether(t *testing.T) {
	parents := `{group: "", kind: Service, name: pay, namespace: bank}`
	a := &route{head: head{key: Key{HTTPRoute, "a-b", "x"}}}
	b := &route{head: head{key: Key{HTTPRoute, "a", "x"}}}
	if older(a, b) >= 0 {
		t.Error("a/x is before a-b/x")
	}
	w := with(t, routeOf(HTTPRoute, "one/r", "", parents, "rules: []"), routeOf(HTTPRoute, "two/r", "", parents, "rules: []"))
	if got := ask(w, pay, 80, "one") + ask(w, pay, 80, "two"); got != "HTTPRoute\nr#0 prefix /HTTPRoute\nr#0 prefix /" {
		t.Errorf("consumers of two namespaces share rules: %s", got)
	}
}

func TestTheMostSpecificKindHasAPort(t *testing.T) {
	docs := map[Kind]string{
		GRPCRoute: routeOf(GRPCRoute, "shop/g", "", toWeb, "rules: [{}]"),
		HTTPRoute: routeOf(HTTPRoute, "shop/h", ", creationTimestamp: '2020-01-01T00:00:00Z'", toWeb, "rules: [{}]"),
		TLSRoute:  routeOf(TLSRoute, "shop/s", "", toWeb, "hostnames: [a.b]\n  rules: [{"+toV1+"}]"),
		TCPRoute:  routeOf(TCPRoute, "shop/t", "", toWeb, "rules: [{"+toV1+"}]"),
	}
	w, f := NewWorld(Config{}), newFiles()
	apply(t, w, f, "services.yaml", services...)
	for kind, doc := range docs {
		apply(t, w, f, string(kind)+".yaml", doc)
	}
	names := map[Kind]string{GRPCRoute: "shop/g", HTTPRoute: "shop/h", TLSRoute: "shop/s", TCPRoute: "shop/t"}
	order := []Kind{GRPCRoute, HTTPRoute, TLSRoute, TCPRoute}
	for i, winner := range order {
		for _, port := range []uint16{80, 8080} {
			if got := ask(w, web, port, ""); !strings.HasPrefix(got, string(winner)+"\n") {
				t.Fatalf("%s does not have port %d: %s", winner, port, got)
			}
		}
		if got := conditions(w, winner, names[winner]); !strings.HasPrefix(got, "Accepted=True Accepted: In force at Service shop/web, port 80, 8080.\n") {
			t.Errorf("%s: %s", winner, got)
		}
		for _, loser := range order[i+1:] {
			want := "Accepted=False Conflicted: At Service shop/web port 80 has " + string(winner) + " " + names[winner] + ", which is more specific, port 8080 has"
			if got := conditions(w, loser, names[loser]); !strings.HasPrefix(got, want) {
				t.Errorf("%s: %s", loser, got)
			}
		}
		w.Update(f.drop(string(winner) + ".yaml"))
	}
	if w.Routes(web) != nil {
		t.Error("rules without routes")
	}
}

func TestAKindMayHaveOnePortAndAnotherTheOther(t *testing.T) {
	w := with(t, routeOf(GRPCRoute, "shop/g", "", `{group: "", kind: Service, name: web, port: 8080}`, "rules: [{}]"), httpRoute("h", toV1))
	if got := ask(w, web, 80, "") + "|" + ask(w, web, 8080, ""); got != "HTTPRoute\nh#0 prefix /|GRPCRoute\ng#0" {
		t.Error(got)
	}
	want := "Accepted=True Accepted: In force at Service shop/web, port 80; port 8080 has GRPCRoute shop/g, which is more specific."
	if got := conditions(w, HTTPRoute, "shop/h"); !strings.HasPrefix(got, want+"\n") {
		t.Error(got)
	}
}

func TestAYoungerTCPRouteIsToldThatNothingIsLeft(t *testing.T) {
	tcp := func(name, created string) string {
		return routeOf(TCPRoute, "shop/"+name, ", creationTimestamp: '"+created+"'", `{group: "", kind: Service, name: web, port: 80}`, "rules: [{"+toV1+"}]")
	}
	w := with(t, tcp("young", "2026-01-02T00:00:00Z"), tcp("old", "2026-01-01T00:00:00Z"))
	if got := conditions(w, TCPRoute, "shop/young"); !strings.HasPrefix(got, "Accepted=True Accepted: In force at Service shop/web, port 80; at port 80 every connection is taken by TCPRoute shop/old, which is older.\n") {
		t.Error(got)
	}
	if got := conditions(w, TCPRoute, "shop/old"); !strings.HasPrefix(got, "Accepted=True Accepted: In force at Service shop/web, port 80.\n") {
		t.Error(got)
	}
}

func TestAConsumersKindIsItsOwn(t *testing.T) {
	consumer := routeOf(TCPRoute, "client/c", "", `{group: "", kind: Service, name: web, namespace: shop, port: 80}`, "rules: [{backendRefs: [{name: web, namespace: shop, port: 80}]}]")
	w := with(t, consumer, httpRoute("h", toV1))
	if got := ask(w, web, 80, "client") + "|" + ask(w, web, 80, ""); got != "TCPRoute\nc#0|HTTPRoute\nh#0 prefix /" {
		t.Error(got)
	}
	want := "Accepted=True Accepted: In force at Service shop/web, port 80, for the pods of namespace client.\nResolvedRefs=True ResolvedRefs: Every reference leads to a port of a Service."
	if got := conditions(w, TCPRoute, "client/c"); got != want {
		t.Error(got)
	}
}
