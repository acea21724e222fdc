package node

import (
	"cmp"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"fairlead.io/fairlead/internal/admin"
	"fairlead.io/fairlead/internal/identity"
	"fairlead.io/fairlead/internal/l7"
	"fairlead.io/fairlead/internal/l7/balance"
	"fairlead.io/fairlead/internal/mesh"
	"fairlead.io/fairlead/internal/node/debug"
)

// debug are the handlers below /debug/. They tell what there is and change nothing: nothing is subscribed to, and no
// account is waited for, because somebody has asked.
func (n *node) debug() map[string]http.Handler {
	answer := func(f func() any) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, f()) })
	}
	return map[string]http.Handler{
		debug.RoutesPath:     &n.metrics.routes,
		debug.NodePath:       answer(func() any { return n.state() }),
		debug.PodsPath:       answer(func() any { return n.podList() }),
		debug.EdgesPath:      answer(func() any { return n.edgeList() }),
		debug.IdentitiesPath: answer(func() any { return n.creds.list() }),
		debug.EndpointsPath:  http.HandlerFunc(n.serveEndpoints),
		debug.AuthzPath:      answer(func() any { return n.authzList() }),
		debug.RulesPath:      answer(func() any { return n.ruleList() }),
		debug.ExplainPath:    http.HandlerFunc(n.serveExplain),
	}
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // whoever asked has gone
}

func (n *node) state() debug.Node {
	s := debug.Node{
		Node: n.cfg.Node, Version: admin.Version, Started: n.started.UTC(), Now: time.Now().UTC(),
		Pending: n.ready.Pending(), Keeper: n.link.connected(),
	}
	if b := n.brain.Load(); b != nil {
		s.Controller, s.Synced, s.Table = b.world.Connected(), b.world.Synced(), b.world.Snapshot().Version()
	}
	return s
}

func (n *node) podList() []debug.Pod {
	table, all := n.table(), []debug.Pod{}
	for _, p := range n.pods.list() {
		d := debug.Pod{
			UID: p.UID, Namespace: p.Name.Namespace, Name: p.Name.Name, Workload: n.workload(p.UID).Name,
			Account: p.Account.Name, Addresses: texts(p.Addrs),
		}
		earlier := n.pods.earlierOf(p.UID)
		d.Earlier, d.EarlierMore = earlier.Connections, earlier.More
		if row := table.Pod(p.UID); row != nil {
			d.InMesh = row.InMesh
		}
		if c := countersOf(p); c != nil {
			d.Inbound, d.Outbound = c.traffic(l7.Inbound), c.traffic(l7.Outbound)
		}
		all = append(all, d)
	}
	slices.SortFunc(all, func(a, b debug.Pod) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), cmp.Compare(a.UID, b.UID))
	})
	return all
}

func texts(addrs []netip.Addr) []string {
	all := []string{}
	for _, a := range addrs {
		all = append(all, a.String())
	}
	return all
}

func (n *node) edgeList() []debug.Edge {
	all := []debug.Edge{}
	for _, p := range n.pods.list() {
		c := countersOf(p)
		if c == nil {
			continue
		}
		for _, e := range c.edges() {
			e.Pod = debug.Name{Namespace: p.Name.Namespace, Name: p.Name.Name}
			e.Workload, e.Account = n.workload(p.UID).Name, p.Account.Name
			if e.TLS == l7.SecurityMTLS.String() && e.Peer.Identity == "" && e.Peer.Account != "" {
				// The handshake has held the certificate against the table (ClientTLS, checkPeer).
				e.Peer.Identity = n.creds.id(mesh.Account{Namespace: e.Peer.Namespace, Name: e.Peer.Account})
			}
			all = append(all, e)
		}
	}
	slices.SortStableFunc(all, func(a, b debug.Edge) int {
		return cmp.Or(cmp.Compare(a.Pod.Namespace, b.Pod.Namespace), cmp.Compare(a.Pod.Name, b.Pod.Name))
	})
	return all
}

