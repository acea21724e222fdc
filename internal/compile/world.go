package compile

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"fairlead.io/fairlead/internal/mesh"
)

// Config configures a World.
type Config struct {
	// SystemNamespaces are never enrolled; kube-system and fairlead-system.
	SystemNamespaces []string
	// Namespace is that of Fairlead: an AuthorizationPolicy for the whole mesh is in force there alone; fairlead-system.
	Namespace string
	// DefaultPolicy is that of pods for which neither they nor their namespaces state one.
	DefaultPolicy mesh.DefaultPolicy
	// History is how many changes are remembered for Delta; 65536.
	History int
}

// World is everything that is known of the cluster, as rows for the nodes.
type World struct {
	system map[string]bool
	home   string // the namespace of Fairlead
	policy mesh.DefaultPolicy
	start  uint64

	mu      sync.RWMutex // protects what follows
	version uint64
	dirty   bool // the batch at hand has changed something
	changed chan struct{}
	history history

	objects  map[Key]Object // good ones, in force
	refused  map[Key]Object // newer versions that are not
	problems map[Key][]Problem
	claims   claims
	index    index

	pods      map[string]*mesh.Pod // rows, by UID
	nodes     map[string]*mesh.Node
	services  map[string]*mesh.Service // by namespace/name
	endpoints map[string]*mesh.Endpoints
	routes    routes
	own       own

	namespaces   map[string]bool
	policies     map[string]stated // by namespace
	namespacesAt uint64
	closed       bool // nobody is enrolled, whatever labels say

	members     map[string]*member // by UID
	byNode      map[string]map[string]*member
	captured    map[string]*report // by node
	enrolmentAt map[string]uint64  // by node
	leaving     map[string]*member
}

// NewWorld makes an empty world. Its versions begin with the time, so that they grow across restarts.
func NewWorld(cfg Config) *World {
	if cfg.SystemNamespaces == nil {
		cfg.SystemNamespaces = []string{"kube-system", "fairlead-system"}
	}
	if cfg.History <= 0 {
		cfg.History = 1 << 16
	}
	start := uint64(time.Now().UnixMicro())
	w := &World{
		system: map[string]bool{}, home: cmp.Or(cfg.Namespace, "fairlead-system"), policy: cfg.DefaultPolicy, start: start, version: start, changed: make(chan struct{}),
		history: history{limit: max(cfg.History, 2), floor: start},
		objects: map[Key]Object{}, refused: map[Key]Object{}, problems: map[Key][]Problem{},
		claims: newClaims(), index: newIndex(),
		pods: map[string]*mesh.Pod{}, nodes: map[string]*mesh.Node{},
		services: map[string]*mesh.Service{}, endpoints: map[string]*mesh.Endpoints{},
		routes:     newRoutes(start, max(cfg.History, 2)),
		own:        newOwn(start, max(cfg.History, 2)),
		namespaces: map[string]bool{}, policies: map[string]stated{}, namespacesAt: start,
		members: map[string]*member{}, byNode: map[string]map[string]*member{}, captured: map[string]*report{},
		enrolmentAt: map[string]uint64{}, leaving: map[string]*member{},
	}
	for _, n := range cfg.SystemNamespaces {
		w.system[n] = true
	}
	return w
}

// Version is the version of the last change.
func (w *World) Version() uint64 {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.version
}

// Changed is closed at the next change. Get it before reading what may change.
func (w *World) Changed() <-chan struct{} {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.changed
}

// next is the version that all changes of the batch at hand bear. The caller holds the mutex.
func (w *World) next() uint64 { return w.version + 1 }

// end ends a batch: if it has changed something, that is the new version. The caller holds the mutex.
func (w *World) end() {
	w.settleOwn()
	if !w.dirty {
		return
	}
	w.dirty = false
	w.version++
	close(w.changed)
	w.changed = make(chan struct{})
}

func (w *World) note(k Kind, key string) {
	w.dirty = true
	w.history.add(change{version: w.next(), kind: k, key: key})
}

