package balance

import (
	"math"
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"time"

	"fairlead.io/fairlead/internal/mesh"
)

const (
	// memory is how fast a measurement fades: to a third in this time.
	memory = 10 * time.Second
	// penalty is the least latency that a failure counts as: an endpoint that refuses at once must not look fast.
	penalty = time.Second
	// unknown is what an endpoint starts with when there is nothing to compare it with.
	unknown = 5 * time.Millisecond
	// least keeps the requests in flight in the balance when latencies are next to nothing.
	least = 10 * time.Microsecond
	// leastShare, in thousandths, is what a new endpoint gets at the beginning of its slow start.
	leastShare = 100
)

// Endpoint is one address that serves a port. Apart from its measurements it never changes.
type Endpoint struct {
	Addr    netip.AddrPort
	Pod     *mesh.Pod // nil for an address outside the table
	Mesh    bool      // speaks mutual TLS to us
	Account mesh.Account
	Node    string
	Zone    string
	Zones   []string // hints: of the callers that are to use it
	Ready   bool
	Serving bool // terminating, but still answers
	load    *load
	probe   *Endpoint // the same endpoint, as a probe gets it
	probing bool      // this is such a one: what it reports decides about the breaker
}

// Single is an endpoint of no cluster: an address that is dialled as it is.
func Single(e Endpoint) *Endpoint {
	e.load = newLoad(Config{Now: time.Now, Rand: rand.IntN}, unknown)
	return &e
}

// Start counts a request, or a connection, as in flight. Observe ends it.
func (e *Endpoint) Start() { e.load.inFlight.Add(1) }

// Observe ends what Start began, and tells how long it took and whether the endpoint failed, without an answer.
func (e *Endpoint) Observe(latency time.Duration, err error) {
	if err != nil {
		e.Report(latency, Unreachable)
		return
	}
	e.Report(latency, Succeeded)
}

// Report ends what Start began, and tells how long it took and what came of it.
func (e *Endpoint) Report(latency time.Duration, o Outcome) {
	e.load.inFlight.Add(-1)
	switch o {
	case Succeeded:
		e.load.observe(latency, true)
	case Limited, Failed:
		e.load.observe(max(latency, penalty), false)
	default:
		e.load.observe(max(latency, penalty), true)
	}
	e.load.breaker.report(e.load.since(), o.breaks(), e.probing)
}

// Reached tells that a connection stands, and ends nothing: all that can be known of an endpoint whose protocol is opaque.
func (e *Endpoint) Reached() { e.load.breaker.report(e.load.since(), false, e.probing) }

// State is the breaker's.
func (e *Endpoint) State() State { return e.load.breaker.current() }

// Trips is how often the breaker has opened, failed probes not counted.
func (e *Endpoint) Trips() uint64 { return e.load.breaker.trips.Load() }

// Drop ends what Start began without a measurement: a tunnel's length says nothing about its endpoint. A probe that is
// dropped has decided nothing; the next may go when its time is over.
func (e *Endpoint) Drop() { e.load.inFlight.Add(-1) }

// InFlight is how many requests have begun and not ended.
func (e *Endpoint) InFlight() int64 { return e.load.inFlight.Load() }

// Latency is the average of what was measured, as it has faded until now.
func (e *Endpoint) Latency() time.Duration {
	return time.Duration(e.load.latency(e.load.now()) * float64(time.Second))
}

// load is what is measured. It is shared by all Endpoint values of one address.
type load struct {
	now      func() time.Time
	epoch    time.Time
	inFlight atomic.Int64
	ewma     atomic.Uint64 // float64 bits, seconds
	stamp    atomic.Int64  // nanoseconds since epoch of the last measurement
	born     atomic.Int64  // nanoseconds since epoch when its share began to grow, and one; 0 is never
	breaker  breaker
}

func newLoad(cfg Config, start time.Duration) *load {
	l := &load{now: cfg.Now, epoch: cfg.Now()}
	l.breaker.rand = cfg.Rand
	l.ewma.Store(math.Float64bits(start.Seconds()))
	return l
}

// latency is the average as it has faded until now.
func (l *load) latency(now time.Time) float64 {
	return math.Float64frombits(l.ewma.Load()) * l.fade(now)
}

func (l *load) fade(now time.Time) float64 {
	past := now.Sub(l.epoch) - time.Duration(l.stamp.Load())
	if past <= 0 {
		return 1
	}
	return math.Exp(-past.Seconds() / memory.Seconds())
}

func (l *load) cost(now time.Time) float64 {
	return max(l.latency(now), least.Seconds()) * float64(l.inFlight.Load()+1)
}

func (l *load) since() time.Duration { return l.now().Sub(l.epoch) }

// warm begins the slow start.
func (l *load) warm(now time.Time) { l.born.Store(int64(now.Sub(l.epoch)) + 1) }

// share is how much of its part an endpoint gets in its slow start, in thousandths.
func (l *load) share(now time.Time, over time.Duration) int {
	born := l.born.Load()
	if born == 0 || over <= 0 {
		return 1000
	}
	age := now.Sub(l.epoch) - time.Duration(born-1)
	if age >= over {
		return 1000
	}
	return max(leastShare, int(1000*age.Seconds()/over.Seconds()))
}

// observe moves the average: up at once if it is a peak, else slowly, so that a share of bad answers weighs as a share.
// Two at the same moment may lose one measurement, no more.
func (l *load) observe(latency time.Duration, peak bool) {
	now := l.now()
	w := l.fade(now)
	was := math.Float64frombits(l.ewma.Load())
	is := latency.Seconds()
	if !peak || is < was*w {
		is = was*w + is*(1-w)
	}
	l.ewma.Store(math.Float64bits(is))
	l.stamp.Store(int64(now.Sub(l.epoch)))
}

// best is what a new endpoint starts with.
func (s *set) best(now time.Time) time.Duration {
	if len(s.all) == 0 {
		return unknown
	}
	best := math.Inf(1)
	for _, e := range s.all {
		best = min(best, e.load.latency(now))
	}
	return time.Duration(best * float64(time.Second))
}
