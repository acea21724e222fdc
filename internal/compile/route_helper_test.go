package compile

import (
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead.io/fairlead/internal/mesh"
)

// The Services of these tests: web and its two versions with ports 80 and 8080, and one of another namespace.
var services = []string{
	svc("shop", "web", "10.9.0.1", "{name: http, port: 80}, {name: admin, port: 8080}"),
	svc("shop", "v1", "10.9.0.2", "{port: 80}"),
	svc("shop", "v2", "10.9.0.3", "{port: 80}"),
	svc("bank", "pay", "10.9.0.4", "{port: 80}"),
}

var (
	web  = mesh.Name{Namespace: "shop", Name: "web"}
	pay  = mesh.Name{Namespace: "bank", Name: "pay"}
	toV1 = "backendRefs: [{name: v1, port: 80}]"
	toV2 = "backendRefs: [{name: v2, port: 80}]"
)

func svc(ns, name, ip, ports string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: %s, namespace: %s}\nspec: {clusterIP: %s, ports: [%s]}", name, ns, ip, ports)
}

// routeOf is a route of kind HTTPRoute, GRPCRoute and so on, named ns/name, with what its spec says beside parents and rules.
func routeOf(kind Kind, name, meta, parents, rules string) string {
	ns, name, _ := strings.Cut(name, "/")
	return fmt.Sprintf("apiVersion: gateway.networking.k8s.io/v1\nkind: %s\nmetadata: {name: %s, namespace: %s%s}\nspec:\n  parentRefs: [%s]\n  %s", kind, name, ns, meta, parents, rules)
}

// httpRoute is shop/NAME with web for a parent.
func httpRoute(name string, rules ...string) string {
	return routeOf(HTTPRoute, "shop/"+name, "", toWeb, "rules: "+list(rules))
}

func list(rules []string) string {
	if len(rules) == 0 {
		return "[]"
	}
	return "[{" + strings.Join(rules, "}, {") + "}]"
}

const toWeb = `{group: "", kind: Service, name: web}`

// with loads the Services of these tests and more.
func with(t testing.TB, docs ...string) *World {
	t.Helper()
	return load(t, append(append([]string{}, services...), docs...)...)
}

// ruled is the only rule at web's port 80.
func ruled(t testing.TB, w *World) (mesh.Rule, []mesh.RuleMatch) {
	t.Helper()
	if r := w.Routes(web); r != nil && r.Ports[0].Port == 80 && len(r.Ports[0].Rules) == 1 {
		return r.Ports[0].Rules[0], r.Ports[0].Order
	}
	t.Fatalf("no rule, or several: %+v; %v", w.Routes(web), w.Problems())
	return mesh.Rule{}, nil
}

// ask is the order at a port, as text: route#rule match, for each match.
func ask(w *World, service mesh.Name, port uint16, consumer string) string {
	var out []string
	r := w.Routes(service)
	if r == nil {
		return ""
	}
	for _, p := range r.Ports {
		if p.Port != port || p.Consumer != consumer {
			continue
		}
		out = append(out, p.Kind.String())
		for _, o := range p.Order {
			x := p.Rules[o.Rule]
			out = append(out, fmt.Sprintf("%s#%d%s", x.Route.Name, x.Index, matchText(o.Match)))
		}
	}
	return strings.Join(out, "\n")
}

func matchText(m mesh.Match) string {
	var b strings.Builder
	if m.Path.Kind != mesh.PathAny {
		b.WriteString(" " + [...]string{"", "exact", "prefix", "regex"}[m.Path.Kind] + " " + m.Path.Value)
	}
	if m.Method != "" {
		b.WriteString(" " + m.Method)
	}
	for _, f := range m.Headers {
		b.WriteString(" " + f.Name + ":" + f.Value)
	}
	for _, f := range m.Query {
		b.WriteString(" ?" + f.Name + "=" + f.Value)
	}
	if m.SNI != "" {
		b.WriteString(" sni " + m.SNI)
	}
	return b.String()
}

// conditions are a route's at its parents, as text.
func conditions(w *World, kind Kind, name string) string {
	ns, name, _ := strings.Cut(name, "/")
	s, there := w.RouteStatus(Key{kind, ns, name})
	if !there {
		return "no status"
	}
	var out []string
	for _, p := range s.Parents {
		for _, c := range p.Conditions {
			out = append(out, conditionText(c))
		}
	}
	return strings.Join(out, "\n")
}

func conditionText(c metav1.Condition) string {
	return fmt.Sprintf("%s=%s %s: %s", c.Type, c.Status, c.Reason, c.Message)
}
