package l7

import (
	"time"

	"fairlead.io/fairlead/internal/l7/exchange"
	"fairlead.io/fairlead/internal/l7/h2"
)

// shedEvery is how often it is looked who stands still while a budget is short.
const shedEvery = time.Second

// shed has the loops look for those who hold bytes of a budget and stand still, until it is not tight any more. Any goroutine may
// call it.
func (e *Engine) shed(b *exchange.Budget) {
	for _, w := range e.loops {
		w.l.Post(func() {
			if !w.shedding[b] {
				w.shedding[b] = true
				w.shed(b)
			}
		})
	}
}

func (w *worker) shed(b *exchange.Budget) {
	if !b.Tight() {
		delete(w.shedding, b)
		return
	}
	for s := range w.sessions {
		if codec, ok := s.server.(*h2.Server); ok && s.f.budget().Within(b) {
			codec.Shed()
		}
	}
	for _, g := range w.groups {
		if g.budget().Within(b) {
			g.shed()
		}
	}
	w.l.Shed(b)
	w.l.After(shedEvery, func() { w.shed(b) })
}
