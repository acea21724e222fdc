package compile

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fairlead.io/fairlead/internal/mesh"
)

// saying is policies of which each says its Service's, route's or rule's name.
func saying(service mesh.Name, route Key, rule string) *mesh.Traffic {
	return &mesh.Traffic{
		From:     []mesh.Name{service, {Namespace: route.Name, Name: rule}},
		Timeouts: &mesh.Timeouts{Request: time.Minute, Attempt: time.Second, Idle: time.Hour},
	}
}

func TestAServiceWithAPolicyAndNoRouteHasARow(t *testing.T) {
	w := with(t)
	row := w.row("shop/web", nil, nil, saying)
	if row == nil || len(row.Ports) != 2 {
		t.Fatalf("%+v", row)
	}
	for i, port := range []uint16{80, 8080} {
		if p := row.Ports[i]; p.Port != port || p.Kind != mesh.NoRoute || p.Consumer != "" || p.Policy.From[0] != web {
			t.Errorf("%+v", p)
		}
	}
	if row := w.row("shop/ghost", nil, nil, saying); row != nil {
		t.Errorf("a Service that does not exist: %+v", row)
	}
}

func TestPoliciesOfRules(t *testing.T) {
	w := with(t,
		httpRoute("r", "name: a, matches: [{path: {value: /a}}]", "timeouts: {request: 0s}, matches: [{path: {value: /b}}]", "timeouts: {backendRequest: 3s}"),
		routeOf(HTTPRoute, "client/c", "", `{group: "", kind: Service, name: web, namespace: shop, port: 80}`, "rules: []"))
	groups, winners := w.contest("shop/web")
	row := w.row("shop/web", groups, winners, saying)
	if len(row.Ports) != 3 || row.Ports[0].Consumer != "" || row.Ports[1].Consumer != "client" || row.Ports[2].Port != 8080 {
		t.Fatalf("%+v", row)
	}
	for i, want := range []struct {
		title    string
		timeouts mesh.Timeouts
	}{
		{"a", mesh.Timeouts{Request: time.Minute, Attempt: time.Second, Idle: time.Hour}},
		{"", mesh.Timeouts{Attempt: time.Second, Idle: time.Hour}},
		{"", mesh.Timeouts{Request: time.Minute, Idle: time.Hour}},
	} {
		p := row.Ports[0].Rules[i].Policy
		if diff := cmp.Diff(want.timeouts, *p.Timeouts); diff != "" || p.From[0] != web || p.From[1] != (mesh.Name{Namespace: "r", Name: want.title}) {
			t.Errorf("rule %d: %s%v", i, diff, p.From)
		}
	}
	if p := row.Ports[1].Rules[0].Policy; p.From[1].Namespace != "c" {
		t.Errorf("%+v", p)
	}
}

func TestARefreshedRowIsToldOnlyIfItChanged(t *testing.T) {
	w := with(t, httpRoute("r", toV1))
	before, version := w.Routes(web), w.Version()
	w.mu.Lock()
	w.refreshRoutes(web)
	w.settleRoutes()
	w.end()
	w.mu.Unlock()
	if w.Routes(web) != before || w.Version() != version {
		t.Error("the same row is a change")
	}
}
