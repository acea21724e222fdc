package kube

import (
	"encoding/json"
	"fmt"
	"reflect"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"fairlead.io/fairlead/api/v1alpha1"
	"fairlead.io/fairlead/internal/compile"
)

// maxParents is what the Gateway API allows in a route's status, of all controllers.
const maxParents = 32

// status is what is to stand in the status of an object: parents in a route's, conditions in a policy's.
type status struct {
	generation int64
	policy     bool
	parents    []compile.ParentStatus
	conditions []metav1.Condition
}

// stands tells whether an object that is followed has it already.
func (s status) stands(object metav1.Object) bool {
	if p, ok := policyConditions(object); ok {
		_, changed := merged(p, s.conditions, metav1.Time{})
		return !changed
	}
	_, changed := s.mergedParents(routeParents(object), metav1.Time{})
	return !changed
}

func policyConditions(object metav1.Object) ([]metav1.Condition, bool) {
	switch o := object.(type) {
	case *v1alpha1.TrafficPolicy:
		return o.Status.Conditions, true
	case *v1alpha1.AuthorizationPolicy:
		return o.Status.Conditions, true
	}
	return nil, false
}

func routeParents(object metav1.Object) []gatewayv1.RouteParentStatus {
	switch o := object.(type) {
	case *gatewayv1.HTTPRoute:
		return o.Status.Parents
	case *gatewayv1.GRPCRoute:
		return o.Status.Parents
	case *gatewayv1.TLSRoute:
		return o.Status.Parents
	case *gatewayv1.TCPRoute:
		return o.Status.Parents
	}
	return nil
}

// put puts it into an object as the API server has it, and tells whether that has changed anything.
func (s status) put(live *unstructured.Unstructured, now metav1.Time) (changed bool, err error) {
	if s.policy {
		var have []metav1.Condition
		if err := read(live, &have, "status", "conditions"); err != nil {
			return false, err
		}
		all, changed := merged(have, s.conditions, now)
		if !changed {
			return false, nil
		}
		return true, write(live, all, "status", "conditions")
	}
	var have []gatewayv1.RouteParentStatus
	if err := read(live, &have, "status", "parents"); err != nil {
		return false, err
	}
	all, changed := s.mergedParents(have, now)
	if !changed {
		return false, nil
	}
	return true, write(live, all, "status", "parents")
}

func read(from *unstructured.Unstructured, into any, path ...string) error {
	field, _, err := unstructured.NestedFieldNoCopy(from.Object, path...)
	if err != nil {
		return fmt.Errorf("read status: %w", err)
	}
	text, err := json.Marshal(field)
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		return fmt.Errorf("read status: %w", err)
	}
	return nil
}

func write(to *unstructured.Unstructured, value any, path ...string) error {
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("write status: %w", err)
	}
	var field []any
	if err := json.Unmarshal(text, &field); err != nil {
		return fmt.Errorf("write status: %w", err)
	}
	return unstructured.SetNestedSlice(to.Object, field, path...)
}

// mergedParents is what others have written, and then ours. There is not room for more than the Gateway API allows: what others
// have written goes before.
func (s status) mergedParents(have []gatewayv1.RouteParentStatus, now metav1.Time) (all []gatewayv1.RouteParentStatus, changed bool) {
	all = []gatewayv1.RouteParentStatus{} // a list has to be there, though it is empty
	var ours []gatewayv1.RouteParentStatus
	for _, p := range have {
		if p.ControllerName == compile.ControllerName {
			ours = append(ours, p)
			continue
		}
		all = append(all, p)
	}
	was := len(ours)
	for i, p := range s.parents {
		if len(all) == maxParents {
			break
		}
		x := gatewayv1.RouteParentStatus{ParentRef: p.Ref, ControllerName: compile.ControllerName}
		var before []metav1.Condition
		for _, o := range ours {
			if reflect.DeepEqual(o.ParentRef, p.Ref) {
				before = o.Conditions
			}
		}
		var moved bool
		x.Conditions, moved = merged(before, p.Conditions, now)
		changed = changed || moved || i >= was || !reflect.DeepEqual(ours[i].ParentRef, p.Ref)
		all = append(all, x)
	}
	return all, changed || was > len(s.parents)
}

// merged are the conditions that are to be, each with the time at which its status became what it is.
func merged(have, want []metav1.Condition, now metav1.Time) (all []metav1.Condition, changed bool) {
	for _, c := range want {
		c.LastTransitionTime = now
		same := false
		for _, h := range have {
			if h.Type != c.Type {
				continue
			}
			if h.Status == c.Status {
				c.LastTransitionTime = h.LastTransitionTime
			}
			same = h.Status == c.Status && h.Reason == c.Reason && h.Message == c.Message && h.ObservedGeneration == c.ObservedGeneration
		}
		changed = changed || !same
		all = append(all, c)
	}
	return all, changed || len(have) != len(want)
}
