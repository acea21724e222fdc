package compile

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairlead.io/fairlead/internal/mesh"
)

func routeNames(rows []*mesh.Routes) []string {
	var out []string
	for _, r := range rows {
		out = append(out, r.Service.String())
	}
	slices.Sort(out)
	return out
}

func TestRoutesAreToldWithTheServicesThatAreWanted(t *testing.T) {
	w := with(t, httpRoute("r", toV1), routeOf(HTTPRoute, "bank/r", "", `{group: "", kind: Service, name: pay}`, "rules: []"))
	if d := w.Delta(0, all); !cmp.Equal(routeNames(d.Routes), []string{"bank/pay", "shop/web"}) {
		t.Error(routeNames(d.Routes))
	}
	only := func(n mesh.Name) bool { return n == pay }
	if d := w.Delta(0, only); !cmp.Equal(routeNames(d.Routes), []string{"bank/pay"}) {
		t.Error(routeNames(d.Routes))
	}
	since := w.Version()
	w.Update(nil, []Key{{HTTPRoute, "shop", "r"}, {HTTPRoute, "bank", "r"}})
	if d := w.Delta(since, only); len(d.Routes) != 0 || !cmp.Equal(d.GoneRoutes, []mesh.Name{pay}) {
		t.Errorf("%+v", d)
	}
}

// TestAChangeIsToldOfWhatItConcerns: of 300 Services with a route each, one thing changes at a time.
func TestAChangeIsToldOfWhatItConcerns(t *testing.T) {
	w, f := NewWorld(Config{}), newFiles()
	route := func(i int, rules string) string {
		return routeOf(HTTPRoute, fmt.Sprintf("shop/r%d", i), "", fmt.Sprintf(`{group: "", kind: Service, name: s%d}`, i), "rules: "+rules)
	}
	service := func(i int, ports string) string {
		return svc("shop", fmt.Sprintf("s%d", i), fmt.Sprintf("10.9.%d.%d", i/200, 1+i%200), ports)
	}
	for i := range 300 {
		apply(t, w, f, fmt.Sprintf("s%d.yaml", i), service(i, "{port: 80}"))
		apply(t, w, f, fmt.Sprintf("r%d.yaml", i), route(i, fmt.Sprintf("[{backendRefs: [{name: s%d, port: 80}]}]", i+1)))
	}
	apply(t, w, f, "cross.yaml", routeOf(HTTPRoute, "bank/c", "", `{group: "", kind: Service, name: s9, namespace: shop}`, "rules: [{backendRefs: [{name: s5, namespace: shop, port: 80}]}]"))
	for _, c := range []struct {
		name, file, doc string
		rows            []string // changed, or gone with a -
		statuses        string
	}{
		{"a rule", "r7.yaml", route(7, "[{backendRefs: [{name: s8, port: 80, weight: 2}]}]"), []string{"shop/s7"}, ""},
		{"the same again", "r7.yaml", route(7, "[{backendRefs: [{name: s8, port: 80, weight: 2}]}]"), nil, ""},
		{"a generation", "r7.yaml", strings.Replace(route(7, "[{backendRefs: [{name: s8, port: 80, weight: 2}]}]"), "namespace: shop}", "namespace: shop, generation: 2}", 1), nil, "r7"},
		{"an invalid rule", "r7.yaml", route(7, "[{matches: [{method: X}]}]"), nil, "r7"},
		{"a Service's port", "s8.yaml", service(8, "{port: 81}"), []string{"shop/s7", "shop/s8"}, "r8"}, // what is said of r7 is that it is invalid
		{"a Service's port of another protocol", "s20.yaml", service(20, "{port: 80}, {name: x, port: 53, protocol: UDP}"), nil, ""},
		{"a Service", "s300.yaml", service(300, "{port: 80}"), []string{"shop/s299"}, "r299"},
		{"a Service gone", "s300.yaml", "", []string{"shop/s299"}, "r299"},
		{"a grant", "g.yaml", strings.Replace(grant("g", "{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: bank}", "{group: '', kind: Service}"), "namespace: bank}\n", "namespace: shop}\n", 1), []string{"shop/s9"}, "c"},
		{"a grant gone", "g.yaml", "", []string{"shop/s9"}, "c"},
		{"a route gone", "r30.yaml", "", []string{"-shop/s30"}, "-r30"},
		{"another kind at its port", "t.yaml", routeOf(GRPCRoute, "shop/g", "", `{group: "", kind: Service, name: s40}`, "rules: [{}]"), []string{"shop/s40"}, "g r40"},
		{"another parent", "r50.yaml", strings.Replace(route(50, "[]"), "name: s50}", "name: s51}", 1), []string{"-shop/s50", "shop/s51"}, "r50"},
	} {
		version := w.Version()
		_, status := w.RouteStatuses(0)
		if c.doc == "" {
			w.Update(f.drop(c.file))
		} else {
			apply(t, w, f, c.file, c.doc)
		}
		d := w.Delta(version, all)
		rows := routeNames(d.Routes)
		for _, gone := range d.GoneRoutes {
			rows = append(rows, "-"+gone.String())
		}
		slices.Sort(rows)
		if !cmp.Equal(rows, c.rows) || d.Reset {
			t.Errorf("%s: rows %v", c.name, rows)
		}
		changed, _ := w.RouteStatuses(status)
		var names []string
		for _, s := range changed {
			if s.Gone {
				s.Name = "-" + s.Name
			}
			names = append(names, s.Name)
		}
		slices.Sort(names)
		if got := strings.Join(names, " "); got != c.statuses {
			t.Errorf("%s: statuses %s", c.name, got)
		}
	}
}

