package control

import (
	"context"
	"math"
	"time"
)

// settle is how much longer a pod is kept that every proxy knows to have left: what they had begun to dial before
// speaks mutual TLS, and the app would answer it.
const settle = 300 * time.Millisecond

// release lets captured pods go that have left the mesh: when every connected proxy knows, or after cfg.Leave.
func (s *Server) release(ctx context.Context) error {
	since := map[string]time.Time{}  // by UID: when the leaving was first seen
	agreed := map[string]time.Time{} // ... and when all knew of it
	for {
		changed := s.cfg.World.Changed()
		leaving := s.cfg.World.Leaving()
		for uid := range since {
			if _, ok := leaving[uid]; !ok {
				delete(since, uid)
				delete(agreed, uid)
			}
		}
		known, next := s.known(), time.Duration(math.MaxInt64)
		for uid, version := range leaving {
			if since[uid].IsZero() {
				since[uid] = time.Now()
			}
			left := time.Until(since[uid].Add(s.cfg.Leave))
			if known >= version {
				if agreed[uid].IsZero() {
					agreed[uid] = time.Now()
				}
				left = min(left, time.Until(agreed[uid].Add(settle)))
			}
			if left > 0 {
				next = min(next, left)
				continue
			}
			if known < version {
				s.cfg.Log.Warn("pod released before all proxies knew", "pod", uid)
			}
			s.metrics.released.WithLabelValues(releaseReason(known >= version)).Inc()
			s.cfg.World.Release(uid)
		}
		if !s.awaitRelease(ctx, changed, next) {
			return nil
		}
	}
}

func releaseReason(acknowledged bool) string {
	if acknowledged {
		return "acknowledged"
	}
	return "deadline"
}

func (s *Server) awaitRelease(ctx context.Context, changed <-chan struct{}, next time.Duration) bool {
	t := time.NewTimer(next)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-changed:
	case <-s.acked:
	case <-t.C:
	}
	return true
}

// known is the version that every connected proxy has acknowledged.
func (s *Server) known() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := uint64(math.MaxUint64)
	for d := range s.discovers {
		known = min(known, d.acked.Load())
	}
	return known
}
