package compile

import (
	"strings"
	"testing"

	"fairlead.io/fairlead/internal/mesh"
)

const allGood = "ResolvedRefs=True ResolvedRefs: Every reference leads to a port of a Service."

// second is the second condition of a route's first parent.
func second(t testing.TB, w *World, kind Kind, name string) string {
	t.Helper()
	lines := strings.Split(conditions(w, kind, name), "\n")
	if len(lines) < 2 {
		t.Fatal(lines)
	}
	return lines[1]
}

func TestReferencesThatLeadNowhere(t *testing.T) {
	external := "apiVersion: v1\nkind: Service\nmetadata: {name: out, namespace: shop}\nspec: {type: ExternalName, externalName: a.b}"
	udp := svc("shop", "dns", "10.9.0.9", "{port: 53, protocol: UDP}")
	for _, c := range []struct{ ref, reason, message string }{
		{"{name: ghost, port: 80}", "BackendNotFound", "Service shop/ghost does not exist"},
		{"{name: v1, port: 81}", "BackendNotFound", "Service shop/v1 has no TCP port 81"},
		{"{name: dns, port: 53}", "BackendNotFound", "Service shop/dns has no TCP port 53"},
		{"{name: out, port: 80}", "InvalidKind", "Service shop/out is of type ExternalName, which is no backend"},
		{"{kind: Nonsense, name: v1}", "InvalidKind", "Nonsense shop/v1 is no backend here: only a Service is"},
		{"{group: multicluster.x-k8s.io, kind: ServiceImport, name: v1, port: 80}", "InvalidKind", "ServiceImport.multicluster.x-k8s.io shop/v1 is no backend here: only a Service is"},
		{"{group: g.h, kind: Service, name: v1, port: 80}", "InvalidKind", "Service.g.h shop/v1 is no backend here: only a Service is"},
		{"{name: pay, namespace: bank, port: 80}", "RefNotPermitted", "no ReferenceGrant in namespace bank lets HTTPRoutes of namespace shop refer to Service pay"},
		{"{name: ghost, namespace: bank, port: 80}", "RefNotPermitted", "no ReferenceGrant in namespace bank lets HTTPRoutes of namespace shop refer to Service ghost"},
	} {
		t.Run(c.message, func(t *testing.T) {
			w := with(t, external, udp, httpRoute("r", "backendRefs: [{name: v1, port: 80}, "+strings.Replace(c.ref, "{", "{weight: 5, ", 1)+"]"))
			rule, _ := ruled(t, w)
			if len(rule.Backends) != 2 || rule.Backends[0].Broken != "" || rule.Backends[1].Broken != c.message || rule.Backends[1].Weight != 5 {
				t.Errorf("%+v", rule.Backends)
			}
			want := "ResolvedRefs=False " + c.reason + ": rules[0].backendRefs[1]: " + c.message + "."
			if got := second(t, w, HTTPRoute, "shop/r"); got != want {
				t.Error(got)
			}
			if p := w.Problems(); len(p) != 1 || p[0].File != "f.yaml" || !strings.Contains(p[0].Err.Error(), c.message) {
				t.Errorf("problems %v", p)
			}
			ref := strings.Replace(strings.Replace(c.ref, "{", "{backendRef: {", 1), "}", "}}", 1)
			w = with(t, external, udp, httpRoute("r", "filters: [{type: RequestMirror, requestMirror: "+ref+"}], "+toV1))
			rule, _ = ruled(t, w)
			if len(rule.Filters.Mirrors) != 1 || rule.Filters.Mirrors[0].Backend.Broken != c.message || rule.Backends[0].Broken != "" {
				t.Errorf("%+v", rule)
			}
			want = "ResolvedRefs=False " + c.reason + ": rules[0].filters[0].requestMirror.backendRef: " + c.message + "."
			if got := second(t, w, HTTPRoute, "shop/r"); got != want {
				t.Error(got)
			}
		})
	}
}

func TestAMessageNamesAFewReferences(t *testing.T) {
	w := with(t, httpRoute("r", "backendRefs: ["+strings.Repeat("{name: ghost, port: 80}, ", 8)+"]"))
	got := second(t, w, HTTPRoute, "shop/r")
	if strings.Count(got, "does not exist") != 5 || !strings.HasSuffix(got, "; and 3 more.") {
		t.Error(got)
	}
}