// Delta is what changed after a version, endpoints and routes only of the services that are wanted. It is the whole, with
// Reset set, for version 0 and for one too old to tell.
func (w *World) Delta(since uint64, wanted func(mesh.Name) bool) mesh.Delta {
	w.mu.RLock()
	defer w.mu.RUnlock()
	changes, ok := w.history.since(since)
	if !ok || since == 0 {
		return w.whole(wanted)
	}
	d := mesh.Delta{Version: w.version}
	seen := make(map[change]bool, len(changes))
	for _, c := range changes {
		c.version = 0
		if seen[c] {
			continue
		}
		seen[c] = true
		w.tell(&d, c, wanted)
	}
	return d
}

func (w *World) tell(d *mesh.Delta, c change, wanted func(mesh.Name) bool) {
	switch c.kind {
	case Pod:
		tell(w.pods, c.key, &d.Pods, &d.GonePods, c.key)
	case Node:
		tell(w.nodes, c.key, &d.Nodes, &d.GoneNodes, c.key)
	case Service:
		tell(w.services, c.key, &d.Services, &d.GoneServices, splitName(c.key))
	case EndpointSlice:
		if name := splitName(c.key); wanted(name) {
			tell(w.endpoints, c.key, &d.Endpoints, &d.GoneEndpoints, name)
		}
	case AuthorizationPolicy:
		tell(w.own.rows, c.key, &d.Authorizations, &d.GoneAuthorizations, splitName(c.key))
	case routesRow:
		if name := splitName(c.key); wanted(name) {
			tell(w.routes.rows, c.key, &d.Routes, &d.GoneRoutes, name)
		}
	}
}

func tell[V, K any](rows map[string]*V, key string, there *[]*V, gone *[]K, name K) {
	if row := rows[key]; row != nil {
		*there = append(*there, row)
		return
	}
	*gone = append(*gone, name)
}

func (w *World) whole(wanted func(mesh.Name) bool) mesh.Delta {
	d := mesh.Delta{Reset: true, Version: w.version}
	for _, p := range w.pods {
		d.Pods = append(d.Pods, p)
	}
	for _, n := range w.nodes {
		d.Nodes = append(d.Nodes, n)
	}
	for _, s := range w.services {
		d.Services = append(d.Services, s)
	}
	for _, e := range w.endpoints {
		if wanted(e.Service) {
			d.Endpoints = append(d.Endpoints, e)
		}
	}
	for _, a := range w.own.rows {
		d.Authorizations = append(d.Authorizations, a)
	}
	for _, r := range w.routes.rows {
		if wanted(r.Service) {
			d.Routes = append(d.Routes, r)
		}
	}
	return d
}

// Endpoints are a service's; nil if there are none.
func (w *World) Endpoints(n mesh.Name) *mesh.Endpoints {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.endpoints[n.String()]
}

// Routes are the rules for a service's traffic; nil if there are none.
func (w *World) Routes(n mesh.Name) *mesh.Routes {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.routes.rows[n.String()]
}

// Namespaces are all that are known, with whether they are enrolled, and the version of their last change.
func (w *World) Namespaces() (map[string]bool, uint64) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	out := make(map[string]bool, len(w.namespaces))
	for k, v := range w.namespaces {
		out[k] = v && !w.closed
	}
	return out, w.namespacesAt
}

// Problems are all that stand, in order of file and line.
func (w *World) Problems() []Problem {
	w.mu.RLock()
	defer w.mu.RUnlock()
	var out []Problem
	for _, ps := range w.problems {
		out = append(out, ps...)
	}
	out = append(out, w.routeProblems()...)
	out = append(append(out, w.policyProblems()...), w.shadowProblems()...)
	slices.SortFunc(out, func(a, b Problem) int {
		switch {
		case a.less(b):
			return -1
		case b.less(a):
			return 1
		}
		return 0
	})
	return out
}

// Counts are the numbers of rows: pods, those of them in the mesh, services, endpoints objects and nodes.
func (w *World) Counts() (pods, inMesh, services, endpoints, nodes int) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	for _, p := range w.pods {
		if p.InMesh {
			inMesh++
		}
	}
	return len(w.pods), inMesh, len(w.services), len(w.endpoints), len(w.nodes)
}
