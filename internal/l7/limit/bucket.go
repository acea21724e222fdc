package limit

import (
	"hash/maphash"
	"sync/atomic"
	"time"
)

// skew is more than the clocks of two loops can differ by, in nanoseconds.
const skew = int64(time.Second)

// bucket is the state of one rate by GCRA: the time, in nanoseconds since the limiter's start, up to which it has been used. It is as
// new when that time has come.
type bucket struct{ full atomic.Int64 }

// take uses the bucket for one more, or returns how long that has to wait.
func (b *bucket) take(r rate, now int64) (wait int64) {
	for {
		full := b.full.Load()
		from := max(full, now)
		if most := now + r.ahead + r.every; from > most+skew { // left by a slower rate, before it was changed
			b.full.CompareAndSwap(full, most)
			continue
		}
		if from-now > r.ahead {
			return from - now - r.ahead
		}
		if b.full.CompareAndSwap(full, from+r.every) {
			return 0
		}
	}
}

// giveBack undoes a take.
func (b *bucket) giveBack(r rate) { b.full.Add(-r.every) }

// raise makes a bucket at least as full as that.
func (b *bucket) raise(to int64) {
	for {
		full := b.full.Load()
		if full >= to || b.full.CompareAndSwap(full, to) {
			return
		}
	}
}

const (
	sets = 64 // a power of two
	ways = 8
)

// table has the buckets of the identities that are in use: sets*ways of them at the most, found by hash. The seed is our own, so that
// nobody can choose identities that fall together.
type table struct {
	seed maphash.Seed
	sets [sets]set
}

type set struct {
	ways [ways]way
	rest bucket // of all that find no room
}

type way struct {
	id atomic.Uint64 // the hash of an identity; 0 is nobody's
	bucket
}

func newTable() *table { return &table{seed: maphash.MakeSeed()} }

// bucket finds an identity's bucket, or makes one in the place of one that is as new.
func (t *table) bucket(identity string, now int64) *bucket {
	id := max(maphash.String(t.seed, identity), 1)
	return t.sets[id>>32%sets].find(id, now)
}

func (s *set) find(id uint64, now int64) *bucket {
	for range ways { // others may be faster to the place, but not for ever
		var free *way
		var was uint64
		for i := range s.ways {
			w := &s.ways[i]
			has := w.id.Load()
			if has == id {
				return &w.bucket
			}
			if free == nil && (has == 0 || w.full.Load() <= now) {
				free, was = w, has
			}
		}
		if free == nil {
			break
		}
		if free.id.CompareAndSwap(was, id) {
			free.raise(s.rest.full.Load()) // what it may have used there
			return &free.bucket
		}
	}
	return &s.rest
}
