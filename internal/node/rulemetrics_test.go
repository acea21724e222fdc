package node

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"fairlead.io/fairlead/internal/l7"
	"fairlead.io/fairlead/internal/l7/exchange"
	"fairlead.io/fairlead/internal/mesh"
)

func TestRuleMetrics(t *testing.T) {
	m, reg := testMetrics(t)
	rule := canaryRule(90, 10)
	unnamed := mesh.Rule{Kind: mesh.GRPCRoute, Route: mesh.Name{Namespace: "shop", Name: "calls"}, Index: 2}
	r := l7.RequestRecord{Direction: l7.Outbound, Pod: webPod, Peer: dbPod, Service: shopSvc, Version: exchange.HTTP2, Status: 200,
		Duration: time.Millisecond, Rule: &rule, Backend: v2Svc, Retries: 2, Mirrored: 1}
	m.Request(&r)
	r.Rule, r.Backend, r.Status, r.Retries, r.Mirrored, r.Fault = &unnamed, mesh.Name{}, 503, 0, 0, true
	m.Request(&r)
	r.Rule = nil
	m.Request(&r)
	c := l7.ConnRecord{Direction: l7.Outbound, Pod: webPod, Service: shopSvc, Rule: &rule, Backend: v1Svc, Cause: l7.CauseConnect}
	m.ConnRefused(&c)
	want := `
# HELP fairlead_route_actions_total What policies and rules did to requests beside sending them on.
# TYPE fairlead_route_actions_total counter
fairlead_route_actions_total{action="fault",dst_service="front",dst_service_namespace="shop",route="",route_kind="",route_namespace="",rule="",src_namespace="shop",src_workload="web"} 1
fairlead_route_actions_total{action="fault",dst_service="front",dst_service_namespace="shop",route="calls",route_kind="GRPCRoute",route_namespace="shop",rule="2",src_namespace="shop",src_workload="web"} 1
fairlead_route_actions_total{action="mirror",dst_service="front",dst_service_namespace="shop",route="canary",route_kind="HTTPRoute",route_namespace="shop",rule="split",src_namespace="shop",src_workload="web"} 1
fairlead_route_actions_total{action="retry",dst_service="front",dst_service_namespace="shop",route="canary",route_kind="HTTPRoute",route_namespace="shop",rule="split",src_namespace="shop",src_workload="web"} 2
# HELP fairlead_route_connections_total Opaque connections for which a rule was chosen, by rule, backend and reason of the end.
# TYPE fairlead_route_connections_total counter
fairlead_route_connections_total{backend="v1",backend_namespace="shop",dst_service="front",dst_service_namespace="shop",reason="connect",route="canary",route_kind="HTTPRoute",route_namespace="shop",rule="split",src_namespace="shop",src_workload="web"} 1
# HELP fairlead_route_requests_total Requests for which a rule was chosen, by rule, backend and status.
# TYPE fairlead_route_requests_total counter
fairlead_route_requests_total{backend="",backend_namespace="",dst_service="front",dst_service_namespace="shop",route="calls",route_kind="GRPCRoute",route_namespace="shop",rule="2",src_namespace="shop",src_workload="web",status="5xx"} 1
fairlead_route_requests_total{backend="v2",backend_namespace="shop",dst_service="front",dst_service_namespace="shop",route="canary",route_kind="HTTPRoute",route_namespace="shop",rule="split",src_namespace="shop",src_workload="web",status="2xx"} 1
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "fairlead_route_requests_total", "fairlead_route_connections_total", "fairlead_route_actions_total"); err != nil {
		t.Error(err)
	}
}

// TestRuleMetricsAreBounded: with more rules than there is room for, the rest is counted together.
func TestRuleMetricsAreBounded(t *testing.T) {
	m, _ := testMetrics(t)
	m.rules.requests.max = 10
	for i := range 50 {
		rule := canaryRule(1, 1)
		rule.Title, rule.Index = "", i
		m.Request(&l7.RequestRecord{Direction: l7.Outbound, Pod: webPod, Service: shopSvc, Status: 200, Rule: &rule})
	}
	if n := len(m.rules.requests.m); n != 11 {
		t.Errorf("%d series", n)
	}
	if n := testutil.ToFloat64(m.rules.requests.get(shareKey{ruleKey: overflowRule, backend: overflowPair.src, status: overflowName})); n != 40 {
		t.Errorf("%v are counted together, want 40", n)
	}
}
