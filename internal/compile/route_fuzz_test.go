package compile

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"fairlead.io/fairlead/internal/mesh"
)

// FuzzRoute makes routes of any kind out of JSON, as an API server without a schema would hand them over, beside others.
func FuzzRoute(f *testing.F) {
	seed := func(kind uint8, docs ...string) {
		for _, d := range docs {
			f.Add(kind, []byte(d))
		}
	}
	const parent = `"parentRefs":[{"group":"","kind":"Service","name":"web"},{"group":"","kind":"Service","name":"pay","namespace":"bank","port":80}]`
	seed(0, `{`+parent+`,"rules":[{"name":"a","matches":[{"path":{"type":"RegularExpression","value":"/(a|b){3}"},"headers":[{"name":"a","value":"b"}],"queryParams":[{"name":"a","value":"b"}],"method":"GET"},{}],"filters":[{"type":"RequestMirror","requestMirror":{"backendRef":{"name":"v1","port":80},"fraction":{"numerator":1}}},{"type":"CORS","cors":{"allowOrigins":["http://*:1"]}}],"backendRefs":[{"name":"v1","port":80,"weight":0,"filters":[{"type":"URLRewrite","urlRewrite":{"path":{"type":"ReplaceFullPath","replaceFullPath":"/x"}}}]}],"timeouts":{"request":"1s"}}]}`,
		`{`+parent+`,"rules":[{"filters":[{"type":"RequestRedirect","requestRedirect":{"path":{"type":"ReplacePrefixMatch","replacePrefixMatch":""}}}]}]}`, `{`+parent+`}`, `{}`)
	seed(1, `{`+parent+`,"rules":[{"matches":[{"method":{"type":"RegularExpression","service":"a.*"},"headers":[{"name":"a","value":"b"}]}],"backendRefs":[{"name":"pay","namespace":"bank","port":80}]}]}`)
	seed(2, `{`+parent+`,"hostnames":["*.a","b.a"],"rules":[{"backendRefs":[{"name":"v1","port":80}]}]}`)
	seed(3, `{`+parent+`,"rules":[{"backendRefs":[{"name":"v1","port":80}]}]}`)
	f.Fuzz(func(t *testing.T, kind uint8, spec []byte) {
		if len(spec) > 1<<16 {
			return
		}
		meta := metav1.ObjectMeta{Name: "fuzzed", Namespace: "shop"}
		var o Object
		var err error
		switch kind % 4 {
		case 0:
			r := &gatewayv1.HTTPRoute{ObjectMeta: meta}
			o, err = Object{Key: Key{HTTPRoute, "shop", "fuzzed"}, Value: r}, json.Unmarshal(spec, &r.Spec)
		case 1:
			r := &gatewayv1.GRPCRoute{ObjectMeta: meta}
			o, err = Object{Key: Key{GRPCRoute, "shop", "fuzzed"}, Value: r}, json.Unmarshal(spec, &r.Spec)
		case 2:
			r := &gatewayv1.TLSRoute{ObjectMeta: meta}
			o, err = Object{Key: Key{TLSRoute, "shop", "fuzzed"}, Value: r}, json.Unmarshal(spec, &r.Spec)
		default:
			r := &gatewayv1.TCPRoute{ObjectMeta: meta}
			o, err = Object{Key: Key{TCPRoute, "shop", "fuzzed"}, Value: r}, json.Unmarshal(spec, &r.Spec)
		}
		if err != nil {
			return
		}
		w := with(t, httpRoute("other", "matches: [{path: {value: /a}}, {method: GET}], "+toV1))
		w.Update([]Object{o}, nil)
		checkRoutes(t, w)
		text := routesText(w)
		w.Update([]Object{o}, nil)
		if again := routesText(w); again != text {
			t.Errorf("the same again is something else: %s\n%s", text, again)
		}
		w.Update(nil, []Key{o.Key})
		if _, there := w.RouteStatus(o.Key); there {
			t.Error("a status of a route that is gone")
		}
		checkRoutes(t, w)
	})
}

// checkRoutes holds rows and statuses to what others build on.
func checkRoutes(t *testing.T, w *World) {
	t.Helper()
	for _, r := range w.Delta(0, all).Routes {
		for i, p := range r.Ports {
			if i > 0 && (p.Port < r.Ports[i-1].Port || p.Port == r.Ports[i-1].Port && p.Consumer <= r.Ports[i-1].Consumer) {
				t.Errorf("ports of %s are not in order", r.Service)
			}
			if !slices.IsSortedFunc(p.Order, func(a, b mesh.RuleMatch) int { return rankOf(p, a, b) }) {
				t.Errorf("matches of %s are not in order: %+v", r.Service, p.Order)
			}
			for _, m := range p.Order {
				if m.Rule < 0 || m.Rule >= len(p.Rules) || len(m.Match.Path.Value) > 2*maxPath+16 {
					t.Errorf("%s: %+v", r.Service, m)
				}
			}
			for _, x := range p.Rules {
				if x.Kind != p.Kind || len(x.Backends) > maxItems || x.Request < 0 || x.Attempt < 0 {
					t.Errorf("%s: %+v", r.Service, x)
				}
			}
		}
	}
	statuses, _ := w.RouteStatuses(0)
	for _, s := range statuses {
		for _, p := range s.Parents {
			for _, c := range p.Conditions {
				if c.Type == "" || c.Reason == "" || c.Message == "" || c.Status == "" {
					t.Errorf("%s: %+v", s.Key, c)
				}
			}
		}
	}
}

// rankOf compares two matches of HTTPRoutes: by rank, then by route, rule and match, which is where they stand.
func rankOf(p mesh.PortRoutes, a, b mesh.RuleMatch) int {
	if p.Kind != mesh.HTTPRoute {
		return 0
	}
	ra, rb := rankHTTP(a.Match), rankHTTP(b.Match)
	if c := slices.Compare(rb[:], ra[:]); c != 0 {
		return c
	}
	return a.Rule - b.Rule
}

func TestThePrecedenceIsTotal(t *testing.T) {
	// Every pair of matches of these parts, in both orders: which is first does not depend on which was read first.
	var matches []string
	for _, path := range []string{"", "path: {value: /a}", "path: {value: /a/b}", "path: {type: Exact, value: /a}", "path: {type: RegularExpression, value: '/a.*'}"} {
		for _, method := range []string{"", "method: GET"} {
			for _, headers := range []string{"", "headers: [{name: h, value: v}]", "headers: [{name: h, value: v}, {name: i, value: v}]"} {
				parts := slices.DeleteFunc([]string{path, method, headers}, func(s string) bool { return s == "" })
				matches = append(matches, "matches: [{"+strings.Join(parts, ", ")+"}]")
			}
		}
	}
	for i, a := range matches {
		for _, b := range matches[i+1:] {
			one, other := with(t, httpRoute("r", a, b)), with(t, httpRoute("r", b, a))
			x, y := one.Routes(web).Ports[0].Order, other.Routes(web).Ports[0].Order
			if fmt.Sprint(x[0].Match) != fmt.Sprint(y[0].Match) {
				t.Errorf("%s and %s have no order", a, b)
			}
		}
	}
}
