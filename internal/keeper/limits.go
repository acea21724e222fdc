package keeper

import (
	"sync"

	"golang.org/x/time/rate"
)

// What a proxy may ask for, per second and at once: far above what it needs, and little enough to keep the keeper at work.
const (
	socketRate, socketBurst = 10_000, 20_000 // sockets of one pod
	signRate, signBurst     = 2_000, 4_000   // signatures of one account
	stateRate, stateBurst   = 1, 5           // saved states
)

// limits is a rate limit for each of a known set of keys, so that asking for others costs no memory.
type limits struct {
	rate  rate.Limit
	burst int

	mu sync.Mutex // protects by
	by map[string]*rate.Limiter
}

func newLimits(r rate.Limit, burst int) *limits {
	return &limits{rate: r, burst: burst, by: map[string]*rate.Limiter{}}
}

// set makes these the keys. Those that stay keep what they have used up.
func (l *limits) set(keys []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	next := make(map[string]*rate.Limiter, len(keys))
	for _, key := range keys {
		next[key] = l.by[key]
		if next[key] == nil {
			next[key] = rate.NewLimiter(l.rate, l.burst)
		}
	}
	l.by = next
}

// of is the limit of a key, nil if it is not known.
func (l *limits) of(key string) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.by[key]
}

// counters count by name. The zero value is ready.
type counters struct {
	mu sync.Mutex // protects by
	by map[string]uint64
}

func (c *counters) add(name string, n uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by == nil {
		c.by = map[string]uint64{}
	}
	c.by[name] += n
}

func (c *counters) each(f func(name string, n uint64)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, n := range c.by {
		f(name, n)
	}
}
