package compile

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairlead.io/fairlead/api/v1alpha1"
	"fairlead.io/fairlead/internal/mesh"
)

// authzDoc is a policy in a namespace.
func authzDoc(namespace, name, target, more string) string {
	return fmt.Sprintf("apiVersion: fairlead.io/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {name: %s, namespace: %s, generation: 3}\nspec:\n  target: {%s}\n  %s",
		name, namespace, target, more)
}

const (
	allowShop  = "action: ALLOW\n  rules: [{from: [{namespaces: [shop]}]}]"
	denyShop   = "action: DENY\n  rules: [{from: [{namespaces: [shop]}]}]"
	forWebPods = "kind: Pods, selector: {matchLabels: {app: web}}"
	nsOther    = "apiVersion: v1\nkind: Namespace\nmetadata: {name: other, labels: {fairlead.io/mesh: enabled}}"
	nsHome     = "apiVersion: v1\nkind: Namespace\nmetadata: {name: fairlead-system}"
)

// labelled is a pod of a namespace with a label app.
func labelled(namespace, name, ip, app string) string {
	doc := strings.Replace(podDoc(name, ip, ""), "namespace: shop", "namespace: "+namespace, 1)
	return strings.Replace(doc, "uid: u-"+name, "uid: u-"+name+", labels: {app: "+app+"}", 1)
}

// sliceOf is the endpoints of web: name:port=address for each.
func sliceOf(namespace, service, port string, number int, ips ...string) string {
	var endpoints []string
	for _, ip := range ips {
		endpoints = append(endpoints, "{addresses: ["+ip+"]}")
	}
	return fmt.Sprintf("apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: %s-%d, namespace: %s, labels: {kubernetes.io/service-name: %s}}\naddressType: IPv4\nports: [{name: %q, port: %d}]\nendpoints: [%s]",
		service, number, namespace, service, port, number, strings.Join(endpoints, ", "))
}

// refsOf is what is about a pod, as text.
func refsOf(w *World, uid string) string {
	w.mu.RLock()
	defer w.mu.RUnlock()
	var out []string
	for _, r := range w.pods[uid].Policies {
		out = append(out, fmt.Sprintf("%s:%d", r.Policy, r.Port))
	}
	return strings.Join(out, " ")
}

func rowOf(w *World, name string) *mesh.Authorization {
	for _, a := range w.Delta(0, all).Authorizations {
		if a.String() == name {
			return a
		}
	}
	return nil
}

const twoPorts = "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec: {clusterIP: 10.1.0.1, ports: [{name: http, port: 80}, {name: admin, port: 81}]}"

