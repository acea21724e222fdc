package balance

import (
	"slices"
	"time"

	"fairlead.io/fairlead/internal/mesh"
)

const (
	// busy is how many requests in flight an endpoint of the own zone has, at least, before another zone's is looked at,
	busy = 16
	// farther is how many times as many those must be as the other's.
	farther = 4
	// strides bounds the walk along the ring to an endpoint that can be used.
	strides = 64
)

// draw is one choice on its way.
type draw struct {
	c    *Cluster
	s    *set
	ch   *Choice
	now  time.Time
	full bool // one was passed over because it is at its limit
	out  bool // one was passed over because its breaker is open
}

func (c *Cluster) pick(s *set, ch Choice) (*Endpoint, error) {
	d := draw{c: c, s: s, ch: &ch, now: c.cfg.Now()}
	if hash, ok := d.hash(); ok {
		if e := d.around(hash); e != nil {
			return e, nil
		}
	}
	last := len(s.tiers) - 1
	for i := range last {
		if e := d.from(i, false); e != nil {
			if e = d.take(d.spill(e, i)); e != nil {
				return e, nil
			}
		}
	}
	// An endpoint on probation is taken by one alone: who comes second looks again.
	for range 3 {
		e := d.from(last, true)
		if e == nil {
			break
		}
		if e = d.take(e); e != nil {
			return e, nil
		}
	}
	switch {
	case d.full:
		return nil, ErrOverloaded
	case d.out:
		return nil, ErrBroken
	}
	return nil, ErrTried
}

// from chooses from a tier. Thorough, it finds one that can be used if there is one; else it gives up where two in a row
// cannot, so that the more of a zone fail, the more requests leave it.
func (d *draw) from(tier int, thorough bool) *Endpoint {
	list := d.s.tiers[tier]
	if d.s.balance.Algorithm == mesh.RoundRobin {
		return d.next(list, tier, thorough)
	}
	i := d.one(list, -1, thorough)
	j := d.one(list, i, thorough && i >= 0)
	switch {
	case i < 0 && j < 0:
		return nil
	case i < 0:
		return list[j]
	case j < 0:
		return list[i]
	}
	a, b := list[i], list[j]
	// A probe that is due goes first: without it the endpoint would never come back.
	if a.State() != Closed {
		return a
	}
	if b.State() != Closed {
		return b
	}
	if d.s.balance.Algorithm == mesh.LeastRequest {
		if b.InFlight() < a.InFlight() {
			return b
		}
		return a
	}
	if b.load.cost(d.now) < a.load.cost(d.now) {
		return b
	}
	return a
}

// one draws an endpoint other than the one at not. Returns -1 if it cannot be used.
func (d *draw) one(list []*Endpoint, not int, thorough bool) int {
	n := len(list)
	if not >= 0 {
		n--
	}
	if n == 0 {
		return -1
	}
	at := func(i int) int {
		if not >= 0 && i >= not {
			return i + 1
		}
		return i
	}
	var i int
	for range 4 { // an endpoint in its slow start passes on what is too much
		if i = 0; n > 1 {
			i = d.c.cfg.Rand(n)
		}
		if d.warmed(list[at(i)]) {
			break
		}
	}
	if d.can(list[at(i)]) {
		return at(i)
	}
	if thorough {
		// From a new start, so that the neighbour of one that is out does not get its part as well.
		start := d.c.cfg.Rand(n)
		for k := range n {
			if i := at((start + k) % n); d.can(list[i]) {
				return i
			}
		}
	}
	return -1
}

// next takes turns.
func (d *draw) next(list []*Endpoint, tier int, thorough bool) *Endpoint {
	n := uint64(len(list))
	tries := n
	if !thorough {
		tries = min(n, 2)
	}
	var fallback *Endpoint
	for range tries {
		turn := d.c.turn[tier].Load() + 1
		if !d.ch.Peek {
			turn = d.c.turn[tier].Add(1)
		}
		e := list[turn%n]
		if !d.can(e) {
			if d.ch.Peek {
				return d.any(list)
			}
			continue
		}
		if d.warmed(e) || d.ch.Peek {
			return e
		}
		fallback = e
	}
	if fallback == nil && thorough {
		return d.any(list) // others have taken turns meanwhile
	}
	return fallback
}

func (d *draw) any(list []*Endpoint) *Endpoint {
	for _, e := range list {
		if d.can(e) {
			return e
		}
	}
	return nil
}

// spill returns the endpoint of the tier, or one of the next tier if it is so busy that the other does better.
func (d *draw) spill(e *Endpoint, tier int) *Endpoint {
	mine := e.InFlight()
	if mine < busy || e.State() != Closed {
		return e
	}
	next := d.s.tiers[tier+1]
	for range 3 {
		other := next[d.c.cfg.Rand(len(next))]
		if mine > farther*(other.InFlight()+1) && d.can(other) {
			return other
		}
	}
	return e
}

// warmed draws whether an endpoint in its slow start gets its turn.
func (d *draw) warmed(e *Endpoint) bool {
	share := e.load.share(d.now, d.s.balance.SlowStart)
	return share >= 1000 || d.c.cfg.Rand(1000) < share
}

// can tells whether an endpoint can be used.
func (d *draw) can(e *Endpoint) bool {
	if len(d.ch.Exclude) > 0 && slices.Contains(d.ch.Exclude, e.Addr) {
		return false
	}
	if b := &e.load.breaker; b.until.Load() != 0 && !b.due(d.now.Sub(e.load.epoch)) {
		d.out = true
		return false
	}
	if d.s.limit > 0 && e.InFlight() >= d.s.limit {
		d.full = true
		return false
	}
	return true
}

// take makes the choice final. Returns nil if the endpoint cannot be used any more.
func (d *draw) take(e *Endpoint) *Endpoint {
	if !d.can(e) {
		return nil
	}
	b := &e.load.breaker
	if d.ch.Peek || b.until.Load() == 0 {
		return e
	}
	if b.claim(d.now.Sub(e.load.epoch)) {
		return e.probe
	}
	if b.until.Load() == 0 { // closed meanwhile
		return e
	}
	d.out = true
	return nil
}
