package node

import (
	"cmp"
	"slices"

	"fairlead.io/fairlead/internal/l7"
	"fairlead.io/fairlead/internal/node/debug"
	"fairlead.io/fairlead/internal/policy"
)

// authzList is what decides about the pods of this node.
func (n *node) authzList() []debug.Authz {
	all, b := []debug.Authz{}, n.brain.Load()
	if b == nil {
		return all
	}
	s := b.world.Snapshot()
	for _, p := range n.pods.list() {
		row := s.Pod(p.UID)
		if row == nil {
			continue
		}
		rules := b.deciders.of(s, p, row).list()
		for i := range rules {
			rules[i].Text = authRuleText(s, &rules[i])
		}
		all = append(all, debug.Authz{UID: p.UID, Namespace: p.Name.Namespace, Name: p.Name.Name, DefaultPolicy: row.Policy.String(), Rules: rules})
	}
	slices.SortFunc(all, func(a, b debug.Authz) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), cmp.Compare(a.UID, b.UID))
	})
	return all
}

// list is the rules, and what they have decided.
func (e *enforced) list() []debug.AuthzRule {
	rules := []debug.AuthzRule{}
	e.Rules(func(r *policy.Rule) {
		t, k := e.tallies[r], keyOf(e.pod, l7.Inbound, r, allowed)
		d := debug.AuthzRule{Namespace: k.policy.Namespace, Policy: k.policy.Name, Rule: k.rule,
			Allowed: t.verdicts[allowed].Load(), Denied: t.verdicts[denied].Load(), Audited: t.verdicts[audited].Load()}
		if !r.Default {
			d.Action = r.Action.String()
		} else if d.Allowed+d.Denied+d.Audited == 0 {
			return // the default policy stands above
		}
		rules = append(rules, d)
	})
	slices.SortStableFunc(rules, func(a, b debug.AuthzRule) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Policy, b.Policy))
	})
	return rules
}
