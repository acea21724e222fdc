package balance

import (
	"sync"
	"sync/atomic"
	"time"

	"fairlead.io/fairlead/internal/mesh"
)

// State of an endpoint's breaker.
type State uint8

// The states.
const (
	Closed  State = iota // in the choice
	Open                 // out of it
	Probing              // out of it, but for the one request that is on its way
)

func (s State) String() string { return [...]string{"closed", "open", "probing"}[s] }

// What a Breaker means that leaves something out.
const (
	defaultMin      = time.Second
	defaultMax      = time.Minute
	defaultWindow   = 10 * time.Second
	defaultRequests = 5
)

// parts of a window: what is older than the window leaves it in as many steps.
const parts = 10

// breaker takes an endpoint out of the choice. Times are since the epoch of its load.
type breaker struct {
	rand   func(int) int
	policy atomic.Pointer[mesh.Breaker]
	// until is 0 when closed; else when the next probe may go, with the last bit set while a probe is on its way.
	until atomic.Int64
	trips atomic.Uint64
	// penalty is the last probation without its jitter; written with mu held.
	penalty atomic.Int64

	mu     sync.Mutex // protects what follows; Pick does not need it
	row    int        // failures in a row
	window [parts]part
}

type part struct {
	at         int64 // number of the part, counted from the epoch
	all, right int
}

// set changes the policy. A state that there is stays, unless there is no policy any more.
func (b *breaker) set(p *mesh.Breaker) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.policy.Store(p)
	if p == nil || p.Consecutive <= 0 && p.SuccessRate <= 0 {
		b.close()
	}
}

func (b *breaker) current() State {
	switch v := b.until.Load(); {
	case v == 0:
		return Closed
	case v&1 == 0:
		return Open
	}
	return Probing
}

// due tells whether a probe may go.
func (b *breaker) due(now time.Duration) bool { return int64(now) >= b.until.Load() }

// claim makes the caller's request the probe. One that is not heard of for as long as its probation was is given up.
func (b *breaker) claim(now time.Duration) bool {
	v := b.until.Load()
	if v == 0 || int64(now) < v {
		return false
	}
	return b.until.CompareAndSwap(v, (int64(now)+b.penalty.Load())|1)
}

func bounds(p *mesh.Breaker) (least, most time.Duration) {
	least, most = p.Min, p.Max
	if least <= 0 {
		least = defaultMin
	}
	if most <= 0 {
		most = defaultMax
	}
	return least, max(least, most)
}

// report tells of one request.
func (b *breaker) report(now time.Duration, failed, probe bool) {
	if b.policy.Load() == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.policy.Load()
	if p == nil {
		return
	}
	switch state := b.current(); {
	case state == Closed:
		if b.count(p, now, failed) {
			b.trips.Add(1)
			b.open(p, now)
		}
	case state == Probing && probe && failed:
		b.open(p, now)
	case state == Probing && probe:
		b.close()
	}
}

// count tells whether the failure is one too many. Called with mu held.
func (b *breaker) count(p *mesh.Breaker, now time.Duration, failed bool) bool {
	window := p.Window
	if window <= 0 {
		window = defaultWindow
	}
	n := int64(now / max(window/parts, 1))
	here := &b.window[n%parts]
	if here.at != n {
		*here = part{at: n}
	}
	here.all++
	if !failed {
		here.right++
		b.row = 0
		return false
	}
	b.row++
	if p.Consecutive > 0 && b.row >= p.Consecutive {
		return true
	}
	if p.SuccessRate <= 0 {
		return false
	}
	var all, right int
	for _, x := range b.window {
		if x.at > n-parts {
			all, right = all+x.all, right+x.right
		}
	}
	least := p.Requests
	if least <= 0 {
		least = defaultRequests
	}
	return all >= least && float64(right) < p.SuccessRate*float64(all)
}

// open begins the next, longer probation. Called with mu held.
func (b *breaker) open(p *mesh.Breaker, now time.Duration) {
	least, most := bounds(p)
	wait := min(max(2*time.Duration(b.penalty.Load()), least), most)
	b.penalty.Store(int64(wait))
	if jitter := min(max(p.Jitter, 0), 1); jitter > 0 {
		wait += time.Duration(float64(wait) * jitter * float64(b.rand(2001)-1000) / 1000)
	}
	b.until.Store(max(int64(now+wait)&^1, 2))
}

// close forgets what was. Called with mu held.
func (b *breaker) close() {
	b.row, b.window = 0, [parts]part{}
	b.penalty.Store(0)
	b.until.Store(0)
}