func TestABackendComesAndGoes(t *testing.T) {
	w, f := NewWorld(Config{}), newFiles()
	apply(t, w, f, "s.yaml", append(services, httpRoute("r", "backendRefs: [{name: later, port: 80}]"))...)
	broken := func() string {
		rule, _ := ruled(t, w)
		return rule.Backends[0].Broken
	}
	for _, c := range []struct{ ports, broken, condition string }{
		{"", "Service shop/later does not exist", "ResolvedRefs=False BackendNotFound"},
		{"{port: 81}", "Service shop/later has no TCP port 80", "ResolvedRefs=False BackendNotFound"},
		{"{port: 81, name: a}, {port: 80, name: b}", "", allGood},
		{"", "Service shop/later does not exist", "ResolvedRefs=False BackendNotFound"},
	} {
		if c.ports == "" {
			w.Update(f.drop("later.yaml"))
		} else {
			apply(t, w, f, "later.yaml", svc("shop", "later", "10.9.1.1", c.ports))
		}
		if got := broken(); got != c.broken {
			t.Errorf("%q: %s", c.ports, got)
		}
		if got := second(t, w, HTTPRoute, "shop/r"); !strings.HasPrefix(got, c.condition) {
			t.Errorf("%q: %s", c.ports, got)
		}
	}
}

func grant(name, from, to string) string {
	return "apiVersion: gateway.networking.k8s.io/v1\nkind: ReferenceGrant\nmetadata: {name: " + name + ", namespace: bank}\nspec: {from: [" + from + "], to: [" + to + "]}"
}

func TestReferenceGrants(t *testing.T) {
	const from, to = "{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}", "{group: '', kind: Service}"
	route := httpRoute("r", "backendRefs: [{name: pay, namespace: bank, port: 80}]")
	for _, c := range []struct {
		name, from, to string
		granted        bool
	}{
		{"all Services", from, to, true},
		{"this Service", from, "{group: '', kind: Service, name: pay}", true},
		{"one of several", "{group: '', kind: Some, namespace: x}, " + from, "{group: '', kind: Secret}, " + to, true},
		{"another Service", from, "{group: '', kind: Service, name: other}", false},
		{"another kind of route", strings.Replace(from, "HTTP", "GRPC", 1), to, false},
		{"another namespace", strings.Replace(from, "shop", "shop2", 1), to, false},
		{"another group", strings.Replace(from, "gateway.networking.k8s.io", "''", 1), to, false},
		{"to another kind", from, "{group: '', kind: Secret}", false},
		{"to another group", from, "{group: g.h, kind: Service}", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, f := NewWorld(Config{}), newFiles()
			apply(t, w, f, "s.yaml", append(services, route)...)
			check := func(granted bool) {
				t.Helper()
				rule, _ := ruled(t, w)
				if granted != (rule.Backends[0].Broken == "") || granted != (second(t, w, HTTPRoute, "shop/r") == allGood) {
					t.Errorf("%+v %s", rule, conditions(w, HTTPRoute, "shop/r"))
				}
			}
			check(false)
			apply(t, w, f, "g.yaml", grant("g", c.from, c.to))
			check(c.granted)
			apply(t, w, f, "h.yaml", grant("h", from, to)) // one more, which is enough
			check(true)
			w.Update(f.drop("h.yaml"))
			check(c.granted)
			w.Update(f.drop("g.yaml"))
			check(false)
			apply(t, w, f, "g.yaml", strings.Replace(grant("g", from, to), "namespace: bank}", "namespace: elsewhere}", 1))
			check(false)
		})
	}
}

// A consumer route may send on to the Service that was called, as its clients do; not to others beside it, and not from
// the traffic to another Service.
func TestAConsumerRouteNeedsNoGrantForTheServiceThatWasCalled(t *testing.T) {
	toPay := `{group: "", kind: Service, name: pay, namespace: bank}`
	back := "rules: [{backendRefs: [{name: pay, namespace: bank, port: 80}]}]"
	w := with(t, routeOf(HTTPRoute, "shop/r", "", toPay+", "+toWeb, back))
	if r := w.Routes(pay); r.Ports[0].Consumer != "shop" || r.Ports[0].Rules[0].Backends[0].Broken != "" {
		t.Errorf("%+v", r)
	}
	rule, _ := ruled(t, w)
	if !strings.HasPrefix(rule.Backends[0].Broken, "no ReferenceGrant in namespace bank") {
		t.Errorf("a second parent opens the way from everywhere: %+v", rule)
	}
	got := strings.Split(conditions(w, HTTPRoute, "shop/r"), "\n")
	if got[1] != allGood || !strings.HasPrefix(got[3], "ResolvedRefs=False RefNotPermitted: ") {
		t.Error(got)
	}
}

