// Package balance chooses endpoints: by power of two choices over peak EWMA latency times requests in flight or over
// requests in flight alone, in turn, or by a consistent hash. docs/BALANCING.md has the rules and the defaults.
//
// Promises:
//  1. Pick takes no lock, unless the service has session affinity, and allocates nothing. Set never makes Pick wait.
//  2. An endpoint that stays across Set and SetPolicy keeps its measurements, its requests in flight and the state of its
//     breaker; one that comes new starts as good as the best of the others, so that it is tried at once, and is flooded
//     no more than that one.
//  3. Endpoints that terminate but still serve are used only when nothing is ready.
//  4. The same clock and the same random numbers give the same choices.
//  5. An endpoint whose breaker is open gets one request at a time, when its probation ends, and no other. When every
//     endpoint is out, Pick fails at once.
package balance

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"fairlead.io/fairlead/internal/mesh"
)

var (
	// ErrNone is returned by Pick if there is no endpoint to choose from.
	ErrNone = errors.New("no endpoint is ready")
	// ErrNoneLocal is returned by Pick if there are endpoints, but none on this node, and only those are allowed.
	ErrNoneLocal = errors.New("no endpoint is ready on this node")
	// ErrTried is returned by Pick if every endpoint is on the exclusion list.
	ErrTried = errors.New("every endpoint was tried")
	// ErrOverloaded is returned by Pick if endpoints are left, and each is at its limit of requests in flight or out.
	ErrOverloaded = errors.New("every endpoint is at its limit")
	// ErrBroken is returned by Pick if the breaker of every endpoint that is left is open.
	ErrBroken = errors.New("every endpoint fails and is on probation")
)

// Config of a Cluster. The zero value is useful.
type Config struct {
	Node string           // the node of every caller
	Now  func() time.Time // time.Now
	Rand func(n int) int  // rand.IntN
}

// Preference is which endpoints come first.
type Preference uint8

// The preferences. PreferNode falls back to the zone.
const (
	PreferNone Preference = iota
	PreferZone
	PreferNode
)

// Policy is what a Service, and what is attached to it, says about the choice.
type Policy struct {
	Affinity  time.Duration // sessionAffinity: ClientIP; 0 is none
	LocalOnly bool          // internalTrafficPolicy: Local
	Zone      string        // of every caller; "" prefers no zone
	Prefer    Preference    // trafficDistribution
	Balance   *mesh.Balance // nil is PeakEWMA
	Breaker   *mesh.Breaker // nil is none
}

func (p Policy) equal(q Policy) bool { return reflect.DeepEqual(p, q) }

func (p Policy) balance() mesh.Balance {
	if p.Balance == nil {
		return mesh.Balance{}
	}
	return *p.Balance
}

// Choice is what is known of one choice.
type Choice struct {
	Client  netip.Addr       // for session affinity, and for a hash of the address
	Exclude []netip.AddrPort // already tried
	Hash    uint64           // of the header or the cookie, if Hashed
	Hashed  bool
	Peek    bool // only to look: takes no probe's place, and no turn
}

// Cluster is the live endpoints of one service port.
type Cluster struct {
	cfg    Config
	set    atomic.Pointer[set]
	sticky sticky
	turn   [tiers]atomic.Uint64 // round robin's, one for each tier

	mu     sync.Mutex // protects the making of a new set
	policy Policy
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
	for i := range c.turn {
		c.turn[i].Store(uint64(cfg.Rand(1 << 16))) // many nodes do not begin with the same endpoint
	}
	return c
}

// SetPolicy changes the policy. Doing it twice does no harm.
func (c *Cluster) SetPolicy(p Policy) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.policy.equal(p) {
		return
	}
	c.policy = p
	for _, e := range c.set.Load().all {
		e.load.breaker.set(p.Breaker)
	}
	c.store(c.set.Load().all)
}

// Set replaces the endpoints. Of several with the same address the last one counts.
func (c *Cluster) Set(endpoints []Endpoint) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.set.Load()
	now := c.cfg.Now()
	start := old.best(now)
	all := make([]*Endpoint, 0, len(endpoints))
	seen := make(map[netip.AddrPort]int, len(endpoints))
	for i := range endpoints {
		e := endpoints[i]
		e.load = nil
		if was := old.byAddr[e.Addr]; was != nil && was.Account == e.Account {
			e.load = was.load
			if e.Ready && !was.Ready {
				e.load.warm(now)
			}
		}
		if e.load == nil {
			e.load = newLoad(c.cfg, start)
			e.load.breaker.set(c.policy.Breaker)
			if len(old.all) > 0 && e.Ready {
				e.load.warm(now)
			}
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
	if addr, ok := c.sticky.get(ch.Client, now); ok {
		if e := s.byAddr[addr]; e != nil && slices.Contains(s.usable, e) {
			d := draw{c: c, s: s, ch: &ch, now: now}
			if e = d.take(e); e != nil {
				c.sticky.put(ch.Client, addr, now.Add(s.policy.Affinity))
				return e, nil
			}
		}
	}
	e, err := c.pick(s, ch)
	if err == nil && !ch.Peek {
		c.sticky.put(ch.Client, e.Addr, now.Add(s.policy.Affinity))
	}
	return e, err
}