// id is the SPIFFE ID of an account; empty before the trust domain is known.
func (c *credentials) id(a mesh.Account) string {
	bundle := c.roots()
	if bundle == nil {
		return ""
	}
	id, err := identity.AccountID(bundle.TrustDomain(), a)
	if err != nil {
		return ""
	}
	return id.String()
}

// list tells the certificates, without a key: the keeper has them.
func (c *credentials) list() debug.Identities {
	all := debug.Identities{Identities: []debug.Identity{}}
	if bundle := c.roots(); bundle != nil {
		all.TrustDomain, all.Roots = bundle.TrustDomain().Name(), string(bundle.PEM())
	}
	for a, cert := range c.certificates() {
		var chain strings.Builder
		for _, der := range cert.Certificate {
			chain.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
		}
		all.Identities = append(all.Identities, debug.Identity{Namespace: a.Namespace, Account: a.Name, Chain: chain.String()})
	}
	slices.SortFunc(all.Identities, func(a, b debug.Identity) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Account, b.Account))
	})
	return all
}

// serveEndpoints answers for ?service=namespace/name.
func (n *node) serveEndpoints(w http.ResponseWriter, r *http.Request) {
	namespace, name, ok := strings.Cut(r.FormValue("service"), "/")
	if !ok {
		http.Error(w, "want ?service=namespace/name", http.StatusBadRequest)
		return
	}
	b := n.brain.Load()
	if b == nil {
		http.Error(w, ErrNoTable.Error(), http.StatusServiceUnavailable)
		return
	}
	svc := b.world.Snapshot().Service(mesh.Name{Namespace: namespace, Name: name})
	if svc == nil {
		http.Error(w, "this node knows no such service", http.StatusNotFound)
		return
	}
	all := []debug.Service{}
	for _, port := range svc.Ports {
		all = append(all, b.describe(svc, port)...)
	}
	writeJSON(w, all)
}

// describe is a port of a service: once for each family that is used, and once if none is.
func (b *brain) describe(svc *mesh.Service, port mesh.Port) []debug.Service {
	base := debug.Service{
		Namespace: svc.Namespace, Name: svc.Name.Name, Port: port.Name, Number: port.Number, Protocol: port.Protocol.String(),
		Addresses: texts(svc.Addrs), Endpoints: []debug.Endpoint{},
	}
	var all []debug.Service
	for key, cluster := range b.clusters.of(svc.Name) {
		if key.port != port.Name {
			continue
		}
		d := base
		d.Used, d.Family, d.Endpoints = true, "IPv6", b.endpoints(cluster.Endpoints())
		if key.v4 {
			d.Family = "IPv4"
		}
		all = append(all, d)
	}
	if len(all) == 0 {
		return []debug.Service{base}
	}
	slices.SortFunc(all, func(a, b debug.Service) int { return cmp.Compare(a.Family, b.Family) })
	return all
}

func (b *brain) endpoints(from []*balance.Endpoint) []debug.Endpoint {
	all := []debug.Endpoint{}
	for _, e := range from {
		all = append(all, b.endpoint(e))
	}
	slices.SortFunc(all, func(a, b debug.Endpoint) int { return cmp.Compare(a.Address, b.Address) })
	return all
}

func (b *brain) endpoint(e *balance.Endpoint) debug.Endpoint {
	d := debug.Endpoint{
		Address: e.Addr.String(), Node: e.Node, Ready: e.Ready, Serving: e.Serving, InMesh: e.Mesh,
		InFlight: e.InFlight(), Latency: e.Latency().Seconds(),
	}
	if e.Pod != nil {
		d.Namespace, d.Pod, d.UID = e.Pod.Name.Namespace, e.Pod.Name.Name, e.Pod.UID
	}
	if e.Mesh {
		d.Identity = b.creds.id(e.Account)
	}
	return d
}
