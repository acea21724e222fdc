package balance

import (
	"net/netip"
	"slices"

	"fairlead.io/fairlead/internal/mesh"
)

// tiers is the most there can be: the node, the zone, everywhere.
const tiers = 3

// set never changes.
type set struct {
	policy  Policy
	balance mesh.Balance
	all     []*Endpoint
	usable  []*Endpoint   // what Pick chooses from
	tiers   [][]*Endpoint // parts of usable, the nearest first; the last is usable itself
	limit   int64         // of the requests in flight at each endpoint; 0 is none
	byAddr  map[netip.AddrPort]*Endpoint
	ring    *ring // of the nearest tier, for a consistent hash
}

func (c *Cluster) store(all []*Endpoint) {
	s := &set{policy: c.policy, balance: c.policy.balance(), all: all, byAddr: make(map[netip.AddrPort]*Endpoint, len(all))}
	if b := c.policy.Breaker; b != nil {
		s.limit = int64(max(b.Connections, 0) + max(b.Pending, 0))
	}
	here := func(e *Endpoint) bool { return !c.policy.LocalOnly || e.Node == c.cfg.Node }
	for _, e := range all {
		s.byAddr[e.Addr] = e
		if e.probe == nil {
			probe := *e
			probe.probing = true
			e.probe = &probe
		}
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
	s.tiers = c.nearest(s)
	if s.balance.Algorithm == mesh.ConsistentHash {
		s.ring = newRing(s.tiers[0], c.set.Load().ring)
	}
	c.set.Store(s)
}

// nearest sorts the usable endpoints into tiers.
func (c *Cluster) nearest(s *set) (out [][]*Endpoint) {
	p := s.policy
	add := func(near func(*Endpoint) bool) {
		var tier []*Endpoint
		for _, e := range s.usable {
			if near(e) {
				tier = append(tier, e)
			}
		}
		if len(tier) > 0 && len(tier) < len(s.usable) {
			out = append(out, tier)
		}
	}
	if p.Prefer == PreferNode && c.cfg.Node != "" {
		add(func(e *Endpoint) bool { return e.Node == c.cfg.Node })
	}
	if p.Zone != "" {
		switch {
		case s.hinted():
			add(func(e *Endpoint) bool { return slices.Contains(e.Zones, p.Zone) })
		case p.Prefer != PreferNone || s.balance.Zone:
			if s.suffices(p.Zone) {
				add(func(e *Endpoint) bool { return e.Zone == p.Zone })
			}
		}
	}
	return append(out, s.usable)
}

// hinted tells whether every usable endpoint has hints: some that have none mean that they are not to be followed.
func (s *set) hinted() bool {
	return !slices.ContainsFunc(s.usable, func(e *Endpoint) bool { return len(e.Zones) == 0 })
}

// suffices tells whether at least half of the zone's endpoints are ready, those that terminate left aside.
func (s *set) suffices(zone string) bool {
	var ready, not int
	for _, e := range s.all {
		switch {
		case e.Zone != zone:
		case e.Ready:
			ready++
		case !e.Serving:
			not++
		}
	}
	return ready >= not
}
