package compile

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead.io/fairlead/api/v1alpha1"
	"fairlead.io/fairlead/internal/mesh"
)

// trafficDoc is a policy in namespace shop, created at a second.
func trafficDoc(name string, second int, targets, parts string) string {
	return fmt.Sprintf("apiVersion: fairlead.io/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: %s, namespace: shop, generation: 3, creationTimestamp: \"2026-01-01T00:00:%02dZ\"}\nspec:\n  targetRefs: [%s]\n  %s",
		name, second, targets, parts)
}

const (
	forWeb   = "{kind: Service, name: web}"
	forRoute = "{kind: HTTPRoute, name: r}"
	forRule  = "{kind: HTTPRoute, name: r, sectionName: admin}"
)

const routeOfWeb = `apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: web, port: 80}]
  rules:
  - {name: admin, matches: [{path: {value: /admin}}], backendRefs: [{name: web, port: 80}]}
  - {name: rest, backendRefs: [{name: web, port: 80}]}`

var (
	routR = Key{Kind: HTTPRoute, Namespace: "shop", Name: "r"}
)

func policyKey(kind Kind, name string) Key { return Key{Kind: kind, Namespace: "shop", Name: name} }

func TestEveryDefaultOfATrafficPolicy(t *testing.T) {
	for parts, want := range map[string]mesh.Traffic{
		"retries: {}": {Retry: &mesh.Retry{Connect: true, Limit: 1, Backoff: 25 * time.Millisecond, Ratio: 0.2, Floor: 10}},
		"retries: {http: [5xx, gateway-error, 429], grpc: [UNAVAILABLE, CANCELLED], connect: false, limit: 3, perTryTimeout: 1s500ms, backoff: 0s, budget: {percent: 50, minPerSecond: 0}}": {Retry: &mesh.Retry{
			Statuses: []mesh.StatusRange{{First: 500, Last: 599}, {First: 502, Last: 504}, {First: 429, Last: 429}}, GRPC: []uint32{14, 1},
			Limit: 3, Attempt: 1500 * time.Millisecond, Ratio: 0.5}},
		"timeouts: {request: 5s, backendRequest: 1s, idle: 1m}": {Timeouts: &mesh.Timeouts{Request: 5 * time.Second, Attempt: time.Second, Idle: time.Minute}},
		"timeouts: {idle: 0s}": {Timeouts: &mesh.Timeouts{}},
		"circuitBreaker: {}":   {Breaker: &mesh.Breaker{Consecutive: 7, Min: time.Second, Max: time.Minute, Jitter: 0.5}},
		"circuitBreaker: {consecutiveFailures: 0, successRate: {}}": {Breaker: &mesh.Breaker{SuccessRate: 0.8, Requests: 5, Window: 10 * time.Second, Min: time.Second, Max: time.Minute, Jitter: 0.5}},
		"circuitBreaker: {probation: {min: 10ms, max: 1s, jitterPercent: 0}, maxConnections: 4, maxPending: 2}": {Breaker: &mesh.Breaker{
			Consecutive: 7, Min: 10 * time.Millisecond, Max: time.Second, Connections: 4, Pending: 2}},
		"loadBalancing: {algorithm: RoundRobin}":                                                 {Balance: &mesh.Balance{Algorithm: mesh.RoundRobin}},
		"loadBalancing: {slowStart: 30s, zonePreference: PreferSameZone}":                        {Balance: &mesh.Balance{SlowStart: 30 * time.Second, Zone: true}},
		"loadBalancing: {algorithm: ConsistentHash, hashOn: {type: Header, name: X-User}}":       {Balance: &mesh.Balance{Algorithm: mesh.ConsistentHash, HashOn: mesh.HashHeader, HashName: "x-user"}},
		"loadBalancing: {algorithm: ConsistentHash, hashOn: {type: Cookie, name: Session}}":      {Balance: &mesh.Balance{Algorithm: mesh.ConsistentHash, HashOn: mesh.HashCookie, HashName: "Session"}},
		"loadBalancing: {algorithm: ConsistentHash, hashOn: {type: Source}}":                     {Balance: &mesh.Balance{Algorithm: mesh.ConsistentHash}},
		"rateLimit: {total: {requests: 100}, perClient: {requests: 60, interval: 1m, burst: 5}}": {Limit: &mesh.Limit{Total: mesh.Rate{PerSecond: 100, Burst: 100}, Each: mesh.Rate{PerSecond: 1, Burst: 5}}},
		"rateLimit: {overrides: [{requests: 2, identities: ['spiffe://c/ns/a/sa/b']}]}":          {Limit: &mesh.Limit{Except: map[string]mesh.Rate{"spiffe://c/ns/a/sa/b": {PerSecond: 2, Burst: 2}}}},
		"faults: [{percent: 10, delay: 1s}]":                                                     {Faults: []mesh.Fault{{Percent: 10, Delay: time.Second}}},
		"faults: [{fraction: {numerator: 1, denominator: 1000}, abort: {httpStatus: 503}}]":      {Faults: []mesh.Fault{{Percent: 0.1, Status: 503, GRPC: 14, Abort: true}}},
		"faults: [{fraction: {numerator: 5}, abort: {grpcStatus: INTERNAL}, match: [{method: GET}]}]": {Faults: []mesh.Fault{{Percent: 5, GRPC: 13, Abort: true,
			Match: []mesh.Match{{Path: mesh.PathMatch{Kind: mesh.PathPrefix, Value: "/"}, Method: "GET"}}}}},
		"protocol: HTTP2": {Protocol: mesh.HTTP2},
		"protocol: TCP":   {Protocol: mesh.TCP},
	} {
		w := load(t, nsShop, svcDoc("web", "10.1.0.1", ""), trafficDoc("p", 1, forWeb, parts))
		got := w.Routes(web)
		if got == nil || len(got.Ports) != 1 {
			t.Errorf("%s: %+v, problems %v", parts, got, w.Problems())
			continue
		}
		want.From = []mesh.Name{{Namespace: "shop", Name: "p"}}
		if diff := cmp.Diff(&want, got.Ports[0].Policy); diff != "" {
			t.Errorf("%s: %s", parts, diff)
		}
	}
}