func TestParentsComeAndGo(t *testing.T) {
	headless := "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec: {clusterIP: None, ports: [{port: 80}]}"
	external := "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec: {type: ExternalName, externalName: a.b}"
	w, f := NewWorld(Config{}), newFiles()
	at := func(more string) string {
		return routeOf(HTTPRoute, "shop/r", "", strings.Replace(toWeb, "}", more+"}", 1), "rules: [{}]")
	}
	for _, c := range []struct{ web, parent, want string }{
		{"", "", "NoMatchingParent: Service shop/web does not exist."},
		{svc("shop", "web", "10.9.0.1", "{port: 80}"), "", "Accepted: In force at Service shop/web, port 80."},
		{svc("shop", "web", "10.9.0.1", "{port: 80, name: a}, {port: 81, name: b}"), "", "Accepted: In force at Service shop/web, port 80, 81."},
		{svc("shop", "web", "10.9.0.1", "{port: 80, name: a}, {port: 81, name: b}"), ", port: 80", "Accepted: In force at Service shop/web, port 80."},
		{svc("shop", "web", "10.9.0.1", "{port: 80, name: a}, {port: 81, name: b}"), ", sectionName: b", "Accepted: In force at Service shop/web, port 81."},
		{svc("shop", "web", "10.9.0.1", "{port: 80, name: a}, {port: 81, name: b}"), ", sectionName: b, port: 81", "Accepted: In force at Service shop/web, port 81."},
		{svc("shop", "web", "10.9.0.1", "{port: 80, name: a}, {port: 81, name: b}"), ", sectionName: b, port: 80", `NoMatchingParent: Service shop/web has no TCP port 80, port named "b".`},
		{svc("shop", "web", "10.9.0.1", "{port: 80}"), ", port: 81", "NoMatchingParent: Service shop/web has no TCP port 81."},
		{svc("shop", "web", "10.9.0.1", "{port: 80}"), ", sectionName: b", `NoMatchingParent: Service shop/web has no TCP port named "b".`},
		{svc("shop", "web", "10.9.0.1", "{port: 80, protocol: UDP}"), "", "NoMatchingParent: Service shop/web has no TCP port."},
		{svc("shop", "web", "10.9.0.1", "{port: 80}"), ", namespace: shop", "Accepted: In force at Service shop/web, port 80."},
		{headless, "", "NoMatchingParent: Service shop/web is headless: there is no address that traffic to it is known by."},
		{external, "", "NoMatchingParent: Service shop/web is of type ExternalName: there is no address that traffic to it is known by."},
		{"", "", "NoMatchingParent: Service shop/web does not exist."},
	} {
		if c.web == "" {
			w.Update(f.drop("web.yaml"))
		} else {
			apply(t, w, f, "web.yaml", c.web)
		}
		apply(t, w, f, "r.yaml", at(c.parent))
		good := strings.HasPrefix(c.want, "Accepted")
		want := "Accepted=False " + c.want
		if good {
			want = "Accepted=True " + c.want
		}
		if got := conditions(w, HTTPRoute, "shop/r"); got != want+"\n"+allGood {
			t.Error(got)
		}
		if (w.Routes(web) != nil) != good {
			t.Errorf("%s: %+v", c.want, w.Routes(web))
		}
		if r := w.Routes(web); good && len(r.Ports) != 1+strings.Count(c.want, ", 81") {
			t.Errorf("%+v", r)
		}
	}
}

func TestARouteWithSeveralParents(t *testing.T) {
	w := with(t, routeOf(HTTPRoute, "shop/r", "",
		`{group: "", kind: Service, name: web, port: 80}, {group: "", kind: Service, name: web, port: 8080}, {group: core, kind: Service, name: v1}, {group: "", kind: Service, name: ghost}, {name: gw}`, "rules: [{"+toV2+"}]"))
	s, _ := w.RouteStatus(Key{HTTPRoute, "shop", "r"})
	if len(s.Parents) != 4 || *s.Parents[1].Ref.Port != 8080 || *s.Parents[2].Ref.Group != "core" {
		t.Fatalf("%+v", s)
	}
	if got := conditionText(s.Parents[3].Conditions[0]); got != "Accepted=False NoMatchingParent: Service shop/ghost does not exist." {
		t.Error(got)
	}
	if len(w.Routes(web).Ports) != 2 || len(w.Routes(mesh.Name{Namespace: "shop", Name: "v1"}).Ports) != 1 {
		t.Error(w.Routes(web))
	}
	// Twice at one port is once.
	w = with(t, routeOf(HTTPRoute, "shop/r", "", toWeb+`, {group: "", kind: Service, name: web, port: 80}`, "rules: [{"+toV2+"}]"))
	if got := ask(w, web, 80, ""); got != "HTTPRoute\nr#0 prefix /" {
		t.Error(got)
	}
}
