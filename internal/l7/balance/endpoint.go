package balance

import (
	"math"
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
)

// Endpoint is one address that serves a port. Apart from its measurements it never changes.
type Endpoint struct {
	Addr    netip.AddrPort
	Pod     *mesh.Pod // nil for an address outside the table
	Mesh    bool      // speaks mutual TLS to us
	Account mesh.Account
	Node    string
	Ready   bool
	Serving bool // terminating, but still answers
	load    *load
}

// Single is an endpoint of no cluster: an address that is dialled as it is.
func Single(e Endpoint) *Endpoint {
	e.load = newLoad(time.Now, unknown)
	return &e
}

// Start counts a request, or a connection, as in flight. Observe ends it.
func (e *Endpoint) Start() { e.load.inFlight.Add(1) }

// Observe ends what Start began, and tells how long it took and whether the endpoint failed.
func (e *Endpoint) Observe(latency time.Duration, err error) {
	e.load.inFlight.Add(-1)
	if err != nil {
		latency = max(latency, penalty)
	}
	e.load.observe(latency)
}

// Drop ends what Start began without a measurement: a tunnel's length says nothing about its endpoint.
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
}

func newLoad(now func() time.Time, start time.Duration) *load {
	l := &load{now: now, epoch: now()}
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

// observe moves the average: up at once, down slowly. Two at the same moment may lose one measurement, no more.
func (l *load) observe(latency time.Duration) {
	now := l.now()
	w := l.fade(now)
	was := math.Float64frombits(l.ewma.Load())
	is := latency.Seconds()
	if is < was*w {
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
