package fleet

import (
	"cmp"
	"slices"

	dto "github.com/prometheus/client_model/go"
)

// RuleKey is a rule of a service, as metrics name it. Policies of the service itself have no route.
type RuleKey struct{ Service, Kind, Route, Rule string }

// RuleCount is what of a rule's requests went to a backend.
type RuleCount struct {
	Backend  string `json:"backend"` // namespace/name; empty: the proxy has answered
	Requests uint64 `json:"requests"`
	Failures uint64 `json:"failures"`
}

// RuleActions are what a rule and its policies did beside.
type RuleActions struct {
	Retries  uint64 `json:"retries"`
	Faults   uint64 `json:"faults"`
	Limited  uint64 `json:"limited"`
	Mirrored uint64 `json:"mirrored"`
}

// RuleCounts is all that was counted for a rule.
type RuleCounts struct {
	RuleActions
	backends map[string]*RuleCount
}

// Backends are those that requests went to, in the order of their names.
func (c *RuleCounts) Backends() (all []RuleCount) {
	for _, b := range c.backends {
		all = append(all, *b)
	}
	slices.SortFunc(all, func(a, b RuleCount) int { return cmp.Compare(a.Backend, b.Backend) })
	return all
}

// RulesOf adds up what the nodes have counted for each rule.
func RulesOf(told []Told[Metrics]) map[RuleKey]*RuleCounts {
	all := map[RuleKey]*RuleCounts{}
	each := func(family string, f func(*RuleCounts, map[string]string, uint64)) {
		for _, t := range told {
			for _, m := range t.What[family].GetMetric() {
				l := labels(m)
				k := RuleKey{joined(l["dst_service_namespace"], l["dst_service"]), l["route_kind"], joined(l["route_namespace"], l["route"]), l["rule"]}
				if all[k] == nil {
					all[k] = &RuleCounts{backends: map[string]*RuleCount{}}
				}
				f(all[k], l, count(m))
			}
		}
	}
	sent := func(failed func(map[string]string) bool) func(*RuleCounts, map[string]string, uint64) {
		return func(c *RuleCounts, l map[string]string, n uint64) {
			name := joined(l["backend_namespace"], l["backend"])
			b := c.backends[name]
			if b == nil {
				b = &RuleCount{Backend: name}
				c.backends[name] = b
			}
			b.Requests += n
			if failed(l) {
				b.Failures += n
			}
		}
	}
	each("fairlead_route_requests_total", sent(func(l map[string]string) bool { return l["status"] == "5xx" || l["status"] == "none" }))
	each("fairlead_route_connections_total", sent(func(map[string]string) bool { return false }))
	each("fairlead_route_actions_total", func(c *RuleCounts, l map[string]string, n uint64) {
		switch l["action"] {
		case "retry":
			c.Retries += n
		case "fault":
			c.Faults += n
		case "rate_limit":
			c.Limited += n
		case "mirror":
			c.Mirrored += n
		}
	})
	return all
}

func joined(namespace, name string) string {
	if namespace == "" {
		return name
	}
	return namespace + "/" + name
}

func count(m *dto.Metric) uint64 {
	if n := number(m); n > 0 {
		return uint64(n)
	}
	return 0
}
