package l7

import (
	"math/rand/v2"

	"fairlead.io/fairlead/internal/l7/routing"
	"fairlead.io/fairlead/internal/mesh"
)

// way is what rules and policies say of a request. The zero value is that nobody has said anything.
type way struct {
	rule   *routing.Rule // that was chosen; nil where there are none
	prefix string        // of the path, as far as the rule has matched that
	to     *routing.Backend
	policy *mesh.Traffic
}

// choose finds the rule that a request is for, and does what it says. Without rules it goes to its service.
func (r *request) choose() {
	t := r.s.route.dst.Routes.Table()
	if t == nil {
		r.first()
		return
	}
	faults := t.Faults
	r.asked = routing.Request{Method: r.head.Method, Path: r.head.Path, Fields: r.head.Fields}
	r.way.policy = t.Policy
	if t.Kind != mesh.NoRoute {
		c := t.Match(&r.asked)
		if c.Rule == nil {
			r.fail(CauseNoRoute, 404, grpcUnimplemented, "no rule is for this request")
			return
		}
		r.way = way{rule: c.Rule, prefix: c.Prefix, policy: c.Policy}
		r.rec.Rule, faults = c.Rule.Rule, c.Faults
	}
	if p := r.retry(); p != nil {
		r.budget(p).Request(r.s.w.l.Now())
	}
	r.limit(r.limits())
	r.hash()
	if !r.disturbed(faults) {
		r.follow()
	}
}

// follow does what the rule says beside faults, which come first.
func (r *request) follow() {
	rule := r.way.rule
	if rule == nil {
		r.first()
		return
	}
	if r.answered() {
		return
	}
	to := rule.Pick(rand.Uint32())
	if to == nil {
		r.fail(CauseNoBackend, 500, grpcUnavailable, "the rule has no backend")
		return
	}
	r.way.to, r.rec.Backend = to, to.Service
	if to.Cluster == nil {
		r.fail(CauseNoBackend, 500, grpcUnavailable, "the backend cannot be used")
		return
	}
	r.head.Service, r.tries.cluster, r.tries.to = to.Label, to.Cluster, to
	r.edit()
	r.mirror()
	r.first()
}

func (r *request) event(e Event) { r.s.w.e.rec.Event(r.s.f.spec, r.s.f.dir, e) }
