package traffic

import "fairlead.io/fairlead/internal/mesh"

// Served is true for what counts as a workload's, seen from the server: what arrived at its own node, and from the
// client's node only what no server's node has counted, because the server is outside the mesh or is the client itself.
func Served(p Pair) bool {
	return p.Direction == "inbound" || p.TLS == "not_in_mesh" || p.TLS == "self"
}

// Sent is true for what counts as a workload's or a service's, seen from the client. For a service it is everything,
// with the requests that found no endpoint; only clients outside the mesh, who do not say which service they mean, are not in it.
func Sent(p Pair) bool { return p.Direction == "outbound" }

// End is one end of a hop to be looked for: a namespace, a workload in it, or a service.
type End struct {
	Namespace string
	Workload  string // "" for all of the namespace
	Service   string
}

// IsSource tells whether a hop comes from there.
func (e End) IsSource(p Pair) bool { return e.Service == "" && e.is(p.Src) }

// IsTarget tells whether a hop goes there.
func (e End) IsTarget(p Pair) bool {
	if e.Service != "" {
		return p.Service == mesh.Name{Namespace: e.Namespace, Name: e.Service}
	}
	return e.is(p.Dst)
}

func (e End) is(n mesh.Name) bool {
	return n.Namespace == e.Namespace && (e.Workload == "" || n.Name == e.Workload)
}
