package mesh

import (
	"maps"
	"net/netip"
)

// Delta is a change of the world. Removals are applied before additions.
type Delta struct {
	Reset         bool // forget everything first: the delta is the whole state
	Version       uint64
	Pods          []*Pod
	GonePods      []string // UIDs
	Nodes         []*Node
	GoneNodes     []string
	Services      []*Service
	GoneServices  []Name
	Endpoints     []*Endpoints
	GoneEndpoints []Name
	AllEndpoints  bool // with Reset: the endpoints of all services are there

	Routes             []*Routes // of the services whose endpoints are there
	GoneRoutes         []Name
	Authorizations     []*Authorization
	GoneAuthorizations []Name
}

// Snapshot is the world at one moment, as one node needs it. The zero value is the empty world.
type Snapshot struct {
	version   uint64
	pods      map[string]*Pod
	byAddr    map[netip.Addr]*Pod
	nodes     map[string]*Node
	byNode    map[netip.Addr]*Node
	services  map[Name]*Service
	byVIP     map[netip.Addr]*Service
	byPort    map[uint16]*Service // NodePorts
	endpoints table[Name, *Endpoints]
	backends  table[netip.AddrPort, []backend]
	all       bool // the endpoints of all services are known
	routes    table[Name, *Routes]
	policies  map[Name]*Authorization
}

// Version is the version of the last delta applied.
func (s *Snapshot) Version() uint64 { return s.version }

// PodByAddr returns the pod that owns an address; never one of the host's network.
func (s *Snapshot) PodByAddr(a netip.Addr) *Pod { return s.byAddr[a.Unmap()] }

// Pod returns a pod by its UID.
func (s *Snapshot) Pod(uid string) *Pod { return s.pods[uid] }

// Node returns a node by name.
func (s *Snapshot) Node(name string) *Node { return s.nodes[name] }

// Service returns a service by name.
func (s *Snapshot) Service(n Name) *Service { return s.services[n] }

// Endpoints returns a service's endpoints, or nil if this node has none of it (yet).
func (s *Snapshot) Endpoints(n Name) *Endpoints {
	e, _ := s.endpoints.get(n)
	return e
}

// Routes returns the rules for a service's traffic, or nil if there are none. They come with its endpoints.
func (s *Snapshot) Routes(n Name) *Routes {
	r, _ := s.routes.get(n)
	return r
}

// Authorization returns a policy by name.
func (s *Snapshot) Authorization(n Name) *Authorization { return s.policies[n] }

// Authorizations returns all policies. The map is not to be changed, and is the same as long as none of them has changed.
func (s *Snapshot) Authorizations() map[Name]*Authorization { return s.policies }

// ServiceByAddr returns the service and port that an address stands for, in any of its forms:
// ClusterIP, external IP, load balancer address, or a node's address with a NodePort.
func (s *Snapshot) ServiceByAddr(a netip.AddrPort) (*Service, Port, bool) {
	addr := a.Addr().Unmap()
	if svc := s.byVIP[addr]; svc != nil {
		if p, ok := svc.Port(a.Port()); ok {
			return svc, p, true
		}
		return svc, Port{}, false
	}
	if s.byNode[addr] == nil {
		return nil, Port{}, false
	}
	svc := s.byPort[a.Port()]
	if svc == nil {
		return nil, Port{}, false
	}
	for _, p := range svc.Ports {
		if p.NodePort == a.Port() {
			return svc, p, true
		}
	}
	return nil, Port{}, false
}

// Counts tells the number of pods, services and endpoints objects.
func (s *Snapshot) Counts() (pods, services, endpoints int) {
	return len(s.pods), len(s.services), s.endpoints.len
}

// Apply returns the snapshot after a delta. The receiver stays as it was.
func (s *Snapshot) Apply(d Delta) *Snapshot {
	if d.Reset {
		s = &Snapshot{all: d.AllEndpoints}
	}
	n := &Snapshot{version: d.Version, all: s.all}
	n.applyPods(s, d)
	n.applyNodes(s, d)
	n.applyServices(s, d)
	n.applyEndpoints(s, d)
	n.applyRoutes(s, d)
	n.applyAuthorizations(s, d)
	return n
}

func (n *Snapshot) applyPods(s *Snapshot, d Delta) {
	n.pods, n.byAddr = s.pods, s.byAddr
	if len(d.Pods)+len(d.GonePods) == 0 && n.pods != nil {
		return
	}
	n.pods, n.byAddr = cloned(s.pods), cloned(s.byAddr)
	forget := func(uid string) {
		old := n.pods[uid]
		if old == nil {
			return
		}
		for _, a := range old.Addrs {
			if n.byAddr[a] == old {
				delete(n.byAddr, a)
			}
		}
		delete(n.pods, uid)
	}
	for _, uid := range d.GonePods {
		forget(uid)
	}
	for _, p := range d.Pods {
		forget(p.UID)
		n.pods[p.UID] = p
		if p.HostNet {
			continue
		}
		for _, a := range p.Addrs {
			n.byAddr[a] = p
		}
	}
}

func (n *Snapshot) applyNodes(s *Snapshot, d Delta) {
	n.nodes, n.byNode = s.nodes, s.byNode
	if len(d.Nodes)+len(d.GoneNodes) == 0 && n.nodes != nil {
		return
	}
	n.nodes, n.byNode = cloned(s.nodes), map[netip.Addr]*Node{}
	for _, k := range d.GoneNodes {
		delete(n.nodes, k)
	}
	for _, x := range d.Nodes {
		n.nodes[x.Name] = x
	}
	for _, x := range n.nodes {
		for _, a := range x.Addrs {
			n.byNode[a] = x
		}
	}
}

func (n *Snapshot) applyServices(s *Snapshot, d Delta) {
	n.services, n.byVIP, n.byPort = s.services, s.byVIP, s.byPort
	if len(d.Services)+len(d.GoneServices) == 0 && n.services != nil {
		return
	}
	n.services, n.byVIP, n.byPort = cloned(s.services), map[netip.Addr]*Service{}, map[uint16]*Service{}
	for _, k := range d.GoneServices {
		delete(n.services, k)
	}
	for _, x := range d.Services {
		n.services[x.Name] = x
	}
	for _, x := range n.services {
		for _, a := range x.Addrs {
			n.byVIP[a] = x
		}
		for _, p := range x.Ports {
			if p.NodePort != 0 {
				n.byPort[p.NodePort] = x
			}
		}
	}
}

func (n *Snapshot) applyRoutes(s *Snapshot, d Delta) {
	n.routes = s.routes
	if len(d.Routes)+len(d.GoneRoutes) == 0 {
		return
	}
	edit := s.routes.edit()
	for _, k := range d.GoneRoutes {
		edit.delete(k)
	}
	for _, x := range d.Routes {
		edit.set(x.Service, x)
	}
	n.routes = edit.table
}

func (n *Snapshot) applyAuthorizations(s *Snapshot, d Delta) {
	n.policies = s.policies
	if len(d.Authorizations)+len(d.GoneAuthorizations) == 0 && n.policies != nil {
		return
	}
	n.policies = cloned(s.policies)
	for _, k := range d.GoneAuthorizations {
		delete(n.policies, k)
	}
	for _, x := range d.Authorizations {
		n.policies[x.Name] = x
	}
}

func cloned[K comparable, V any](m map[K]V) map[K]V {
	if m == nil {
		return map[K]V{}
	}
	return maps.Clone(m)
}
