package node

import (
	"sync"
	"sync/atomic"
	"time"
)

// seriesIdle is how long a series is kept that nobody adds to.
const seriesIdle = 30 * time.Minute

// seriesMax bounds the label sets of one metric family on one node. What comes above it is counted under the
// overflow labels, so that the totals stay right.
const seriesMax = 20000

// series is a family's label sets: handles made on first use, dropped when idle.
type series[K comparable, H any] struct {
	make     func(K) H
	drop     func(K)
	overflow K
	max      int
	now      func() time.Time

	mu sync.RWMutex // protects m
	m  map[K]*seriesEntry[H]
}

type seriesEntry[H any] struct {
	handle H
	used   atomic.Int64 // unix seconds
}

func newSeries[K comparable, H any](overflow K, make func(K) H, drop func(K)) *series[K, H] {
	return &series[K, H]{make: make, drop: drop, overflow: overflow, max: seriesMax, now: time.Now, m: map[K]*seriesEntry[H]{}}
}

// get returns the handle of a label set.
func (s *series[K, H]) get(k K) H {
	now := s.now().Unix()
	s.mu.RLock()
	e := s.m[k]
	s.mu.RUnlock()
	if e == nil {
		e = s.add(k)
	}
	if e.used.Load() != now {
		e.used.Store(now)
	}
	return e.handle
}

func (s *series[K, H]) add(k K) *seriesEntry[H] {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.m[k]; e != nil {
		return e
	}
	if len(s.m) >= s.max {
		k = s.overflow
		if e := s.m[k]; e != nil {
			return e
		}
	}
	e := &seriesEntry[H]{handle: s.make(k)}
	s.m[k] = e
	return e
}

// expire drops the series that were not used for seriesIdle, and returns how many are left. keep protects
// those that are still in use, such as a gauge that is not zero.
func (s *series[K, H]) expire(keep func(H) bool) int {
	old := s.now().Add(-seriesIdle).Unix()
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, e := range s.m {
		if e.used.Load() < old && (keep == nil || !keep(e.handle)) {
			delete(s.m, k)
			s.drop(k)
		}
	}
	return len(s.m)
}
