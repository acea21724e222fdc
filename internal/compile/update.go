package compile

import (
	"cmp"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"fairlead.io/fairlead/api/v1alpha1"
	"fairlead.io/fairlead/internal/mesh"
)

// order in which the objects of a batch are looked at: what others refer to comes first.
var order = map[Kind]int{
	Namespace: 0, Node: 1, ServiceAccount: 2, Service: 3, Pod: 4, EndpointSlice: 5,
	ReferenceGrant: 6, HTTPRoute: 7, GRPCRoute: 7, TLSRoute: 7, TCPRoute: 7,
	TrafficPolicy: 8, AuthorizationPolicy: 8,
}

// Update removes and sets objects, as one change.
func (w *World) Update(set []Object, gone []Key) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, k := range gone {
		w.remove(k)
	}
	for _, o := range inOrder(slices.Clone(set)) {
		w.set(o)
	}
	w.settleClaims() // before others that were refused: what is captured is there
	w.retry()
	w.settleClaims()
	w.settleRoutes()
	w.end()
}

// inOrder sorts by kind, then by file and line: that decides who is first.
func inOrder(objects []Object) []Object {
	slices.SortStableFunc(objects, func(a, b Object) int {
		return cmp.Or(cmp.Compare(order[a.Kind], order[b.Kind]), cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
	return objects
}

// set puts an object in force if it can be.
func (w *World) set(o Object) {
	warnings, err := w.admit(o)
	if err != nil {
		w.refused[o.Key] = o
		w.problems[o.Key] = problems(o, []error{err})
		return
	}
	delete(w.refused, o.Key)
	if prefersZone(w.objects[o.Key]) != prefersZone(o) {
		w.refreshRoutes(nameOf(o.Key))
	}
	w.objects[o.Key] = o
	w.targetChanged(o.Key)
	if len(warnings) == 0 {
		delete(w.problems, o.Key)
		return
	}
	w.problems[o.Key] = problems(o, warnings)
}

func problems(o Object, errs []error) []Problem {
	var out []Problem
	for _, err := range errs {
		out = append(out, Problem{File: o.File, Line: o.Line, Object: o.String(), Err: err})
	}
	return out
}

// retry looks again at what was refused, as long as that makes something come into force.
func (w *World) retry() {
	var partly []Object
	for k := range w.problems {
		if o, there := w.objects[k]; there {
			if _, newer := w.refused[k]; !newer {
				partly = append(partly, o) // perhaps the rest is free now
			}
		}
	}
	for _, o := range inOrder(partly) {
		w.set(o)
	}
	for again := true; again; {
		again = false
		waiting := make([]Object, 0, len(w.refused))
		for _, o := range w.refused {
			if routeKinds[o.Kind] == mesh.NoRoute && !ownKinds[o.Kind] { // a route or a policy is refused for its own text: nothing else mends that
				waiting = append(waiting, o)
			}
		}
		for _, o := range inOrder(waiting) {
			w.set(o)
			_, still := w.refused[o.Key]
			again = again || !still
		}
	}
}

// admit takes an object into the rows. On an error nothing has changed.
func (w *World) admit(o Object) (warnings []error, err error) {
	if err := checkName(o.Key); err != nil {
		return nil, err
	}
	switch v := o.Value.(type) {
	case error: // it could not be read
		return nil, v
	case *corev1.Namespace:
		return w.setNamespace(v)
	case *corev1.ServiceAccount:
		return nil, nil
	case *corev1.Node:
		return nil, w.setNode(o.Key, v)
	case *corev1.Service:
		return w.setService(o.Key, v)
	case *corev1.Pod:
		return w.setPod(o.Key, v)
	case *discoveryv1.EndpointSlice:
		return w.setSlice(o.Key, v)
	case *gatewayv1.ReferenceGrant:
		return nil, w.setGrant(o.Key, v)
	case *gatewayv1.HTTPRoute, *gatewayv1.GRPCRoute, *gatewayv1.TLSRoute, *gatewayv1.TCPRoute:
		return nil, w.setRoute(o.Key, v)
	case *v1alpha1.TrafficPolicy:
		return nil, w.setTraffic(o.Key, v)
	case *v1alpha1.AuthorizationPolicy:
		return nil, w.setAuthorization(o.Key, v)
	}
	return nil, fmt.Errorf("object of type %T", o.Value)
}

// remove takes an object out of force.
func (w *World) remove(k Key) {
	delete(w.refused, k)
	delete(w.problems, k)
	if routeKinds[k.Kind] != mesh.NoRoute {
		w.dropRoute(k) // there is a status of one that was never in force
	}
	switch k.Kind {
	case TrafficPolicy:
		w.dropTraffic(k)
	case AuthorizationPolicy:
		w.dropAuthorization(k)
	}
	o, there := w.objects[k]
	if !there {
		return
	}
	delete(w.objects, k)
	w.targetChanged(k)
	if prefersZone(o) {
		w.refreshRoutes(nameOf(k))
	}
	switch k.Kind {
	case Namespace:
		w.dropNamespace(k.Name)
	case ServiceAccount:
		w.refreshPods(k.Namespace)
	case Node:
		w.claims.set(k, nil)
		delete(w.nodes, k.Name)
		w.note(Node, k.Name)
	case Service:
		w.claims.set(k, nil)
		name := mesh.Name{Namespace: k.Namespace, Name: k.Name}.String()
		delete(w.services, name)
		w.note(Service, name)
		w.serviceChanged(name)
	case Pod:
		w.dropPod(k)
	case EndpointSlice:
		w.dropSlice(k, o.Value.(*discoveryv1.EndpointSlice))
	case ReferenceGrant:
		w.dropGrant(k)
	}
}

// refreshPods looks again at the pods of a namespace, after something that they refer to has changed. A pod that
// is not good any more stays as it was.
func (w *World) refreshPods(namespace string) {
	keys := make([]Key, 0, len(w.index.podsOf[namespace]))
	for k := range w.index.podsOf[namespace] {
		keys = append(keys, k)
	}
	for _, k := range keys {
		o := w.objects[k]
		_, err := w.setPod(k, o.Value.(*corev1.Pod)) // warnings are of its own text, and known
		if _, newer := w.refused[k]; err != nil && !newer {
			w.refused[k] = o
			w.problems[k] = problems(o, []error{err})
		}
	}
}
