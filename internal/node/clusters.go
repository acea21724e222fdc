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
	how     manner // the zero value is the service's own
}

// manner is how a rule's policy wants endpoints to be chosen, where the service's own does not say the same.
type manner struct {
	balance          mesh.Balance
	breaker          mesh.Breaker
	balances, breaks bool // which of the two it is about
}

// mannerOf is what a rule's policy says beside a service's own.
func mannerOf(rule, own *mesh.Traffic) (m manner) {
	if rule == nil {
		return m
	}
	if own == nil {
		own = &mesh.Traffic{}
	}
	if b := rule.Balance; b != nil && (own.Balance == nil || *b != *own.Balance) {
		m.balance, m.balances = *b, true
	}
	if b := rule.Breaker; b != nil && (own.Breaker == nil || *b != *own.Breaker) {
		m.breaker, m.breaks = *b, true
	}
	return m
}

// over is what holds: the manner's own, and of the rest what the service's policy says.
func (m *manner) over(own *mesh.Traffic) (balance *mesh.Balance, breaker *mesh.Breaker) {
	if own != nil {
		balance, breaker = own.Balance, own.Breaker
	}
	if m.balances {
		balance = &m.balance
	}
	if m.breaks {
		breaker = &m.breaker
	}
	return balance, breaker
}

// ownPolicy is what is said of a service's port itself.
func ownPolicy(s *mesh.Snapshot, svc *mesh.Service, port string) *mesh.Traffic {
	for _, p := range svc.Ports {
		if row := rowOf(s.Routes(svc.Name), p.Number, ""); p.Name == port && row != nil {
			return row.Policy
		}
	}
	return nil
}

func newClusters(node string) *clusters {
	return &clusters{node: node, m: map[clusterKey]*balance.Cluster{}}
}

// get returns the cluster of a service port, made from the snapshot on first use. Its endpoints are of the family of dst:
// an app need not listen on the other.
func (c *clusters) get(s *mesh.Snapshot, svc *mesh.Service, port mesh.Port, dst netip.Addr) *balance.Cluster {
	_, b := c.getFor(s, svc, port, dst, nil)
	return b
}

// getFor is get for a rule whose policy says how endpoints are chosen.
func (c *clusters) getFor(s *mesh.Snapshot, svc *mesh.Service, port mesh.Port, dst netip.Addr, policy *mesh.Traffic) (clusterKey, *balance.Cluster) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key, b := c.look(s, svc, port, dst, policy)
	c.m[key] = b
	return key, b
}

// keep forgets the clusters of rules' manners that are not used any more.
func (c *clusters) keep(used map[clusterKey]bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key := range c.m {
		if key.how != (manner{}) && !used[key] {
			delete(c.m, key)
		}
	}
}

// peek is get for one who only looks: what nobody has used is not kept.
func (c *clusters) peek(s *mesh.Snapshot, svc *mesh.Service, port mesh.Port, dst netip.Addr) *balance.Cluster {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, b := c.look(s, svc, port, dst, nil)
	return b
}

// look is called with mu held.
func (c *clusters) look(s *mesh.Snapshot, svc *mesh.Service, port mesh.Port, dst netip.Addr, policy *mesh.Traffic) (clusterKey, *balance.Cluster) {
	key := clusterKey{svc.Name, port.Name, dst.Unmap().Is4(), manner{}}
	if policy != nil {
		key.how = mannerOf(policy, ownPolicy(s, svc, port.Name))
	}
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
	p.Balance, p.Breaker = key.how.over(ownPolicy(s, svc, key.port))
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