func TestWhatAnAuthorizationPolicyIsAbout(t *testing.T) {
	shop := []mesh.AuthRule{{From: []mesh.Peer{{Namespaces: []string{"shop"}}}}}
	web := []string{labelled("shop", "a", "10.0.0.1", "web"), labelled("shop", "b", "10.0.0.2", "other"), labelled("other", "c", "10.0.0.3", "web")}
	for name, c := range map[string]struct {
		docs    []string
		row     mesh.Authorization
		a, b, c string // what is about each pod
	}{
		"mesh": {[]string{authzDoc("fairlead-system", "p", "kind: Mesh, ports: [443, 80]", allowShop)},
			mesh.Authorization{Mesh: true, Ports: []uint16{80, 443}, Name: mesh.Name{Namespace: "fairlead-system", Name: "p"}}, "", "", ""},
		"namespace": {[]string{authzDoc("shop", "p", "kind: Namespace", allowShop)}, mesh.Authorization{All: "shop"}, "", "", ""},
		"pods": {[]string{authzDoc("shop", "p", forWebPods+", ports: [80]", allowShop)},
			mesh.Authorization{Ports: []uint16{80}}, "shop/p:0", "", ""},
		"pods by expression": {[]string{authzDoc("shop", "p", "kind: Pods, selector: {matchExpressions: [{key: app, operator: NotIn, values: [web]}]}", allowShop)},
			mesh.Authorization{}, "", "shop/p:0", ""},
		"Service": {[]string{authzDoc("shop", "p", "kind: Service, name: web", allowShop), twoPorts,
			sliceOf("shop", "web", "http", 8080, "10.0.0.1", "10.0.0.2"), sliceOf("shop", "web", "admin", 9090, "10.0.0.1")},
			mesh.Authorization{}, "shop/p:8080 shop/p:9090", "shop/p:8080", ""},
		"port of a Service": {[]string{authzDoc("shop", "p", "kind: Service, name: web, ports: [81]", allowShop), twoPorts,
			sliceOf("shop", "web", "http", 8080, "10.0.0.1", "10.0.0.2"), sliceOf("shop", "web", "admin", 9090, "10.0.0.1")},
			mesh.Authorization{}, "shop/p:9090", "", ""},
		"endpoints of another namespace": {[]string{authzDoc("shop", "p", "kind: Service, name: web", allowShop), twoPorts,
			sliceOf("shop", "web", "http", 8080, "10.0.0.3")}, mesh.Authorization{}, "", "", ""},
	} {
		docs := append(c.docs, nsShop, nsOther, nsHome)
		w := load(t, append(docs, web...)...)
		if got := []string{refsOf(w, "u-a"), refsOf(w, "u-b"), refsOf(w, "u-c")}; !cmp.Equal(got, []string{c.a, c.b, c.c}) {
			t.Errorf("%s: about the pods: %q, problems %v", name, got, w.Problems())
		}
		if c.row.Namespace == "" {
			c.row.Name = mesh.Name{Namespace: "shop", Name: "p"}
		}
		c.row.Rules = shop
		if diff := cmp.Diff(&c.row, rowOf(w, c.row.String())); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestWhoAndWhatARuleMatches(t *testing.T) {
	prefix := netip.MustParsePrefix
	exact := func(s string) mesh.PathMatch { return mesh.PathMatch{Kind: mesh.PathExact, Value: s} }
	for text, want := range map[string]mesh.AuthRule{
		`{from: [{identities: ["spiffe://c/ns/a/*"], authentication: Authenticated}]}`: {From: []mesh.Peer{{IDs: []string{"spiffe://c/ns/a/*"}, Authenticated: true}}},
		`{from: [{serviceAccounts: [{name: x}, {name: v, namespace: z}]}]}`:            {From: []mesh.Peer{{Accounts: []mesh.Account{{Namespace: "shop", Name: "x"}, {Namespace: "z", Name: "v"}}}}},
		`{from: [{authentication: Authenticated}, {authentication: Unauthenticated}]}`: {From: []mesh.Peer{{Authenticated: true}, {Unauthenticated: true}}},
		`{from: [{ipBlocks: [{cidr: 10.1.2.3/8, except: [10.1.0.0/16]}, {cidr: "fd00::/8"}, {cidr: 192.168.0.0/16}]}]}`: {From: []mesh.Peer{
			{CIDRs: []netip.Prefix{prefix("10.0.0.0/8")}, Except: []netip.Prefix{prefix("10.1.0.0/16")}},
			{CIDRs: []netip.Prefix{prefix("fd00::/8"), prefix("192.168.0.0/16")}}}},
		`{to: [{methods: [GET, PUT], paths: [{type: Exact, value: /a}, {value: /b/}]}]}`: {To: []mesh.Operation{{Matches: []mesh.Match{
			{Path: exact("/a"), Method: "GET"}, {Path: exact("/a"), Method: "PUT"},
			{Path: mesh.PathMatch{Kind: mesh.PathPrefix, Value: "/b"}, Method: "GET"}, {Path: mesh.PathMatch{Kind: mesh.PathPrefix, Value: "/b"}, Method: "PUT"}}}}},
		`{to: [{headers: [{name: X-A, value: b}]}]}`: {To: []mesh.Operation{{Matches: []mesh.Match{{Headers: []mesh.FieldMatch{{Name: "x-a", Value: "b"}}}}}}},
		`{to: [{grpc: [{service: a.B, method: C}, {service: a.D}]}]}`: {To: []mesh.Operation{{Matches: []mesh.Match{
			{Path: exact("/a.B/C")}, {Path: mesh.PathMatch{Kind: mesh.PathPrefix, Value: "/a.D"}}}}}},
	} {
		w := load(t, nsShop, authzDoc("shop", "p", "kind: Namespace", "action: AUDIT\n  rules: ["+text+"]"))
		got := rowOf(w, "shop/p")
		if got == nil || got.Action != mesh.Audit {
			t.Errorf("%s: %+v, problems %v", text, got, w.Problems())
			continue
		}
		if diff := cmp.Diff([]mesh.AuthRule{want}, got.Rules, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
			t.Errorf("%s: %s", text, diff)
		}
	}
	if got := rowOf(load(t, nsShop, authzDoc("shop", "p", "kind: Namespace", "action: ALLOW")), "shop/p"); got == nil || got.Rules != nil || got.Action != mesh.Allow {
		t.Errorf("without rules: %+v", got)
	}
}

func TestAnInvalidPolicyIsClosed(t *testing.T) {
	everything := []mesh.AuthRule{{}}
	for name, c := range map[string]struct {
		target, more string
		row          *mesh.Authorization
		refs, say    string
	}{
		"rules":                           {forWebPods, "action: ALLOW\n  rules: [{}]", &mesh.Authorization{Action: mesh.Deny, Rules: everything}, "shop/p:0", "would match everything"},
		"empty sources":                   {"kind: Namespace", "action: DENY\n  rules: [{from: [{}]}]", &mesh.Authorization{Action: mesh.Deny, All: "shop", Rules: everything}, "", "it says nothing"},
		"no rules":                        {"kind: Namespace, ports: [80]", "action: DENY", &mesh.Authorization{Action: mesh.Deny, All: "shop", Ports: []uint16{80}, Rules: everything}, "", "nothing is matched"},
		"action":                          {"kind: Service, name: web", "action: PERMIT", &mesh.Authorization{Action: mesh.Deny, Rules: everything}, "shop/p:8080", "neither ALLOW nor DENY"},
		"target":                          {"kind: Pod", allowShop, &mesh.Authorization{Action: mesh.Deny, All: "shop", Rules: everything}, "", "target.kind"},
		"selector":                        {"kind: Pods, selector: {}", allowShop, &mesh.Authorization{Action: mesh.Deny, All: "shop", Rules: everything}, "", "every pod"},
		"bad selector":                    {"kind: Pods, selector: {matchExpressions: [{key: a, operator: Is}]}", allowShop, &mesh.Authorization{Action: mesh.Deny, All: "shop", Rules: everything}, "", "selector"},
		"mesh from a namespace of others": {"kind: Mesh", "action: DENY\n  rules: [{}]", &mesh.Authorization{Action: mesh.Deny, All: "shop", Rules: everything}, "", "would match everything"},
		"AUDIT":                           {"kind: Namespace", "action: AUDIT", nil, "", "nothing is matched"},
		"no permit":                       {"kind: Mesh", allowShop, nil, "", "for policies in namespace fairlead-system alone"},
		"identity":                        {"kind: Namespace", `{action: ALLOW, rules: [{from: [{identities: ["*"]}]}]}`, nil, "", ""},
	} {
		if name == "identity" {
			c.more = "action: ALLOW\n  rules: [{from: [{identities: ['*']}]}]"
			c.row, c.say = &mesh.Authorization{Action: mesh.Deny, All: "shop", Rules: everything}, "neither a SPIFFE ID"
		}
		w := load(t, nsShop, twoPorts, sliceOf("shop", "web", "http", 8080, "10.0.0.1"), labelled("shop", "a", "10.0.0.1", "web"), authzDoc("shop", "p", c.target, c.more))
		if c.row != nil {
			c.row.Name = mesh.Name{Namespace: "shop", Name: "p"}
		}
		if diff := cmp.Diff(c.row, rowOf(w, "shop/p")); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if got := refsOf(w, "u-a"); got != c.refs {
			t.Errorf("%s: about the pod: %q", name, got)
		}
		s, _ := w.PolicyStatus(policyKey(AuthorizationPolicy, "p"))
		if got := policyConditions(s); !strings.Contains(got, "Accepted=False") || !strings.Contains(got, c.say) || strings.Contains(got, "is denied") != (c.row != nil) {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestAnInvalidPolicyLeavesTheLastValidOneInForce(t *testing.T) {
	w, f := NewWorld(Config{}), newFiles()
	apply(t, w, f, "ns", nsShop, labelled("shop", "a", "10.0.0.1", "web"))
	apply(t, w, f, "p", authzDoc("shop", "p", "kind: Namespace", denyShop))
	valid := rowOf(w, "shop/p")
	apply(t, w, f, "p", authzDoc("shop", "p", forWebPods, "action: DENY"))
	if diff := cmp.Diff(valid, rowOf(w, "shop/p")); diff != "" || refsOf(w, "u-a") != "" {
		t.Error(diff, refsOf(w, "u-a"))
	}
	apply(t, w, f, "p") // away, and with it what was valid
	if rowOf(w, "shop/p") != nil {
		t.Error("a policy that is gone is in force")
	}
	apply(t, w, f, "p", authzDoc("shop", "p", forWebPods, "action: DENY"))
	if got := rowOf(w, "shop/p"); got == nil || !cmp.Equal(got.Rules, []mesh.AuthRule{{}}) || refsOf(w, "u-a") != "shop/p:0" {
		t.Errorf("not closed: %+v %s", got, refsOf(w, "u-a"))
	}
	apply(t, w, f, "p", authzDoc("shop", "p", "kind: Namespace", "action: DENY")) // invalid at another target
	if got := rowOf(w, "shop/p"); got == nil || got.All != "shop" || refsOf(w, "u-a") != "" {
		t.Errorf("closed at the old target: %+v %s", got, refsOf(w, "u-a"))
	}
	apply(t, w, f, "p", authzDoc("shop", "p", "kind: Namespace", allowShop))
	if got := rowOf(w, "shop/p"); got == nil || got.Action != mesh.Allow {
		t.Errorf("not open again: %+v", got)
	}
}

func TestAPolicyFollowsPodsAndServices(t *testing.T) {
	w, f := NewWorld(Config{}), newFiles()
	want := func(step, refs, condition string) {
		t.Helper()
		s, _ := w.PolicyStatus(policyKey(AuthorizationPolicy, "p"))
		if got := refsOf(w, "u-a"); got != refs || !strings.Contains(policyConditions(s), condition) {
			t.Errorf("%s: %q, want %q; status %s, want %s", step, got, refs, policyConditions(s), condition)
		}
	}
	apply(t, w, f, "ns", nsShop)
	apply(t, w, f, "pod", labelled("shop", "a", "10.0.0.1", "other"))
	apply(t, w, f, "p", authzDoc("shop", "p", forWebPods, allowShop))
	want("another label", "", v1alpha1.ReasonNothingMatched)
	apply(t, w, f, "pod", labelled("shop", "a", "10.0.0.1", "web"))
	want("labelled", "shop/p:0", "ResolvedRefs=True")
	apply(t, w, f, "pod", labelled("shop", "a", "10.0.0.1", "other"))
	want("not any more", "", v1alpha1.ReasonNothingMatched)

	apply(t, w, f, "p", authzDoc("shop", "p", "kind: Service, name: web, ports: [80]", allowShop))
	want("no Service", "", v1alpha1.ReasonTargetNotFound)
	apply(t, w, f, "svc", twoPorts)
	want("no endpoints", "", v1alpha1.ReasonNothingMatched)
	apply(t, w, f, "slice", sliceOf("shop", "web", "http", 8080, "10.0.0.1"))
	want("endpoints", "shop/p:8080", "ResolvedRefs=True")
	apply(t, w, f, "svc", strings.Replace(twoPorts, "port: 80}", "port: 82}", 1))
	want("another port", "", v1alpha1.ReasonNothingMatched)
	apply(t, w, f, "svc", twoPorts)
	apply(t, w, f, "pod", labelled("shop", "a", "10.0.0.9", "other"))
	want("another address", "", v1alpha1.ReasonNothingMatched)
	apply(t, w, f, "pod", labelled("shop", "a", "10.0.0.1", "other"))
	want("back", "shop/p:8080", "ResolvedRefs=True")
	apply(t, w, f, "slice")
	want("no endpoint any more", "", v1alpha1.ReasonNothingMatched)
	apply(t, w, f, "p")
	if n := len(w.own.behind) + len(w.own.at) + len(w.own.services) + len(w.own.about) + len(w.own.pods) + len(w.own.rows) + len(w.own.statuses.of); n != 0 {
		t.Errorf("%d things are left of a policy that is gone: %+v", n, w.own)
	}
}

func TestAPodThatIsGoneKeepsItsPolicies(t *testing.T) {
	w, f := NewWorld(Config{}), newFiles()
	apply(t, w, f, "ns", nsShop, twoPorts, authzDoc("shop", "p", "kind: Service, name: web", allowShop))
	apply(t, w, f, "pod", labelled("shop", "a", "10.0.0.1", "web"), sliceOf("shop", "web", "http", 8080, "10.0.0.1"))
	w.SetCaptured("a", w.Version(), map[string][]netip.Addr{"u-a": addrs("10.0.0.1")})
	apply(t, w, f, "pod")
	w.SetCaptured("a", w.Version(), map[string][]netip.Addr{"u-a": addrs("10.0.0.1")}) // it is looked at again
	if len(w.Leaving()) != 1 || refsOf(w, "u-a") != "shop/p:8080" {
		t.Errorf("leaving %v, about it: %q", w.Leaving(), refsOf(w, "u-a"))
	}
}
