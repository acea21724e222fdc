package compile

import (
	"errors"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead.io/fairlead/api/v1alpha1"
)

// makePolicyStatus makes a policy's status anew.
func (w *World) makePolicyStatus(k Key) {
	if x := w.own.refused[k]; x != nil {
		w.setPolicyStatus(x.policyHead, w.refusedPolicy(x))
		return
	}
	if p := w.own.traffic[k]; p != nil {
		w.setPolicyStatus(p.policyHead, w.trafficConditions(p)...)
		return
	}
	if p := w.own.authz[k]; p != nil {
		w.setPolicyStatus(p.policyHead, w.authzConditions(p)...)
		return
	}
	w.own.statuses.set(k, nil)
}

func (w *World) setPolicyStatus(h policyHead, conditions ...metav1.Condition) {
	for i := range conditions {
		conditions[i].ObservedGeneration = h.generation
	}
	w.own.statuses.set(h.key, &PolicyStatus{Key: h.key, UID: h.uid, Generation: h.generation, Conditions: conditions})
}

func say(kind, reason string, yes bool, message string) metav1.Condition {
	c := metav1.Condition{Type: kind, Status: metav1.ConditionFalse, Reason: reason, Message: message}
	if yes {
		c.Status = metav1.ConditionTrue
	}
	return c
}

func (w *World) refusedPolicy(x *refusedPolicy) metav1.Condition {
	reason := v1alpha1.ReasonInvalid
	if errors.Is(x.err, errNotPermitted) {
		reason = v1alpha1.ReasonNotPermitted
	}
	message := x.err.Error()
	switch p := w.own.authz[x.key]; {
	case p != nil && p.closed:
		message += "; until it is valid, everything at its target is denied"
	case p != nil || w.own.traffic[x.key] != nil:
		message += "; the last valid version stays in force"
	}
	return say(v1alpha1.ConditionAccepted, reason, false, message)
}

func (w *World) trafficConditions(p *trafficPolicy) []metav1.Condition {
	var missing, lost []string
	kept := false
	for _, t := range p.targets {
		if err := w.missing(t); err != nil {
			missing = append(missing, err.Error())
			continue
		}
		parts, to := w.lost(p, t)
		if len(parts) > 0 {
			lost = append(lost, fmt.Sprintf("%s: %s comes from %s, which is older", t, strings.Join(parts, ", "), to))
		}
		kept = kept || len(parts) < len(p.names())
	}
	accepted := say(v1alpha1.ConditionAccepted, v1alpha1.ReasonAccepted, true, "In force")
	switch {
	case kept:
	case len(lost) > 0:
		accepted = say(v1alpha1.ConditionAccepted, v1alpha1.ReasonConflicted, false, "Nothing of it is in force")
	default:
		accepted = say(v1alpha1.ConditionAccepted, v1alpha1.ReasonTargetNotFound, false, "None of its targets exists")
	}
	conflicted := say(v1alpha1.ConditionConflicted, v1alpha1.ReasonNoConflict, false, "No older policy for the same target has a part of it")
	if len(lost) > 0 {
		conflicted = say(v1alpha1.ConditionConflicted, v1alpha1.ReasonConflicted, true, strings.Join(lost, "; "))
	}
	return []metav1.Condition{accepted, resolved(missing), conflicted}
}

func resolved(missing []string) metav1.Condition {
	if len(missing) > 0 {
		return say(v1alpha1.ConditionResolvedRefs, v1alpha1.ReasonTargetNotFound, false, strings.Join(missing, "; "))
	}
	return say(v1alpha1.ConditionResolvedRefs, v1alpha1.ReasonResolvedRefs, true, "All that it names is there")
}

func (w *World) authzConditions(p *authzPolicy) []metav1.Condition {
	accepted := say(v1alpha1.ConditionAccepted, v1alpha1.ReasonAccepted, true, "In force")
	if p.unmade != nil {
		accepted = say(v1alpha1.ConditionAccepted, v1alpha1.ReasonInvalid, false, p.unmade.Error()+"; until it can be told, what the route matches is denied")
	}
	refs := resolved(nil)
	var err error
	if p.target != (target{}) {
		err = w.missing(p.target)
	}
	switch whole := p.kind == v1alpha1.TargetMesh || p.kind == v1alpha1.TargetNamespace; {
	case err != nil:
		refs = resolved([]string{err.Error()})
	case !whole && w.own.pods[p.key] == 0:
		refs = say(v1alpha1.ConditionResolvedRefs, v1alpha1.ReasonNothingMatched, false, "It is about no pod of this namespace")
	case len(p.rules) > 0 && p.unmade == nil && len(w.own.rows[nameOf(p.key).String()].Rules) == 0:
		refs = say(v1alpha1.ConditionResolvedRefs, v1alpha1.ReasonNothingMatched, false, "Its rules match no request that the route matches")
	}
	return []metav1.Condition{accepted, refs}
}

// policyProblems are what statuses say that is not as it should be, of policies that are not refused altogether.
func (w *World) policyProblems() []Problem {
	var out []Problem
	for k, s := range w.own.statuses.of {
		if w.own.refused[k] != nil {
			continue // it is a Problem already
		}
		for _, c := range s.Conditions {
			if (c.Status == metav1.ConditionTrue) == (c.Type == v1alpha1.ConditionConflicted) {
				out = append(out, problems(w.objects[k], []error{fmt.Errorf("%s: %s", c.Reason, c.Message)})...)
			}
		}
	}
	return out
}
