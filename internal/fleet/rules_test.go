package fleet

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestRulesOfAddsUp has two nodes, two callers, and a rule and a service of which only policies are known.
func TestRulesOfAddsUp(t *testing.T) {
	const rule = `dst_service_namespace="shop",dst_service="web",route_kind="HTTPRoute",route_namespace="shop",route="r",rule="0"`
	const to = `,backend_namespace="shop",backend="v1",`
	told := []Told[Metrics]{{}, {}, {}} // the third has not answered
	for i, text := range []string{
		"# TYPE fairlead_route_requests_total counter\n" +
			"fairlead_route_requests_total{src_workload=\"a\"," + rule + to + "status=\"2xx\"} 3\n" +
			"fairlead_route_requests_total{src_workload=\"b\"," + rule + to + "status=\"none\"} 2\n" +
			"fairlead_route_requests_total{src_workload=\"b\"," + rule + ",status=\"5xx\"} 1\n" +
			"# TYPE fairlead_route_actions_total counter\n" +
			"fairlead_route_actions_total{" + rule + ",action=\"mirror\"} 4\n" +
			"fairlead_route_actions_total{dst_service_namespace=\"shop\",dst_service=\"web\",action=\"rate_limit\"} 5\n",
		"# TYPE fairlead_route_requests_total counter\n" +
			"fairlead_route_requests_total{src_workload=\"a\"," + rule + to + "status=\"5xx\"} 7\n",
	} {
		var err error
		if told[i].What, err = ParseMetrics([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	all := RulesOf(told)
	got := all[RuleKey{"shop/web", "HTTPRoute", "shop/r", "0"}]
	if got == nil {
		t.Fatalf("%+v", all)
	}
	if diff := cmp.Diff([]RuleCount{{"", 1, 1}, {"shop/v1", 12, 9}}, got.Backends()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(RuleActions{Mirrored: 4}, got.RuleActions); diff != "" {
		t.Error(diff)
	}
	if n := all[RuleKey{Service: "shop/web"}]; n == nil || n.Limited != 5 {
		t.Errorf("policies of the service: %+v", n)
	}
}
