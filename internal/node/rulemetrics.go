package node

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"fairlead.io/fairlead/internal/l7"
	"fairlead.io/fairlead/internal/mesh"
)

// ruleLabels name a rule and who calls. All of their values are names of objects, which no client chooses.
var ruleLabels = []string{"src_namespace", "src_workload", "dst_service_namespace", "dst_service", "route_kind", "route_namespace", "route", "rule"}

// ruleKey is the values of ruleLabels.
type ruleKey struct {
	src, service, route mesh.Name
	kind, rule          string
}

func (k ruleKey) values(more ...string) []string {
	return append([]string{k.src.Namespace, k.src.Name, k.service.Namespace, k.service.Name, k.kind, k.route.Namespace, k.route.Name, k.rule}, more...)
}

var overflowRule = ruleKey{src: overflowPair.src, service: overflowPair.src, route: overflowPair.src, kind: overflowName, rule: overflowName}

// shareKey is a rule's requests of one outcome that went to one backend.
type shareKey struct {
	ruleKey
	backend mesh.Name // empty where none was chosen
	status  string
}

type actionKey struct {
	ruleKey
	action string
}

// ruleMetrics count what rules and policies have done.
type ruleMetrics struct {
	requests    *series[shareKey, prometheus.Counter]
	connections *series[shareKey, prometheus.Counter]
	actions     *series[actionKey, prometheus.Counter]
}

func newRuleMetrics(reg prometheus.Registerer) ruleMetrics {
	labels := ruleLabels[:len(ruleLabels):len(ruleLabels)]
	over := shareKey{ruleKey: overflowRule, backend: overflowPair.src, status: overflowName}
	share := func(k shareKey) []string { return k.values(k.backend.Namespace, k.backend.Name, k.status) }
	return ruleMetrics{
		requests: counterSeries(reg, "fairlead_route_requests_total", "Requests for which a rule was chosen, by rule, backend and status.",
			append(labels, "backend_namespace", "backend", "status"), over, share),
		connections: counterSeries(reg, "fairlead_route_connections_total", "Opaque connections for which a rule was chosen, by rule, backend and reason of the end.",
			append(labels, "backend_namespace", "backend", "reason"), over, share),
		actions: counterSeries(reg, "fairlead_route_actions_total", "What policies and rules did to requests beside sending them on.",
			append(labels, "action"), actionKey{ruleKey: overflowRule, action: overflowName}, func(k actionKey) []string { return k.values(k.action) }),
	}
}

func (m *ruleMetrics) expire() {
	m.requests.expire(nil)
	m.connections.expire(nil)
	m.actions.expire(nil)
}

// ruleName is a rule's name, or its number among those of its route.
func ruleName(r *mesh.Rule) string {
	if r.Title != "" {
		return r.Title
	}
	return strconv.Itoa(r.Index)
}

// ruleOf names what was decided on; policies without a rule are those of the service itself.
func ruleOf(src, service mesh.Name, r *mesh.Rule) ruleKey {
	k := ruleKey{src: src, service: service}
	if r != nil {
		k.kind, k.route, k.rule = r.Kind.String(), r.Route, ruleName(r)
	}
	return k
}

// act counts what was done to a request. It is done to few.
func (m *ruleMetrics) act(src, to mesh.Name, r *l7.RequestRecord) {
	if r.Retries+r.Mirrored == 0 && !r.Fault && !r.Limited {
		return
	}
	k := ruleOf(src, to, r.Rule)
	add := func(action string, n int) {
		if n > 0 {
			m.actions.get(actionKey{k, action}).Add(float64(n))
		}
	}
	add("retry", r.Retries)
	add("mirror", r.Mirrored)
	if r.Fault {
		add("fault", 1)
	}
	if r.Limited {
		add("rate_limit", 1)
	}
}

// conn counts an opaque connection that ended, or got nowhere.
func (m *ruleMetrics) conn(src mesh.Name, r *l7.ConnRecord) {
	if r.Rule != nil {
		m.connections.get(shareKey{ruleOf(src, r.Service, r.Rule), r.Backend, r.Cause.String()}).Inc()
	}
}
