package compile

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// FuzzRandomRoutes makes a few routes out of parts that are right and parts that are wrong. Whatever they are, rows keep
// their promises, and the order in which routes were read changes nothing.
func FuzzRandomRoutes(f *testing.F) {
	for i := range uint64(50) {
		f.Add(i)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		g := &generator{rand.New(rand.NewPCG(seed, 7))}
		files := newFiles()
		forward, back := with(t), with(t)
		var docs []string
		for i := range 2 + g.IntN(5) {
			docs = append(docs, g.route(fmt.Sprintf("r%d", i)))
		}
		set, _ := files.put("r.yaml", []byte(strings.Join(docs, "\n---\n")))
		if len(set) != len(docs) {
			problems, _ := files.problems()
			t.Fatalf("%v\n%s", problems, strings.Join(docs, "\n---\n"))
		}
		for i := range set {
			forward.Update(set[i:i+1], nil)
			back.Update(set[len(set)-1-i:len(set)-i], nil)
		}
		checkRoutes(t, forward)
		if a, b := routesText(forward), routesText(back); a != b {
			t.Errorf("%s\n\n%s", a, b)
		}
	})
}

type generator struct{ *rand.Rand }

func (g *generator) one(of ...string) string { return of[g.IntN(len(of))] }

// some are up to n parts, each made anew.
func (g *generator) some(n int, part func() string) string {
	var out []string
	for range g.IntN(n + 1) {
		out = append(out, "{"+part()+"}")
	}
	return "[" + strings.Join(out, ", ") + "]"
}

// fields are some of the fields of an object, at random.
func (g *generator) fields(from ...string) string {
	var out []string
	for _, f := range from {
		if g.IntN(3) > 0 {
			out = append(out, f)
		}
	}
	return strings.Join(out, ", ")
}

func (g *generator) route(name string) string {
	kind := []Kind{HTTPRoute, GRPCRoute, TLSRoute, TCPRoute}[g.IntN(4)]
	parents := g.some(3, func() string {
		return `group: "", kind: Service, ` + g.one("name: web", "name: pay, namespace: bank", "name: ghost") + g.one("", "", ", port: 80", ", port: 8080, sectionName: admin", ", sectionName: http")
	})
	rules, more := "", ""
	switch kind {
	case HTTPRoute:
		rules = g.some(4, g.httpRule)
	case GRPCRoute:
		rules = g.some(4, g.grpcRule)
	case TLSRoute:
		more = "\n  hostnames: " + g.one("[a.b]", "['*.b', a.b, a.b]", "[]", "['*.c', '*.b.c']")
		rules = "[{backendRefs: " + g.some(3, g.backend) + "}]"
	case TCPRoute:
		rules = "[{backendRefs: " + g.some(3, g.backend) + "}]"
	}
	meta := fmt.Sprintf(", generation: %d, creationTimestamp: '2026-01-0%dT00:00:00Z'", g.IntN(9), 1+g.IntN(3))
	doc := routeOf(kind, g.one("shop/", "bank/", "client/")+name, meta, "", "rules: "+rules+more)
	return strings.Replace(doc, "parentRefs: []", "parentRefs: "+parents, 1)
}

func (g *generator) match() string {
	return g.fields(
		"path: {"+g.fields("type: "+g.one("Exact", "PathPrefix", "RegularExpression", "PathPrefix"), "value: '"+g.one("/", "/a", "/a/", "/a/b", "/a.*", "/a//b", "")+"'")+"}",
		"method: "+g.one("GET", "PUT", "GET", "x"),
		"headers: "+g.some(3, g.field), "queryParams: "+g.some(3, g.field),
	)
}

func (g *generator) field() string {
	return "name: " + g.one("a", "A", "b", "c") + ", value: " + g.one("v", "w", "v", "'('") + g.one("", "", ", type: Exact", ", type: RegularExpression")
}

func (g *generator) backend() string {
	return g.target() + g.one("", ", weight: 0", ", weight: 10", ", weight: 1")
}

func (g *generator) target() string {
	return g.one("name: v1, port: 80", "name: v2, port: 80", "name: ghost, port: 80", "name: v1, port: 81", "name: pay, namespace: bank, port: 80", "kind: Secret, name: v1", "name: v1")
}

func (g *generator) grpcFilter() string {
	return g.one(
		"type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: b}]}", "type: ResponseHeaderModifier, responseHeaderModifier: {remove: [a]}",
		"type: RequestMirror, requestMirror: {backendRef: {"+g.target()+"}, percent: 10}", "type: ExtensionRef",
	)
}

func (g *generator) filter() string {
	return g.one(g.grpcFilter(), "type: RequestRedirect, requestRedirect: {statusCode: 301}",
		"type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /x}}", "type: CORS, cors: {allowOrigins: ['*']}",
	)
}

func (g *generator) httpRule() string {
	return g.fields(
		"matches: "+g.some(4, g.match), "filters: "+g.some(2, g.filter),
		"backendRefs: "+g.some(3, func() string { return g.backend() + ", filters: " + g.some(1, g.filter) }),
		"timeouts: {"+g.fields("request: "+g.one("1s", "0s", "1m"), "backendRequest: "+g.one("1s", "2s", "x"))+"}", "name: "+g.one("first", "second", "third"),
	)
}

func (g *generator) grpcRule() string {
	call := func() string {
		return g.fields("method: {"+g.fields("type: "+g.one("Exact", "RegularExpression"), "service: "+g.one("a.B", "a.*", "c"), "method: "+g.one("M", "'[A-Z]'"))+"}", "headers: "+g.some(2, g.field))
	}
	return g.fields("matches: "+g.some(3, call), "filters: "+g.some(1, g.grpcFilter), "backendRefs: "+g.some(2, g.backend))
}