// parts of a policy as text: the retry limit, the request timeout, and whose they are.
func trafficText(p *mesh.Traffic) string {
	if p == nil {
		return "nothing"
	}
	var out []string
	if p.Retry != nil {
		out = append(out, fmt.Sprint("retries ", p.Retry.Limit))
	}
	if p.Timeouts != nil {
		out = append(out, fmt.Sprint("timeout ", p.Timeouts.Request))
	}
	if p.Balance != nil {
		out = append(out, fmt.Sprint("zone ", p.Balance.Zone))
	}
	var from []string
	for _, n := range p.From {
		from = append(from, n.Name)
	}
	return strings.Join(out, ", ") + " of " + strings.Join(from, ",")
}

func TestThePrecedenceOfTrafficPolicies(t *testing.T) {
	for name, c := range map[string]struct {
		docs              []string
		port, admin, rest string
	}{
		"nothing": {nil, "nothing", "nothing", "nothing"},
		"Service": {[]string{trafficDoc("s", 1, forWeb, "retries: {limit: 1}")}, "retries 1 of s", "retries 1 of s", "retries 1 of s"},
		"route before Service": {[]string{trafficDoc("s", 1, forWeb, "retries: {limit: 1}"), trafficDoc("r", 2, forRoute, "retries: {limit: 2}")},
			"retries 1 of s", "retries 2 of r", "retries 2 of r"},
		"rule before route": {[]string{trafficDoc("s", 1, forWeb, "retries: {limit: 1}"), trafficDoc("r", 2, forRoute, "retries: {limit: 2}"), trafficDoc("x", 3, forRule, "retries: {limit: 3}")},
			"retries 1 of s", "retries 3 of x", "retries 2 of r"},
		"parts from several": {[]string{trafficDoc("s", 1, forWeb, "retries: {limit: 1}\n  timeouts: {request: 1s}"), trafficDoc("x", 3, forRule, "timeouts: {request: 3s}")},
			"retries 1, timeout 1s of s", "retries 1, timeout 3s of x,s", "retries 1, timeout 1s of s"},
		"the older of two": {[]string{trafficDoc("a", 9, forWeb, "retries: {limit: 1}\n  timeouts: {request: 9s}"), trafficDoc("b", 1, forWeb, "retries: {limit: 2}")},
			"retries 2, timeout 9s of b,a", "retries 2, timeout 9s of b,a", "retries 2, timeout 9s of b,a"},
		"of one age by name": {[]string{trafficDoc("b", 1, forWeb, "retries: {limit: 2}"), trafficDoc("a", 1, forWeb, "retries: {limit: 1}")},
			"retries 1 of a", "retries 1 of a", "retries 1 of a"},
		"two targets": {[]string{trafficDoc("a", 1, forWeb+","+forRule, "retries: {limit: 4}"), trafficDoc("r", 2, forRoute, "retries: {limit: 2}")},
			"retries 4 of a", "retries 4 of a", "retries 2 of r"},
	} {
		w := load(t, append(c.docs, nsShop, svcDoc("web", "10.1.0.1", ""), routeOfWeb)...)
		w.mu.RLock()
		got := []string{trafficText(w.trafficFor(web, Key{}, "")), trafficText(w.trafficFor(web, routR, "admin")), trafficText(w.trafficFor(web, routR, "rest"))}
		w.mu.RUnlock()
		if diff := cmp.Diff([]string{c.port, c.admin, c.rest}, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		row := w.Routes(web)
		if row == nil || trafficText(row.Ports[0].Rules[0].Policy) != c.admin {
			t.Errorf("%s: the row of the Service: %+v", name, row)
		}
	}
}

func TestTheServicesOwnZonePreference(t *testing.T) {
	near := svcDoc("web", "10.1.0.1", ", trafficDistribution: PreferClose")
	for docs, want := range map[string]string{
		near: "zone true of ",
		svcDoc("web", "10.1.0.1", ", trafficDistribution: PreferSameNode"):                                       "nothing",
		near + "\n---\n" + trafficDoc("p", 1, forWeb, "loadBalancing: {zonePreference: None}"):                   "zone false of p",
		near + "\n---\n" + trafficDoc("p", 1, forWeb, "loadBalancing: {algorithm: LeastRequest}"):                "zone true of p",
		near + "\n---\n" + trafficDoc("p", 1, forWeb, "retries: {}"):                                             "retries 1, zone true of p",
		svcDoc("web", "10.1.0.1", "") + "\n---\n" + trafficDoc("p", 1, forWeb, "loadBalancing: {slowStart: 1s}"): "zone false of p",
	} {
		w := load(t, nsShop, docs)
		var got *mesh.Traffic
		if row := w.Routes(web); row != nil {
			got = row.Ports[0].Policy
		}
		if trafficText(got) != want {
			t.Errorf("%s: %s, want %s", docs, trafficText(got), want)
		}
	}
	w, f := NewWorld(Config{}), newFiles()
	apply(t, w, f, "f", nsShop, svcDoc("web", "10.1.0.1", ""))
	apply(t, w, f, "f", nsShop, near)
	if w.Routes(web) == nil {
		t.Error("a preference that comes later is not seen")
	}
	apply(t, w, f, "f", nsShop)
	if w.Routes(web) != nil {
		t.Error("a Service that is gone has a row")
	}
}

func TestTrafficPoliciesThatAreRefused(t *testing.T) {
	for text, want := range map[string]string{
		trafficDoc("p", 1, "", "retries: {}"):                                                                               "targetRefs: there are none",
		trafficDoc("p", 1, "{kind: Gateway, name: a}", "retries: {}"):                                                       "neither Service nor HTTPRoute",
		trafficDoc("p", 1, "{kind: HTTPRoute, name: a, group: apps}", "retries: {}"):                                        "does not go with kind",
		trafficDoc("p", 1, "{kind: Service, name: A}", "retries: {}"):                                                       "not a DNS name",
		trafficDoc("p", 1, "{kind: Service, name: a, sectionName: b}", "retries: {}"):                                       "a Service has none",
		trafficDoc("p", 1, forWeb+","+forWeb, "retries: {}"):                                                                "named twice",
		trafficDoc("p", 1, forRoute, "protocol: TCP"):                                                                       "of a Service only",
		trafficDoc("p", 1, forWeb, "protocol: SMTP"):                                                                        "neither TCP nor HTTP1 nor HTTP2",
		trafficDoc("p", 1, forWeb, "faults: []"):                                                                            "says nothing",
		trafficDoc("p", 1, forWeb, "retries: {http: [200]}"):                                                                "retries.http[0]",
		trafficDoc("p", 1, forWeb, "retries: {grpc: [OK]}"):                                                                 "retries.grpc[0]",
		trafficDoc("p", 1, forWeb, "retries: {limit: 11}"):                                                                  "retries.limit: 11, from 1 to 10",
		trafficDoc("p", 1, forWeb, "retries: {connect: false}"):                                                             "nothing is retried",
		trafficDoc("p", 1, forWeb, "retries: {budget: {percent: 0, minPerSecond: 0}}"):                                      "of nothing",
		trafficDoc("p", 1, forWeb, "retries: {perTryTimeout: 2s}\n  timeouts: {request: 1s}"):                               "longer than timeouts.request",
		trafficDoc("p", 1, forWeb, "timeouts: {request: 1.5s}"):                                                             "is not a duration",
		trafficDoc("p", 1, forWeb, "timeouts: {request: 1s, backendRequest: 2s}"):                                           "longer than request",
		trafficDoc("p", 1, forWeb, "timeouts: {}"):                                                                          "there are none",
		trafficDoc("p", 1, forWeb, "circuitBreaker: {probation: {min: 2m}}"):                                                "min is longer than max",
		trafficDoc("p", 1, forWeb, "circuitBreaker: {successRate: {percent: 101}}"):                                         "from 1 to 100",
		trafficDoc("p", 1, forWeb, "loadBalancing: {algorithm: ConsistentHash}"):                                            "go together",
		trafficDoc("p", 1, forWeb, "loadBalancing: {algorithm: Best}"):                                                      "is not known",
		trafficDoc("p", 1, forWeb, "loadBalancing: {algorithm: ConsistentHash, hashOn: {type: Header}}"):                    "not that of a header field",
		trafficDoc("p", 1, forWeb, "rateLimit: {}"):                                                                         "there is none",
		trafficDoc("p", 1, forWeb, "rateLimit: {total: {requests: 0}}"):                                                     "rateLimit.total.requests",
		trafficDoc("p", 1, forWeb, "rateLimit: {overrides: [{requests: 1, identities: [a]}]}"):                              "not a SPIFFE ID",
		trafficDoc("p", 1, forWeb, "rateLimit: {overrides: [{requests: 1, identities: ['spiffe://a/b', 'spiffe://a/b']}]}"): "has a rate already",
		trafficDoc("p", 1, forWeb, "faults: [{delay: 1s}]"):                                                                 "percent or fraction",
		trafficDoc("p", 1, forWeb, "faults: [{percent: 1}]"):                                                                "delay or abort",
		trafficDoc("p", 1, forWeb, "faults: [{percent: 1, abort: {}}]"):                                                     "httpStatus or grpcStatus",
		trafficDoc("p", 1, forWeb, "faults: [{fraction: {numerator: 2, denominator: 1}, delay: 1s}]"):                       "2 of 1",
		trafficDoc("p", 1, forWeb, "faults: [{percent: 1, delay: 1s, match: [{path: {value: a}}]}]"):                        "does not begin with /",
	} {
		w := load(t, nsShop, svcDoc("web", "10.1.0.1", ""), text)
		s, _ := w.PolicyStatus(policyKey(TrafficPolicy, "p"))
		if got := policyConditions(s); !strings.Contains(got, "Accepted=False Invalid") || !strings.Contains(got, want) {
			t.Errorf("%s\nstatus: %s\nwant: %s", text, got, want)
		}
		if w.Routes(web) != nil || len(w.Problems()) != 1 {
			t.Errorf("%s: row %+v, problems %v", text, w.Routes(web), w.Problems())
		}
	}
}

// policyConditions are those of a status as text.
func policyConditions(s PolicyStatus) string {
	var out []string
	for _, c := range s.Conditions {
		out = append(out, fmt.Sprintf("%s=%s %s (%s)", c.Type, c.Status, c.Reason, c.Message))
	}
	return strings.Join(out, "\n")
}

func hasReason(s PolicyStatus, kind string, status metav1.ConditionStatus, reason string) bool {
	for _, c := range s.Conditions {
		if c.Type == kind {
			return c.Status == status && c.Reason == reason && c.ObservedGeneration == s.Generation
		}
	}
	return false
}

func TestAnInvalidTrafficPolicyLeavesTheLastValidOneInForce(t *testing.T) {
	w, f := NewWorld(Config{}), newFiles()
	base := []string{nsShop, svcDoc("web", "10.1.0.1", "")}
	apply(t, w, f, "f", append(base, trafficDoc("p", 1, forWeb, "retries: {limit: 2}"))...)
	apply(t, w, f, "f", append(base, trafficDoc("p", 1, forWeb, "retries: {limit: 99}"))...)
	if got := w.Routes(web); got == nil || got.Ports[0].Policy.Retry.Limit != 2 {
		t.Errorf("in force: %+v", got)
	}
	s, _ := w.PolicyStatus(policyKey(TrafficPolicy, "p"))
	if !strings.Contains(policyConditions(s), "the last valid version stays in force") {
		t.Error(policyConditions(s))
	}
	apply(t, w, f, "f", base...)
	if _, there := w.PolicyStatus(policyKey(TrafficPolicy, "p")); there || w.Routes(web) != nil {
		t.Error("something is left of it")
	}
	if got, _ := w.PolicyStatuses(1); len(got) != 0 {
		t.Errorf("all statuses: %+v", got)
	}
}

func TestTheStatusOfTrafficPolicies(t *testing.T) {
	w, f := NewWorld(Config{}), newFiles()
	old, young := trafficDoc("old", 1, forWeb, "retries: {limit: 2}"), trafficDoc("young", 2, forWeb, "retries: {limit: 3}\n  timeouts: {request: 1s}")
	third := trafficDoc("third", 3, forWeb, "retries: {limit: 4}")
	rule := trafficDoc("rule", 4, forRule, "retries: {}")
	want := func(name, kind string, status metav1.ConditionStatus, reason string) {
		t.Helper()
		if s, _ := w.PolicyStatus(policyKey(TrafficPolicy, name)); !hasReason(s, kind, status, reason) {
			t.Errorf("%s: want %s=%s %s, status:\n%s", name, kind, status, reason, policyConditions(s))
		}
	}
	apply(t, w, f, "f", nsShop, old, young, third, rule)
	want("old", v1alpha1.ConditionAccepted, "False", v1alpha1.ReasonTargetNotFound)
	want("rule", v1alpha1.ConditionResolvedRefs, "False", v1alpha1.ReasonTargetNotFound)
	apply(t, w, f, "g", svcDoc("web", "10.1.0.1", ""))
	want("old", v1alpha1.ConditionAccepted, "True", v1alpha1.ReasonAccepted)
	want("old", v1alpha1.ConditionConflicted, "False", v1alpha1.ReasonNoConflict)
	want("young", v1alpha1.ConditionAccepted, "True", v1alpha1.ReasonAccepted)
	want("young", v1alpha1.ConditionConflicted, "True", v1alpha1.ReasonConflicted)
	want("third", v1alpha1.ConditionAccepted, "False", v1alpha1.ReasonConflicted)
	apply(t, w, f, "h", routeOfWeb)
	want("rule", v1alpha1.ConditionResolvedRefs, "True", v1alpha1.ReasonResolvedRefs)
	apply(t, w, f, "h", strings.Replace(routeOfWeb, "name: admin", "name: other", 1))
	want("rule", v1alpha1.ConditionResolvedRefs, "False", v1alpha1.ReasonTargetNotFound)
	_, before := w.PolicyStatuses(0)
	apply(t, w, f, "f", nsShop, young, third, rule)
	want("young", v1alpha1.ConditionConflicted, "False", v1alpha1.ReasonNoConflict)
	want("third", v1alpha1.ConditionConflicted, "True", v1alpha1.ReasonConflicted)
	changed, _ := w.PolicyStatuses(before)
	gone := 0
	for _, s := range changed {
		gone += count(s.Gone)
	}
	if len(changed) != 3 || gone != 1 { // old is gone; young and third have news; rule has none
		t.Errorf("changed: %+v", changed)
	}
}
