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

// RouteStatuses are those that changed after a version, or all of them for version 0 and for one too old to tell;
// and the version that they are of. Routes that have no Service for a parent are told only if they once had one.
func (w *World) RouteStatuses(since uint64) ([]RouteStatus, uint64) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return nil, w.version
}

// RouteStatus is that of one route.
func (w *World) RouteStatus(k Key) (RouteStatus, bool) {
	return RouteStatus{}, false
}
