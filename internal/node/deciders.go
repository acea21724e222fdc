package node

import (
	"reflect"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"fairlead.io/fairlead/internal/l7"
	"fairlead.io/fairlead/internal/mesh"
	"fairlead.io/fairlead/internal/policy"
)

// deciders are those of the pods that have been asked about, as long as neither a policy nor the pod's row changes. The zero value
// is ready. To find one takes no lock.
type deciders struct{ now atomic.Pointer[generation] }

// generation is the deciders by the same policies.
type generation struct {
	policies map[mesh.Name]*mesh.Authorization
	m        sync.Map // *mesh.Pod, the row, to *enforced
}

// enforced is a decider at work.
type enforced struct {
	*policy.Decider
	pod     mesh.Name // its workload
	tallies map[*policy.Rule]*tally
}

// tally is how often a rule has decided.
type tally struct {
	verdicts [verdicts]atomic.Uint64
	counters [2][verdicts]atomic.Pointer[prometheus.Counter] // by direction; made at the first use
}

// verdict is a value of the label.
type verdict uint8

const (
	allowed verdict = iota
	denied
	audited
	verdicts
)

func (v verdict) String() string { return [...]string{"allowed", "denied", "audited"}[v%verdicts] }

// of gives the decider of a row. Without one it is made for what is known of a local pod, and not kept.
func (d *deciders) of(s *mesh.Snapshot, local *l7.Pod, row *mesh.Pod) *enforced {
	if row == nil {
		return enforce(s, &mesh.Pod{UID: local.UID, Name: local.Name, Account: local.Account})
	}
	g := d.now.Load()
	if g == nil || !same(g.policies, s.Authorizations()) {
		g = &generation{policies: s.Authorizations()}
		d.now.Store(g)
	}
	if e, ok := g.m.Load(row); ok {
		return e.(*enforced)
	}
	e, _ := g.m.LoadOrStore(row, enforce(s, row))
	return e.(*enforced)
}

// same tells whether two snapshots have the same policies: then it is one map, which is not another as long as it is held.
func same(a, b map[mesh.Name]*mesh.Authorization) bool {
	return reflect.ValueOf(a).Pointer() == reflect.ValueOf(b).Pointer()
}

func enforce(s *mesh.Snapshot, row *mesh.Pod) *enforced {
	e := &enforced{Decider: policy.For(s, row), pod: mesh.Name{Namespace: row.Name.Namespace, Name: row.Workload}, tallies: map[*policy.Rule]*tally{}}
	e.Rules(func(r *policy.Rule) { e.tallies[r] = &tally{} })
	return e
}

// sweep drops the deciders of rows that are no more.
func (d *deciders) sweep(s *mesh.Snapshot) {
	g := d.now.Load()
	if g == nil {
		return
	}
	g.m.Range(func(k, _ any) bool {
		if row := k.(*mesh.Pod); s.Pod(row.UID) != row {
			g.m.Delete(k)
		}
		return true
	})
}

// count counts a verdict; what the default policy allows is not counted: it is every request's where there are no policies.
func (e *enforced) count(m *metrics, d l7.Direction, v policy.Verdict) {
	what := denied
	if v.Allowed {
		what = allowed
	}
	if v.Allowed && v.By.Default {
		return
	}
	e.add(m, d, v.By, what)
}

func (e *enforced) audited(m *metrics, r *policy.Rule) { e.add(m, l7.Inbound, r, audited) }

func (e *enforced) add(m *metrics, d l7.Direction, r *policy.Rule, what verdict) {
	t := e.tallies[r]
	if t == nil || m == nil {
		return
	}
	t.verdicts[what].Add(1)
	at := &t.counters[d&1][what]
	c := at.Load()
	if c == nil {
		made := m.verdicts.get(keyOf(e.pod, d, r, what))
		c = &made
		at.Store(c)
	}
	(*c).Inc()
}

// verdictKey is the labels of a count. They are names of objects, and numbers of rules.
type verdictKey struct {
	direction l7.Direction
	policy    mesh.Name
	rule      string
	verdict   string
	pod       mesh.Name // the workload that was asked for
}

func keyOf(pod mesh.Name, d l7.Direction, r *policy.Rule, what verdict) verdictKey {
	k := verdictKey{direction: d, policy: r.Policy, verdict: what.String(), pod: pod}
	switch {
	case r.Default:
		k.policy, k.rule = mesh.Name{Name: "default"}, r.Stated.String()
	case r.Index >= 0:
		k.rule = strconv.Itoa(r.Index)
	}
	return k
}

// verdictSeries are never expired: rules in force keep their counters.
func verdictSeries(reg prometheus.Registerer) *series[verdictKey, prometheus.Counter] {
	over := verdictKey{policy: mesh.Name{Namespace: overflowName, Name: overflowName}, rule: overflowName, verdict: overflowName, pod: mesh.Name{Namespace: overflowName, Name: overflowName}}
	return counterSeries(reg, "fairlead_authorization_total", "What policies have decided: requests, connections of opaque bytes, and connections that were refused.",
		[]string{"direction", "policy_namespace", "policy", "rule", "verdict", "dst_namespace", "dst_workload"}, over, func(k verdictKey) []string {
			return []string{k.direction.String(), k.policy.Namespace, k.policy.Name, k.rule, k.verdict, k.pod.Namespace, k.pod.Name}
		})
}
