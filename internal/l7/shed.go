package l7

import (
	"time"

	"fairlead.io/fairlead/internal/l7/exchange"
	"fairlead.io/fairlead/internal/l7/h2"
)

// shedEvery is how often it is looked who stands still while a budget is short.
const shedEvery = time.Second

// shed has the loops look for those who hold the pod's bytes and stand still, until the budget is not tight any more. Any
// goroutine may call it.
func (p *pod) shed(d Direction) {
	for _, w := range p.e.loops {
		w.l.Post(func() { w.beginShed(p, d) })
	}
}

func (w *worker) beginShed(p *pod, d Direction) {
	if b := &p.budgets[d]; !w.shedding[b] {
		w.shedding[b] = true
		w.shed(p, d, b)
	}
}

func (w *worker) shed(p *pod, d Direction, b *exchange.Budget) {
	if !b.Tight() {
		delete(w.shedding, b)
		return
	}
	for s := range w.sessions {
		if codec, ok := s.server.(*h2.Server); ok && s.f.p == p && s.f.dir == d {
			codec.Shed()
		}
	}
	for t, g := range w.groups {
		if t.pod == p && t.direction() == d {
			g.shed()
		}
	}
	w.l.Shed(b)
	w.l.After(shedEvery, func() { w.shed(p, d, b) })
}
