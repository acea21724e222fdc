package node

import (
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fairlead.io/fairlead/internal/admin"
	"fairlead.io/fairlead/internal/keeper/socket"
	"fairlead.io/fairlead/internal/l7"
	"fairlead.io/fairlead/internal/l7/exchange"
	"fairlead.io/fairlead/internal/mesh"
)

// voteWorld is the vote application on two nodes: real proxies, as far as they can be asked, told by hand what has passed.
type voteWorld struct {
	t     *testing.T
	a     *authority
	world *fakeWorld
	nodes map[string]*node
	rows  map[string]*mesh.Pod // by workload and number
	began time.Time
}

// votePods are in the table. The address of outside-1 is, too, but it is not in the mesh.
var votePods = []struct{ key, name, workload, node, addr string }{
	{"bot", "bot-6f7d9c6b5-x2k4p", "bot", "n1", "10.244.1.4"},
	{"front", "front-5d8f7c9b6-qw8rt", "front", "n1", "10.244.1.3"},
	{"catalog-1", "catalog-7b9c8d6f5-2hn5v", "catalog", "n1", "10.244.1.5"},
	{"catalog-2", "catalog-7b9c8d6f5-zx9lm", "catalog", "n2", "10.244.2.2"},
	{"catalog-3", "catalog-7b9c8d6f5-t6q8w", "catalog", "n2", "10.244.2.4"},
	{"ballot", "ballot-66c9d7f8b-kk2wp", "ballot", "n2", "10.244.2.3"},
	{"outside", "crawler-0", "crawler", "n2", "10.244.2.9"},
}

func newVoteWorld(t *testing.T) *voteWorld {
	v := &voteWorld{t: t, a: newAuthority(t), world: newWorld(), nodes: map[string]*node{}, rows: map[string]*mesh.Pod{},
		began: time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)}
	table := mesh.Delta{Version: 1764072000000000007, Nodes: []*mesh.Node{{Name: "n1", Addrs: []netip.Addr{netip.MustParseAddr("172.30.0.11")}},
		{Name: "n2", Addrs: []netip.Addr{netip.MustParseAddr("172.30.0.12")}}}}
	for _, p := range votePods {
		namespace := "vote"
		if p.key == "outside" {
			namespace = "tools"
		}
		row := &mesh.Pod{UID: "uid-" + p.key, Name: mesh.Name{Namespace: namespace, Name: p.name}, Node: p.node, Workload: p.workload,
			Account: mesh.Account{Namespace: namespace, Name: p.workload}, Addrs: []netip.Addr{netip.MustParseAddr(p.addr)}, InMesh: p.key != "outside"}
		v.rows[p.key] = row
		table.Pods = append(table.Pods, row)
	}
	service := func(name, vip string, port, target uint16, protocol mesh.Protocol, keys ...string) {
		table.Services = append(table.Services, &mesh.Service{Name: mesh.Name{Namespace: "vote", Name: name},
			Addrs: []netip.Addr{netip.MustParseAddr(vip)}, Ports: []mesh.Port{{Name: "web", Number: port, Protocol: protocol}}})
		var eps []mesh.Endpoint
		for _, k := range keys {
			eps = append(eps, mesh.Endpoint{Addr: netip.AddrPortFrom(v.rows[k].Addrs[0], target), Node: v.rows[k].Node, Ready: true})
		}
		table.Endpoints = append(table.Endpoints, &mesh.Endpoints{Service: mesh.Name{Namespace: "vote", Name: name},
			Ports: []mesh.PortEndpoints{{Port: "web", Endpoints: eps}}})
	}
	service("front", "10.96.0.10", 80, 8080, mesh.Unknown, "front")
	service("catalog", "10.96.0.11", 8081, 8081, mesh.Unknown, "catalog-1", "catalog-2", "catalog-3")
	service("ballot", "10.96.0.12", 8082, 8082, mesh.HTTP2, "ballot")
	v.world.apply(table)
	v.node("n1")
	v.node("n2")
	return v
}

// node makes a proxy that knows the world, and has the pods of its node.
func (v *voteWorld) node(name string) {
	n := newNode(Config{Node: name, Log: slog.New(slog.DiscardHandler)})
	n.creds = v.a.creds
	n.reg = prometheus.NewPedanticRegistry()
	n.metrics = newMetrics(n.reg, n, &rareLog{log: n.cfg.Log})
	n.pods.creds = n.creds
	keeper := &fakeKeeper{t: v.t, verdict: map[string]uint64{"redirect_syn_in": 12, "keeper_pods_captured": 3,
		"gauge_cni_chained": 1, "gauge_pods_captured": 3, "gauge_pods_waiting": 0}}
	n.reg.MustRegister(admin.BuildInfo("proxy"), &nodeCollector{keeper, n.creds, n.pods, n.workload})
	n.brain.Store(&brain{world: v.world, clusters: newClusters(name), tables: newTables(newClusters(name), v.world, discard), creds: n.creds, dialer: n.dialer})
	n.trustReady()
	n.tableReady()
	n.pods.begin()
	for _, p := range v.rows {
		if p.Node == name && p.InMesh {
			out, _ := listening(v.t)
			in, _ := listening(v.t)
			out.Direction, in.Direction = socket.Out, socket.In
			n.pods.Enrolled(socket.Pod{UID: p.UID, Name: p.Name, Account: p.Account, Addrs: p.Addrs}, []socket.Listener{out, in})
		}
	}
	n.pods.Synced()
	n.link.set(&socket.Client{}) // it is connected, and not spoken to
	v.t.Cleanup(n.pods.close)
	v.nodes[name] = n
}

