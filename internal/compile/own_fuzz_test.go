package compile

import (
	"testing"

	"sigs.k8s.io/yaml"

	"fairlead.io/fairlead/api/v1alpha1"
	"fairlead.io/fairlead/internal/mesh"
)

// FuzzTrafficPolicy: what is taken is within the bounds that the proxies are told to rely on.
func FuzzTrafficPolicy(f *testing.F) {
	for _, parts := range []string{
		"retries: {http: [5xx, 503], limit: 2, budget: {percent: 1}}", "timeouts: {request: 5s, backendRequest: 1s}",
		"circuitBreaker: {successRate: {percent: 80}, probation: {min: 1s}}", "loadBalancing: {algorithm: ConsistentHash, hashOn: {type: Cookie, name: a}}",
		"rateLimit: {total: {requests: 1, interval: 1h}}", "faults: [{fraction: {numerator: 1, denominator: 3}, abort: {httpStatus: 503}}]", "protocol: TCP",
	} {
		f.Add("targetRefs: [{kind: Service, name: web}]\n" + parts)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var spec v1alpha1.TrafficPolicySpec
		if yaml.Unmarshal([]byte(text), &spec) != nil {
			return
		}
		got, err := readTraffic(policyKey(TrafficPolicy, "p"), &spec)
		if err != nil {
			return
		}
		p := got.parts
		if len(got.targets) == 0 || len(take(&mesh.Traffic{}, &p)) == 0 {
			t.Fatal("taken, and it says nothing")
		}
		if r := p.Retry; r != nil && (r.Limit < 1 || r.Limit > 10 || r.Ratio < 0 || r.Ratio > 1 || r.Floor < 0 || r.Ratio+r.Floor == 0 || r.Attempt < 0 || r.Backoff < 0) {
			t.Fatalf("%+v", r)
		}
		if x := p.Timeouts; x != nil && (x.Request < 0 || x.Attempt < 0 || x.Idle < 0) {
			t.Fatalf("%+v", x)
		}
		if b := p.Breaker; b != nil && (b.Min <= 0 || b.Max < b.Min || b.Jitter < 0 || b.Jitter > 1 || b.SuccessRate < 0 || b.SuccessRate > 1 || b.Consecutive < 0) {
			t.Fatalf("%+v", b)
		}
		if l := p.Limit; l != nil {
			for _, r := range append([]mesh.Rate{l.Total, l.Each}, values(l.Except)...) {
				if r != (mesh.Rate{}) && (r.PerSecond <= 0 || r.Burst < 1) {
					t.Fatalf("%+v", l)
				}
			}
		}
		for _, x := range p.Faults {
			if !(x.Percent >= 0 && x.Percent <= 100) || x.Delay < 0 || !x.Abort && x.Delay == 0 || x.Status != 0 && (x.Status < 200 || x.Status > 599) {
				t.Fatalf("%+v", x)
			}
		}
	})
}

func values(m map[string]mesh.Rate) []mesh.Rate {
	var out []mesh.Rate
	for _, r := range m {
		out = append(out, r)
	}
	return out
}

// FuzzAuthorizationPolicy: what is taken has no rule and no peer that says nothing, for that would match everything; and
// narrowed to a route it does not say more.
func FuzzAuthorizationPolicy(f *testing.F) {
	for _, rule := range []string{
		"{from: [{identities: ['spiffe://a/*']}]}", "{from: [{ipBlocks: [{cidr: 10.0.0.0/8, except: [10.1.0.0/16]}], authentication: Unauthenticated}]}",
		"{to: [{methods: [GET], paths: [{type: RegularExpression, value: '/a+'}]}]}", "{to: [{grpc: [{service: a}], headers: [{name: b, value: c}]}]}", "{}",
	} {
		f.Add("target: {kind: Namespace}\naction: DENY\nrules: [" + rule + "]")
	}
	f.Add("target: {kind: Pods, selector: {matchLabels: {a: b}}, ports: [80]}\naction: ALLOW")
	scope := []mesh.Match{{Path: prefixOf("/a"), Method: "GET"}}
	f.Fuzz(func(t *testing.T, text string) {
		var spec v1alpha1.AuthorizationPolicySpec
		if yaml.Unmarshal([]byte(text), &spec) != nil {
			return
		}
		got, err := readAuthorization(policyKey(AuthorizationPolicy, "p"), &spec)
		if err != nil {
			return
		}
		if got.kind == "" || got.action != mesh.Allow && len(got.rules) == 0 {
			t.Fatalf("%+v", got)
		}
		for _, r := range got.rules {
			if len(r.From)+len(r.To) == 0 {
				t.Fatal("a rule that says nothing")
			}
			for _, p := range r.From {
				if len(p.IDs)+len(p.Accounts)+len(p.Namespaces)+len(p.CIDRs) == 0 && !p.Authenticated && !p.Unauthenticated {
					t.Fatal("a peer that says nothing")
				}
			}
			for _, o := range r.To {
				if len(o.Matches) == 0 {
					t.Fatal("an operation that says nothing")
				}
			}
		}
		rules, err := within(scope, got.rules)
		if err != nil {
			return
		}
		for _, r := range rules {
			for _, m := range r.To[0].Matches {
				if m.Method != "GET" || m.Path.Kind == mesh.PathAny || m.Path.Kind == mesh.PathPrefix && !beneath(m.Path.Value, "/a") {
					t.Fatalf("beyond the route: %+v", m)
				}
			}
		}
	})
}