func TestStatusesWakeWhoWaitsForThem(t *testing.T) {
	w, f := NewWorld(Config{}), newFiles()
	apply(t, w, f, "s.yaml", services...)
	status, rows := w.RouteStatusesChanged(), w.Changed()
	fired := func(c <-chan struct{}) bool {
		select {
		case <-c:
			return true
		default:
			return false
		}
	}
	apply(t, w, f, "r.yaml", httpRoute("r", "matches: [{method: X}]"))
	if !fired(status) || fired(rows) {
		t.Error("a status that changes concerns no node, and who writes it must know")
	}
	status = w.RouteStatusesChanged()
	apply(t, w, f, "r.yaml", httpRoute("r", "matches: [{method: X}]"))
	if fired(status) {
		t.Error("the same again is a change")
	}
	all, version := w.RouteStatuses(0)
	if len(all) != 1 || version == 0 {
		t.Errorf("%+v %d", all, version)
	}
	if again, same := w.RouteStatuses(version); len(again) != 0 || same != version {
		t.Errorf("%+v", again)
	}
	if old, _ := w.RouteStatuses(1); len(old) != 1 {
		t.Error("a version of long ago does not bring all")
	}
}

func TestNothingStaysOfRoutesThatAreGone(t *testing.T) {
	w, f := NewWorld(Config{}), newFiles()
	apply(t, w, f, "all.yaml", append(services, grant("g", "{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}", "{group: '', kind: Service}"),
		httpRoute("r", "filters: [{type: RequestMirror, requestMirror: {backendRef: {name: v2, port: 80}}}], backendRefs: [{name: pay, namespace: bank, port: 80}]"), httpRoute("bad", "retry: {}"))...)
	if w.Routes(web) == nil {
		t.Fatal(w.Problems())
	}
	w.Update(f.drop("all.yaml"))
	r := &w.routes
	if n := len(r.of) + len(r.refused) + len(r.rows) + len(r.winners) + len(r.statuses.of); n != 0 {
		t.Errorf("%+v", r)
	}
	if n := len(r.parents) + len(r.backends) + len(r.across) + len(r.grants); n != 0 {
		t.Errorf("indices: %v %v %v %v", r.parents, r.backends, r.across, r.grants)
	}
}

// TestRoutesByDeltasAreThoseOfAWorldMadeAtOnce changes everything that routes hang on at random, and compares with a
// world that was told the same at once.
func TestRoutesByDeltasAreThoseOfAWorldMadeAtOnce(t *testing.T) {
	w, f := NewWorld(Config{}), newFiles()
	follow := &stepper{world: w}
	docs := map[string]string{}
	rnd := rand.New(rand.NewPCG(5, 6))
	spaces := []string{"shop", "bank"}
	pick := func() string { return fmt.Sprintf("s%d", rnd.IntN(4)) }
	for i := range 600 {
		name := fmt.Sprintf("%s%d", []string{"service", "route", "grant"}[rnd.IntN(3)], rnd.IntN(6))
		ns := spaces[rnd.IntN(2)]
		switch {
		case rnd.IntN(4) == 0:
			delete(docs, name)
			w.Update(f.drop(name + ".yaml"))
		case strings.HasPrefix(name, "service"):
			n := rnd.IntN(8)
			docs[name] = svc(spaces[n/4], fmt.Sprintf("s%d", n%4), fmt.Sprintf("10.9.0.%d", n+1), []string{"{port: 80}", "{port: 81}", "{port: 80, name: a}, {port: 81, name: b}"}[rnd.IntN(3)])
		case strings.HasPrefix(name, "route"):
			kind := []Kind{HTTPRoute, GRPCRoute, TCPRoute}[rnd.IntN(3)]
			parent := fmt.Sprintf(`{group: "", kind: Service, name: %s, namespace: %s}`, pick(), spaces[rnd.IntN(2)])
			docs[name] = routeOf(kind, ns+"/"+name, "", parent, fmt.Sprintf("rules: [{backendRefs: [{name: %s, namespace: %s, port: 80}]}]", pick(), spaces[rnd.IntN(2)]))
		default:
			docs[name] = strings.Replace(grant(name, "{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}", "{group: '', kind: Service, name: "+pick()+"}"), "namespace: bank}\n", "namespace: "+ns+"}\n", 1)
		}
		if doc, there := docs[name]; there {
			apply(t, w, f, name+".yaml", doc)
		}
		follow.step(t)
		if i%20 != 19 {
			continue
		}
		fresh := NewWorld(Config{})
		fresh.Update(objectsOf(f), nil)
		if diff := cmp.Diff(routesText(fresh), routesText(w)); diff != "" {
			t.Fatalf("after %d steps: %s", i, diff)
		}
	}
}

func objectsOf(f *files) []Object {
	var out []Object
	for k, names := range f.defs {
		out = append(out, f.of[names[0]].objects[k])
	}
	return out
}

func routesText(w *World) string {
	var out []string
	for _, r := range w.Delta(0, all).Routes {
		text, err := json.Marshal(r)
		if err != nil {
			panic(err)
		}
		out = append(out, string(text))
	}
	statuses, _ := w.RouteStatuses(0)
	for _, s := range statuses {
		out = append(out, s.String()+"\n"+conditions(w, s.Kind, s.Namespace+"/"+s.Name))
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}
