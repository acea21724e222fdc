package node

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fairlead.io/fairlead/internal/l7"
	"fairlead.io/fairlead/internal/l7/exchange"
	"fairlead.io/fairlead/internal/l7/routing"
	"fairlead.io/fairlead/internal/mesh"
	"fairlead.io/fairlead/internal/node/debug"
)

// TestRulesInForceAreTold uses a service, and reads what is told of its rules.
func TestRulesInForceAreTold(t *testing.T) {
	w := newWorld()
	w.apply(shop())
	rule := canaryRule(90, 10)
	rule.Policy = &mesh.Traffic{From: []mesh.Name{{Namespace: "shop", Name: "calm"}}, Timeouts: &mesh.Timeouts{Request: time.Second}}
	rule.Filters.Request = &mesh.FieldEdit{Remove: []string{"a"}}
	row := shopRoutes(rule)
	row.Ports[0].Order[0].Match = mesh.Match{Path: mesh.PathMatch{Kind: mesh.PathPrefix, Value: "/x"}, Method: "GET", Headers: []mesh.FieldMatch{{Name: "u", Value: "a.*", Regex: true}}}
	w.apply(mesh.Delta{Routes: []*mesh.Routes{row}})
	b := testBrain(w)
	if got := b.tables.list(); len(got) != 0 {
		t.Errorf("nobody has used it: %+v", got)
	}
	s := w.Snapshot()
	svc, port, _ := s.ServiceByAddr(netip.AddrPortFrom(vip, 80))
	b.tables.get(s, svc, port, vip, "shop")
	b.tables.get(s, svc, port, vip, "other") // everybody's rules are told once
	name := func(n string) debug.Name { return debug.Name{Namespace: "shop", Name: n} }
	want := []debug.Rules{{Service: plainName(shopSvc), Port: 80, Kind: "HTTPRoute", Rules: []debug.Rule{{
		Route: name("canary"), Rule: "split", Matches: []string{"GET /x/* u~a.*"}, Filters: []string{"request header fields: 0 set, 0 added, 1 removed"},
		Backends: []debug.Backend{{Service: plainName(v1Svc), Port: 80, Weight: 90, Endpoints: 1}, {Service: plainName(v2Svc), Port: 80, Weight: 10}},
		Policies: debug.Treatment{From: []debug.Name{name("calm")}, Parts: []debug.Part{{Name: "timeouts", Text: "request 1s, attempt unlimited, idle unlimited"}}},
	}}}}
	if diff := cmp.Diff(want, b.tables.list()); diff != "" {
		t.Error(diff)
	}
	e := &explainer{b: b, pod: &l7.Pod{UID: "web", Name: mesh.Name{Namespace: "shop", Name: "web-1"}},
		request: &routing.Request{Method: "GET", Path: "/x", Fields: []exchange.Field{{Name: "u", Value: "ab"}}}}
	e.rules(s, svc, port, vip)
	if diff := cmp.Diff(&want[0].Rules[0].Policies, e.out.Treatment); diff != "" {
		t.Error(diff)
	}
	if last := e.out.Steps[len(e.out.Steps)-1]; last.Name != "traffic" || !strings.HasPrefix(last.Text, "timeouts: request 1s") {
		t.Errorf("%+v", e.out.Steps)
	}
}

// TestExplainAsksPoliciesAboutTheRequest asks what a policy about paths says of two of them.
func TestExplainAsksPoliciesAboutTheRequest(t *testing.T) {
	w := newWorld()
	b := testBrain(w)
	w.apply(mesh.Delta{Pods: []*mesh.Pod{db, webRow}})
	w.apply(denyWeb(secret))
	local := &l7.Pod{UID: db.UID, Name: db.Name, Addrs: db.Addrs}
	for path, let := range map[string]bool{"/secret/x": false, "/open": true} {
		e := &explainer{b: b, pod: local, request: &routing.Request{Method: "GET", Path: path}}
		e.arrival(webIP, 3306)
		if len(e.out.Steps) != 1 || e.out.Steps[0].OK != let {
			t.Errorf("%s: %+v", path, e.out.Steps)
		}
		if !let && !strings.Contains(e.out.Steps[0].Text, "data/no-web, rule 0") {
			t.Errorf("%s: %+v", path, e.out.Steps)
		}
	}
	s := w.Snapshot()
	got := authRuleText(s, &debug.AuthzRule{Namespace: denyName.Namespace, Policy: denyName.Name, Rule: "0"})
	if want := "from " + webRow.Account.Namespace + "/" + webRow.Account.Name + " to /secret/*"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
