package limit

import (
	"math"
	"sync/atomic"
	"time"

	"fairlead.io/fairlead/internal/mesh"
)

// window is how many seconds of requests a budget looks back on, the one that has begun among them.
const window = 10

// Budget bounds retries: those of a window are no more than a share of its requests, and some a second beside, so that little
// traffic may be tried again too. An upstream that fails altogether gets no more load than that.
type Budget struct {
	ratio             float64
	floor             rate
	start             time.Time
	requests, retries counter
	beside            bucket
}

// NewBudget returns a budget of the ratio and the floor of a policy.
func NewBudget(r *mesh.Retry, now time.Time) *Budget {
	b := &Budget{start: now, floor: newRate(mesh.Rate{PerSecond: r.Floor, Burst: int(math.Ceil(min(max(r.Floor, 1), 1<<30)))})}
	if r.Ratio > 0 {
		b.ratio = r.Ratio
	}
	return b
}

// Request counts a request. Its retries are not counted again.
func (b *Budget) Request(now time.Time) { b.requests.add(b.second(now), 1) }

// Retry takes one retry from the budget, or refuses it.
func (b *Budget) Retry(now time.Time) bool {
	second := b.second(now)
	// Counted before it is asked: loops that ask at once may refuse each other the last one, but never go beyond it.
	b.retries.add(second, 1)
	if float64(b.retries.sum(second)) <= b.ratio*float64(b.requests.sum(second)) {
		return true
	}
	b.retries.add(second, -1)
	return b.floor.limits() && b.beside.take(b.floor, max(int64(now.Sub(b.start)), 0)) == 0
}

func (b *Budget) second(now time.Time) uint32 {
	return uint32(max(now.Sub(b.start), 0) / time.Second)
}

// counter counts by the second: each slot has the second that it is about above 32 bits of a count.
type counter struct{ slots [window]atomic.Uint64 }

func (c *counter) add(second uint32, n int32) {
	slot := &c.slots[second%window]
	for {
		was := slot.Load()
		count := int64(n)
		if uint32(was>>32) == second {
			count += int64(uint32(was))
		} else if int32(uint32(was>>32)-second) > 0 { // a loop whose clock is behind: that second is over
			return
		}
		count = min(max(count, 0), math.MaxUint32)
		if slot.CompareAndSwap(was, uint64(second)<<32|uint64(count)) {
			return
		}
	}
}

// sum is the count of the window that ends with a second.
func (c *counter) sum(second uint32) (n uint64) {
	for i := range c.slots {
		v := c.slots[i].Load()
		if age := second - uint32(v>>32); int32(age) < window { // ahead of a late loop's clock counts too
			n += uint64(uint32(v))
		}
	}
	return n
}
