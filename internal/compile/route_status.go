package compile

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"fairlead.io/fairlead/internal/mesh"
)

// reasonConflicted is that of GEP-1294 for a route that a route of a more specific kind keeps from a port. The API's
// package has no name for it.
const reasonConflicted gatewayv1.RouteConditionReason = "Conflicted"

// maxFailures bounds how many references a message names.
const maxFailures = 5

// makeStatus makes a route's status anew.
func (w *World) makeStatus(k Key) {
	var now *RouteStatus
	if x := w.routes.refused[k]; x != nil {
		now = newStatus(x.head)
		for i := range x.refs {
			now.Parents[i].Conditions = []metav1.Condition{w.refusal(x)}
		}
	} else if r := w.routes.of[k]; r != nil {
		now = newStatus(r.head)
		for i, p := range r.parents {
			now.Parents[i].Conditions = []metav1.Condition{w.accepted(r, p), resolvedRefs(r, p.service)}
		}
	}
	w.routes.statuses.set(k, now)
}

func newStatus(h head) *RouteStatus {
	s := &RouteStatus{Key: h.key, UID: h.uid, Generation: h.generation}
	for _, ref := range h.refs {
		s.Parents = append(s.Parents, ParentStatus{Ref: ref})
	}
	return s
}

func condition(h head, kind gatewayv1.RouteConditionType, reason gatewayv1.RouteConditionReason, message string) metav1.Condition {
	status := metav1.ConditionFalse
	if string(reason) == string(kind) { // so are the good ones named
		status = metav1.ConditionTrue
	}
	return metav1.Condition{Type: string(kind), Status: status, ObservedGeneration: h.generation, Reason: string(reason), Message: message}
}

// refusal is what is said of a route that is invalid, at each of its parents.
func (w *World) refusal(x *refused) metav1.Condition {
	reason := gatewayv1.RouteReasonUnsupportedValue
	var together incompatible
	if errors.As(x.err, &together) {
		reason = gatewayv1.RouteReasonIncompatibleFilters
	}
	in := "Nothing of this route is in force"
	if r := w.routes.of[x.key]; r != nil {
		in = fmt.Sprintf("Generation %d, the last valid one, stays in force", r.generation)
	}
	why := strings.ReplaceAll(x.err.Error(), "\n", "; ")
	return condition(x.head, gatewayv1.RouteConditionAccepted, reason, fmt.Sprintf("%s. %s.", why, in))
}

// accepted is whether a route is in force at a parent. It is if it is at one of the ports; the message says where not.
func (w *World) accepted(r *route, p parent) metav1.Condition {
	say := func(reason gatewayv1.RouteConditionReason, message string) metav1.Condition {
		return condition(r.head, gatewayv1.RouteConditionAccepted, reason, message+".")
	}
	ports, why := p.attach(w.services[p.service.String()])
	if why != "" {
		return say(gatewayv1.RouteReasonNoMatchingParent, why)
	}
	var held []string
	var lost, notes []string
	for _, port := range ports {
		winner := w.routes.winners[p.service.String()][portGroup{port, r.consumer(p.service)}]
		switch {
		case winner.kind != r.kind:
			lost = append(lost, fmt.Sprintf("port %d has %s, which is more specific", port, winner.key))
			continue
		case winner != r && r.kind == mesh.TCPRoute:
			notes = append(notes, fmt.Sprintf("at port %d every connection is taken by %s, which is older", port, winner.key))
		}
		held = append(held, fmt.Sprint(port))
	}
	if len(held) == 0 {
		return say(reasonConflicted, fmt.Sprintf("At Service %s %s", p.service, strings.Join(lost, ", ")))
	}
	message := fmt.Sprintf("In force at Service %s, port %s", p.service, strings.Join(held, ", "))
	if c := r.consumer(p.service); c != "" {
		message += fmt.Sprintf(", for the pods of namespace %s", c)
	}
	if r.hosts {
		notes = append(notes, "hostnames do not count at a Service")
	}
	for _, note := range slices.Concat(lost, notes) {
		message += "; " + note
	}
	return say(gatewayv1.RouteReasonAccepted, message)
}

func resolvedRefs(r *route, service mesh.Name) metav1.Condition {
	failures := r.resolved[service].failures
	if len(failures) == 0 {
		return condition(r.head, gatewayv1.RouteConditionResolvedRefs, gatewayv1.RouteReasonResolvedRefs, "Every reference leads to a port of a Service.")
	}
	var say []string
	for _, f := range failures[:min(len(failures), maxFailures)] {
		say = append(say, f.message)
	}
	if more := len(failures) - len(say); more > 0 {
		say = append(say, fmt.Sprintf("and %d more", more))
	}
	return condition(r.head, gatewayv1.RouteConditionResolvedRefs, failures[0].reason, strings.Join(say, "; ")+".")
}

// statuses are those of all routes or of all policies, and what changed when. Their versions are their own: a status is
// no node's concern.
type statuses[S any] struct {
	of      map[Key]S
	version uint64
	dirty   bool
	changed chan struct{}
	history history
}

func newStatuses[S any](start uint64, limit int) statuses[S] {
	return statuses[S]{of: map[Key]S{}, version: start, changed: make(chan struct{}), history: history{limit: limit, floor: start}}
}

// set takes a status; nil if the object is gone.
func (s *statuses[S]) set(k Key, now *S) {
	old, there := s.of[k]
	switch {
	case now == nil && !there, now != nil && there && reflect.DeepEqual(old, *now):
		return
	case now == nil:
		delete(s.of, k)
	default:
		s.of[k] = *now
	}
	s.dirty = true
	s.history.add(change{version: s.version + 1, kind: k.Kind, key: mesh.Name{Namespace: k.Namespace, Name: k.Name}.String()})
}

func (s *statuses[S]) end() {
	if !s.dirty {
		return
	}
	s.dirty = false
	s.version++
	close(s.changed)
	s.changed = make(chan struct{})
}

// since is what changed after a version, or all there is.
func (s *statuses[S]) since(version uint64, gone func(Key) S) ([]S, uint64) {
	var out []S
	changes, ok := s.history.since(version)
	if !ok || version == 0 {
		for _, x := range s.of {
			out = append(out, x)
		}
		return out, s.version
	}
	seen := map[Key]bool{}
	for _, c := range changes {
		name := splitName(c.key)
		k := Key{Kind: c.kind, Namespace: name.Namespace, Name: name.Name}
		if seen[k] {
			continue
		}
		seen[k] = true
		if x, there := s.of[k]; there {
			out = append(out, x)
		} else {
			out = append(out, gone(k))
		}
	}
	return out, s.version
}
