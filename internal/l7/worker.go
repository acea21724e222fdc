package l7

import (
	"context"
	"time"

	"fairlead.io/fairlead/internal/l7/exchange"
	"fairlead.io/fairlead/internal/l7/h1"
	"fairlead.io/fairlead/internal/l7/h2"
	"fairlead.io/fairlead/internal/l7/loop"
)

// worker is one loop and the HTTP connections on it. But for run, forget and stop it is used on the loop only.
type worker struct {
	e        *Engine
	l        *loop.Loop
	groups   map[target]*group
	sessions map[*httpSession]struct{}
	shared   h2.Shared
	requests requests
	copies   map[*request]struct{} // those for mirrors that have not ended
	lines    h1.Memo
	bodies   exchange.Buffers          // that may have to be sent again
	shedding map[*exchange.Budget]bool // those that are short, or were
	panics   uint64                    // of the loop, as far as they were reported
}

func newWorker(e *Engine, l *loop.Loop) *worker {
	return &worker{e: e, l: l, groups: map[target]*group{}, sessions: map[*httpSession]struct{}{}, copies: map[*request]struct{}{}, shedding: map[*exchange.Budget]bool{}}
}

func (w *worker) run(ctx context.Context, ended chan<- error) {
	w.l.AfterTurn(w.turn)
	w.l.Do(w.sweep)
	err := w.l.Run(ctx)
	w.endCopies()
	ended <- err
}

// turn comes behind each turn of the loop.
func (w *worker) turn() {
	w.requests.turn()
	w.shared.Turn()
}

// sweep ends what has been idle for too long, and comes again. One walk now and then is cheaper than a timer that
// every request would have to move.
func (w *worker) sweep() {
	lim := &w.e.lim
	now := w.l.Now()
	for s := range w.sessions {
		if s.active == 0 {
			s.tag = nil
		}
		if s.active == 0 && now.Sub(s.last) > lim.Idle {
			s.server.Drain()
		}
	}
	for _, g := range w.groups {
		g.sweep(now.Add(-lim.PoolIdle))
	}
	for n := w.l.Panics(); w.panics < n; w.panics++ {
		w.e.rec.Event(nil, Outbound, EventPanic)
	}
	w.l.After(min(lim.Idle, lim.PoolIdle)/4+time.Millisecond, w.sweep)
}

// forget closes what a pod has left behind on the loop.
func (w *worker) forget(p *pod) {
	w.l.Do(func() {
		for t, g := range w.groups {
			if t.pod == p {
				g.drain()
			}
		}
	})
}

func (w *worker) group(t target) *group {
	g := w.groups[t]
	if g == nil {
		g = &group{w: w, t: t}
		w.groups[t] = g
	}
	return g
}
