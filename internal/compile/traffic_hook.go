package compile

import "fairlead.io/fairlead/internal/mesh"

// trafficFor is what policies say of the traffic to a Service: of a rule by its name, of a route with rule "", of the
// Service itself with the zero Key. What it returns is not changed afterwards; nil is nothing.
func (w *World) trafficFor(service mesh.Name, route Key, rule string) *mesh.Traffic {
	return nil
}
