package node

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fairlead.io/fairlead/internal/l7"
	"fairlead.io/fairlead/internal/l7/exchange"
	"fairlead.io/fairlead/internal/mesh"
)

// handleLife is how long a handle is used. Within it a series cannot be dropped, and what the table says may be that old.
const handleLife = time.Second

// handles are where the last requests of a connection were counted, so that the next one of the same kind looks for nothing and
// takes no lock. They belong to the connection's loop.
type handles struct {
	list [4]handle
	next uint8 // which makes room
}

// handle is where requests of one kind are counted.
type handle struct {
	until time.Time
	// The kind.
	peer    *mesh.Pod
	service mesh.Name
	rule    *mesh.Rule
	backend mesh.Name
	outcome outcome

	total prometheus.Counter
	took  prometheus.Observer
	share prometheus.Counter // nil without a rule
	// src is the calling workload, to the service that it has dialled, as metrics name them.
	src, to mesh.Name
	pod     *podFlow // nil for a pod that is not counted by itself
	with    *peerCounters
	path    string // the last one's,
	route   *routeEntry
}

// outcome is what a request's labels are made of, beside names.
type outcome struct {
	direction l7.Direction
	security  l7.Security
	protocol  string
	class     string // of the status
	grpc      string
}

func outcomeOf(r *l7.RequestRecord) outcome {
	o := outcome{direction: r.Direction, security: r.Security, protocol: "http1", class: statusClass(r.Status)}
	switch {
	case r.GRPC:
		o.protocol, o.grpc = "grpc", grpcName(r.GRPCStatus)
	case r.Version == exchange.HTTP2:
		o.protocol = "http2"
	}
	return o
}

// handlesOf returns the connection's handles; without a place for them they serve once.
func handlesOf(r *l7.RequestRecord) *handles {
	if r.Tag == nil {
		return &handles{}
	}
	h, ok := (*r.Tag).(*handles)
	if !ok {
		h = &handles{}
		*r.Tag = h
	}
	return h
}

// find returns the handle for r, which it makes if need be.
func (h *handles) find(m *metrics, r *l7.RequestRecord, now time.Time) *handle {
	o := outcomeOf(r)
	for i := range h.list {
		e := &h.list[i]
		if e.peer == r.Peer && e.outcome == o && e.service == r.Service && e.rule == r.Rule && e.backend == r.Backend && now.Before(e.until) {
			return e
		}
	}
	e := &h.list[h.next%uint8(len(h.list))]
	h.next++
	p := m.pair(r.Direction, r.Pod, r.Peer, r.Service, o.protocol, r.Security)
	*e = handle{until: now.Add(handleLife), peer: r.Peer, service: r.Service, rule: r.Rule, backend: r.Backend, outcome: o, src: p.src, to: p.service,
		total: m.requests.get(requestKey{pair: p, status: o.class, grpc: o.grpc}), took: m.durations.get(connKey{p})}
	if r.Rule != nil {
		e.share = m.rules.requests.get(shareKey{ruleOf(p.src, r.Service, r.Rule), r.Backend, o.class})
	}
	if c := countersOf(r.Pod); c != nil {
		e.pod, e.with = &c.flows[r.Direction&1], c.peer(r.Peer, r.Direction, r.Security)
	}
	return e
}

// at returns where requests for a path are counted.
func (h *handle) at(routes *routes, path string) *routeEntry {
	if h.route == nil || h.path != path {
		h.path, h.route = path, routes.entry(h.service, path, h.outcome.protocol)
	}
	return h.route
}
