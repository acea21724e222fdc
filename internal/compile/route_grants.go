package compile

import (
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"fairlead.io/fairlead/internal/mesh"
)

func (w *World) setGrant(k Key, g *gatewayv1.ReferenceGrant) error {
	if err := atMost("from", len(g.Spec.From), maxItems); err != nil {
		return err
	}
	if err := atMost("to", len(g.Spec.To), maxItems); err != nil {
		return err
	}
	put(w.routes.grants, k.Namespace, k)
	w.grantsChanged(k.Namespace)
	return nil
}

func (w *World) dropGrant(k Key) {
	drop(w.routes.grants, k.Namespace, k)
	w.grantsChanged(k.Namespace)
}

func (w *World) grantsChanged(namespace string) {
	for k := range w.routes.across[namespace] {
		w.routes.stale.refs[k] = true
	}
}

// granted tells whether a route may send to a Service: to one of its own namespace, or one that a ReferenceGrant beside
// it lets it refer to. What was sent to a Service anyway needs no leave to go there.
func (w *World) granted(route Key, to mesh.Name) bool {
	if to.Namespace == route.Namespace {
		return true
	}
	for k := range w.routes.grants[to.Namespace] {
		if g, ok := w.objects[k].Value.(*gatewayv1.ReferenceGrant); ok && grants(g, route, to) {
			return true
		}
	}
	return false
}

func grants(g *gatewayv1.ReferenceGrant, from Key, to mesh.Name) bool {
	for _, f := range g.Spec.From {
		if f.Group != gatewayv1.GroupName || string(f.Kind) != string(from.Kind) || string(f.Namespace) != from.Namespace {
			continue
		}
		for _, t := range g.Spec.To {
			if core(t.Group) && t.Kind == "Service" && (t.Name == nil || *t.Name == "" || string(*t.Name) == to.Name) {
				return true
			}
		}
	}
	return false
}
