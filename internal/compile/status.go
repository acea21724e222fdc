package compile

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// ControllerName is what we call ourselves in the status of a route. Parents under another name are not ours.
const ControllerName = "fairlead.io/controller"

// RouteStatus is what is to stand in a route's status under our name: all of it, in the order of the route's
// parentRefs. With no Parents nothing of ours is to stand there.
type RouteStatus struct {
	Key
	UID        string // of the route that this is about; "" if the object told none
	Generation int64  // of the version that this is about
	Gone       bool   // there is no such route any more
	Parents    []ParentStatus
}

// ParentStatus is what a Service says of a route. The conditions bear no LastTransitionTime: who writes them knows
// what stood there before.
type ParentStatus struct {
	Ref        gatewayv1.ParentReference // as it stands in the route
	Conditions []metav1.Condition
}

// RouteStatuses are those that changed after a version, or all of them for version 0 and for one too old to tell; and the
// version that they are of, which is not one of Delta's. They belong to the World. Routes without a Service among their
// parents are told too, with no Parents: perhaps they had one before, and what is written of it has to go.
func (w *World) RouteStatuses(since uint64) ([]RouteStatus, uint64) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.routes.statuses.since(since, func(k Key) RouteStatus { return RouteStatus{Key: k, Gone: true} })
}

// RouteStatusesChanged is closed when the status of a route changes next. Get it before RouteStatuses.
func (w *World) RouteStatusesChanged() <-chan struct{} {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.routes.statuses.changed
}

// RouteStatus is that of one route, if there is such a route.
func (w *World) RouteStatus(k Key) (RouteStatus, bool) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	s, there := w.routes.statuses.of[k]
	return s, there
}

// PolicyStatus is what is to stand in the status of a policy of ours: all of its conditions.
type PolicyStatus struct {
	Key
	UID        string // of the policy that this is about; "" if the object told none
	Generation int64  // of the version that this is about
	Gone       bool   // there is no such policy any more
	Conditions []metav1.Condition
}

// PolicyStatuses are, as RouteStatuses, those that changed after a version.
func (w *World) PolicyStatuses(since uint64) ([]PolicyStatus, uint64) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.own.statuses.since(since, func(k Key) PolicyStatus { return PolicyStatus{Key: k, Gone: true} })
}

// PolicyStatusesChanged is closed when the status of a policy changes next. Get it before PolicyStatuses.
func (w *World) PolicyStatusesChanged() <-chan struct{} {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.own.statuses.changed
}

// PolicyStatus is that of one policy, if there is such a policy.
func (w *World) PolicyStatus(k Key) (PolicyStatus, bool) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	s, there := w.own.statuses.of[k]
	return s, there
}