// state is a connection whose other end has proved to be a pod's account.
func (v *voteWorld) state(p *mesh.Pod) *tls.ConnectionState {
	cert := v.a.issue(p.Account, p.Node, time.Hour)
	return &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert.Leaf}}
}

// sent is requests from one pod to another, by a service, as both nodes see them.
type sent struct {
	from, to      string // "" is an address in no table
	service, path string
	grpc          bool
	status        int
	code          uint32 // of gRPC
	took          time.Duration
	times         int
	safe          l7.Security
}

func (v *voteWorld) send(c sent) {
	record := func(local, peer string, d l7.Direction, service mesh.Name) {
		row := v.rows[local]
		if row == nil || !row.InMesh {
			return
		}
		n := v.nodes[row.Node]
		r := l7.RequestRecord{Direction: d, Pod: n.pods.pod(row.UID), Peer: v.rows[peer], Service: service, Version: exchange.HTTP2, GRPC: c.grpc,
			GRPCStatus: c.code, Status: c.status, Security: c.safe, Began: v.began, Duration: c.took, Head: &exchange.Head{Path: c.path}}
		if !c.grpc {
			r.Version = exchange.HTTP11
		}
		if c.safe == l7.SecurityMTLS {
			r.State = v.state(v.rows[peer])
		}
		for range c.times {
			n.metrics.Request(&r)
		}
	}
	service := mesh.Name{Namespace: "vote", Name: c.service}
	if c.service == "" {
		service = mesh.Name{}
	}
	record(c.from, c.to, l7.Outbound, service)
	if v.rows[c.from] == nil || !v.rows[c.from].InMesh {
		service = mesh.Name{}
	}
	record(c.to, c.from, l7.Inbound, service)
}

// connect opens a connection of an app, as both nodes see it.
func (v *voteWorld) connect(from, to string, kind l7.Kind, safe l7.Security) {
	record := func(local, peer string, d l7.Direction) {
		if row := v.rows[local]; row != nil && row.InMesh {
			n := v.nodes[row.Node]
			n.metrics.ConnOpened(&l7.ConnRecord{Direction: d, Pod: n.pods.pod(row.UID), Peer: v.rows[peer], Kind: kind, Security: safe, Began: v.began})
		}
	}
	record(from, to, l7.Outbound)
	record(to, from, l7.Inbound)
}

// traffic is what passes in some seconds; a round of it for each.
func (v *voteWorld) traffic(rounds int) {
	ms := time.Millisecond
	for _, c := range []sent{
		{from: "bot", to: "front", service: "front", path: "/api/vote?choice=pizza", status: 200, took: 6 * ms, times: 95},
		{from: "bot", to: "front", service: "front", path: "/api/vote?choice=doughnut", status: 500, took: 7 * ms, times: 5},
		{from: "front", to: "ballot", service: "ballot", path: "/fairlead.vote.v1.Ballot/VotePizza", grpc: true, status: 200, took: ms, times: 95},
		{from: "front", to: "ballot", service: "ballot", path: "/fairlead.vote.v1.Ballot/VoteDoughnut", grpc: true, status: 200, code: 13, took: ms, times: 5},
		{from: "front", to: "catalog-1", service: "catalog", path: "/fairlead.vote.v1.Catalog/ListAll", grpc: true, status: 200, took: 2 * ms, times: 34},
		{from: "front", to: "catalog-2", service: "catalog", path: "/fairlead.vote.v1.Catalog/ListAll", grpc: true, status: 200, took: 3 * ms, times: 35},
		{from: "front", to: "catalog-3", service: "catalog", path: "/fairlead.vote.v1.Catalog/ListAll", grpc: true, status: 200, took: 3 * ms, times: 31},
	} {
		c.safe, c.times = l7.SecurityMTLS, c.times*rounds
		v.send(c)
	}
	v.send(sent{from: "outside", to: "front", path: "/", status: 200, took: 40 * ms, times: 2 * rounds, safe: l7.SecurityForeign})
	v.send(sent{from: "front", to: "outside", path: "/hook", status: 503, took: 12 * ms, times: rounds, safe: l7.SecurityForeign})
}

func (v *voteWorld) handler(node string) http.Handler {
	n := v.nodes[node]
	return admin.Handler(n.ready, n.reg, n.debug())
}
