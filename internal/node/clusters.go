package node

import (
	"net/netip"
	"sync"
	"time"

	"fairlead.io/fairlead/internal/l7/balance"
	"fairlead.io/fairlead/internal/mesh"
)

// clusters are the service ports that this node's pods have used, each with its live endpoints.
type clusters struct {
	node string

	mu sync.Mutex // protects m
	m  map[clusterKey]*balance.Cluster
}

type clusterKey struct {
	service mesh.Name
	port    string // the port's name
	v4      bool   // of the address that was dialled: as without a mesh, IPv4 leads to IPv4 and IPv6 to IPv6
}

func newClusters(node string) *clusters {
	return &clusters{node: node, m: map[clusterKey]*balance.Cluster{}}
}

// get returns the cluster of a service port, made from the snapshot on first use. Its endpoints are of the family of dst:
// an app need not listen on the other.
func (c *clusters) get(s *mesh.Snapshot, svc *mesh.Service, port mesh.Port, dst netip.Addr) *balance.Cluster {
	c.mu.Lock()
	defer c.mu.Unlock()
	key, b := c.look(s, svc, port, dst)
	c.m[key] = b
	return b
}

// peek is get for one who only looks: what nobody has used is not kept.
func (c *clusters) peek(s *mesh.Snapshot, svc *mesh.Service, port mesh.Port, dst netip.Addr) *balance.Cluster {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, b := c.look(s, svc, port, dst)
	return b
}

// look is called with mu held.
func (c *clusters) look(s *mesh.Snapshot, svc *mesh.Service, port mesh.Port, dst netip.Addr) (clusterKey, *balance.Cluster) {
	key := clusterKey{svc.Name, port.Name, dst.Unmap().Is4()}
	b := c.m[key]
	if b == nil {
		b = balance.New(balance.Config{Node: c.node})
		c.fill(b, s, svc, key)
	}
	return key, b
}

// of returns the clusters of a service that this node's pods have used.
func (c *clusters) of(service mesh.Name) map[clusterKey]*balance.Cluster {
	c.mu.Lock()
	defer c.mu.Unlock()
	found := map[clusterKey]*balance.Cluster{}
	for key, b := range c.m {
		if key.service == service {
			found[key] = b
		}
	}
	return found
}

// drop forgets the clusters of a service that nobody uses any more.
func (c *clusters) drop(service mesh.Name) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key := range c.m {
		if key.service == service {
			delete(c.m, key)
		}
	}
}

// update gives every cluster what the snapshot says. A service that is gone leaves an empty cluster behind it, so
// that connections which still use it find no endpoint; the cluster itself is forgotten, and its service returned.
func (c *clusters) update(s *mesh.Snapshot) (gone []mesh.Name) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, b := range c.m {
		svc := s.Service(key.service)
		if svc == nil {
			b.Set(nil)
			delete(c.m, key)
			gone = append(gone, key.service)
			continue
		}
		c.fill(b, s, svc, key)
	}
	return gone
}

var preferences = map[mesh.Distribution]balance.Preference{
	mesh.PreferSameZone: balance.PreferZone, mesh.PreferSameNode: balance.PreferNode,
}

func (c *clusters) fill(b *balance.Cluster, s *mesh.Snapshot, svc *mesh.Service, key clusterKey) {
	p := balance.Policy{Affinity: time.Duration(svc.Affinity) * time.Second, LocalOnly: svc.LocalOnly, Prefer: preferences[svc.Distribution]}
	if n := s.Node(c.node); n != nil {
		p.Zone = n.Zone
	}
	b.SetPolicy(p)
	from := s.Endpoints(svc.Name).Of(key.port)
	eps := make([]balance.Endpoint, 0, len(from))
	for _, e := range from {
		if e.Addr.Addr().Unmap().Is4() != key.v4 {
			continue
		}
		be := balance.Endpoint{Addr: e.Addr, Node: e.Node, Zone: e.Zone, Zones: e.Zones, Ready: e.Ready, Serving: e.Serving}
		if p := s.PodByAddr(e.Addr.Addr()); p != nil {
			be.Pod, be.Mesh, be.Account, be.Node = p, p.InMesh, p.Account, p.Node
		}
		eps = append(eps, be)
	}
	b.Set(eps)
}
