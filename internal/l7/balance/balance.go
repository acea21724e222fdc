// Package balance chooses endpoints: power of two choices over peak EWMA latency times requests in flight.
//
// Promises:
//  1. Pick takes no lock, unless the service has session affinity. Set never makes Pick wait.
//  2. An endpoint that stays across Set keeps its measurements and its requests in flight; one that comes new starts
//     as good as the best of the others, so that it is tried at once, and is flooded no more than that one.
//  3. Endpoints that terminate but still serve are used only when nothing is ready.
//  4. The same clock and the same random numbers give the same choices.
package balance

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

var (
	// ErrNone is returned by Pick if there is no endpoint to choose from.
	ErrNone = errors.New("no endpoint is ready")
	// ErrNoneLocal is returned by Pick if there are endpoints, but none on this node, and only those are allowed.
	ErrNoneLocal = errors.New("no endpoint is ready on this node")
	// ErrTried is returned by Pick if every endpoint is on the exclusion list.
	ErrTried = errors.New("every endpoint was tried")
)

// Config of a Cluster. The zero value is useful.
type Config struct {
	Node string           // the node of every caller
	Now  func() time.Time // time.Now
	Rand func(n int) int  // rand.IntN
}

// Policy is what a Service says about the choice.
type Policy struct {
	Affinity  time.Duration // sessionAffinity: ClientIP; 0 is none
	LocalOnly bool          // internalTrafficPolicy: Local
}

// Choice is what is known of one choice.
type Choice struct {
	Client  netip.Addr       // for session affinity
	Exclude []netip.AddrPort // already tried
}

// Cluster is the live endpoints of one service port.
type Cluster struct {
	cfg    Config
	set    atomic.Pointer[set]
	sticky sticky

	mu     sync.Mutex // protects the making of a new set
	policy Policy
}

// set never changes.
type set struct {
	policy Policy
	all    []*Endpoint
	usable []*Endpoint // what Pick chooses from
	byAddr map[netip.AddrPort]*Endpoint
}

// New returns an empty cluster.
func New(cfg Config) *Cluster {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.IntN
	}
	c := &Cluster{cfg: cfg}
	c.set.Store(&set{})
	return c
}

// SetPolicy changes the policy. Doing it twice does no harm.
func (c *Cluster) SetPolicy(p Policy) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p == c.policy {
		return
	}
	c.policy = p
	c.store(c.set.Load().all)
}

// Set replaces the endpoints. Of several with the same address the last one counts.
func (c *Cluster) Set(endpoints []Endpoint) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.set.Load()
	start := old.best(c.cfg.Now())
	all := make([]*Endpoint, 0, len(endpoints))
	seen := make(map[netip.AddrPort]int, len(endpoints))
	for i := range endpoints {
		e := endpoints[i]
		e.load = nil
		if was := old.byAddr[e.Addr]; was != nil && was.Account == e.Account {
			e.load = was.load
		}
		if e.load == nil {
			e.load = newLoad(c.cfg.Now, start)
		}
		if at, ok := seen[e.Addr]; ok {
			all[at] = &e
			continue
		}
		seen[e.Addr] = len(all)
		all = append(all, &e)
	}
	c.store(all)
}

func (c *Cluster) store(all []*Endpoint) {
	s := &set{policy: c.policy, all: all, byAddr: make(map[netip.AddrPort]*Endpoint, len(all))}
	here := func(e *Endpoint) bool { return !c.policy.LocalOnly || e.Node == c.cfg.Node }
	for _, e := range all {
		s.byAddr[e.Addr] = e
		if e.Ready && here(e) {
			s.usable = append(s.usable, e)
		}
	}
	if len(s.usable) == 0 {
		for _, e := range all {
			if e.Serving && here(e) {
				s.usable = append(s.usable, e)
			}
		}
	}
	c.set.Store(s)
}

// Endpoints returns every endpoint, usable or not. The slice is not to be changed.
func (c *Cluster) Endpoints() []*Endpoint { return c.set.Load().all }

// Pick chooses. Returns ErrNone, ErrNoneLocal or ErrTried if there is nothing to choose.
func (c *Cluster) Pick(ch Choice) (*Endpoint, error) {
	s := c.set.Load()
	if len(s.usable) == 0 {
		if s.policy.LocalOnly && len(s.all) > 0 {
			return nil, ErrNoneLocal
		}
		return nil, ErrNone
	}
	if s.policy.Affinity > 0 && ch.Client.IsValid() {
		return c.pickSticky(s, ch)
	}
	return c.pick(s, ch)
}

func (c *Cluster) pickSticky(s *set, ch Choice) (*Endpoint, error) {
	now := c.cfg.Now()
	if addr, ok := c.sticky.get(ch.Client, now); ok && !slices.Contains(ch.Exclude, addr) {
		if e := s.byAddr[addr]; e != nil && slices.Contains(s.usable, e) {
			c.sticky.put(ch.Client, addr, now.Add(s.policy.Affinity))
			return e, nil
		}
	}
	e, err := c.pick(s, ch)
	if err == nil {
		c.sticky.put(ch.Client, e.Addr, now.Add(s.policy.Affinity))
	}
	return e, err
}

func (c *Cluster) pick(s *set, ch Choice) (*Endpoint, error) {
	from := s.usable
	if len(ch.Exclude) > 0 {
		from = make([]*Endpoint, 0, len(s.usable))
		for _, e := range s.usable {
			if !slices.Contains(ch.Exclude, e.Addr) {
				from = append(from, e)
			}
		}
	}
	switch len(from) {
	case 0:
		return nil, ErrTried
	case 1:
		return from[0], nil
	}
	i := c.cfg.Rand(len(from))
	j := c.cfg.Rand(len(from) - 1)
	if j >= i {
		j++
	}
	now := c.cfg.Now()
	if from[j].load.cost(now) < from[i].load.cost(now) {
		return from[j], nil
	}
	return from[i], nil
}
