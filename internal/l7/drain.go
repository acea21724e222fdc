package l7

import "time"

// drain is what Drain has asked for.
type drain struct {
	begun, take bool
}

// Drain begins the end of the engine: HTTP connections end with the next response, those that are still to come too;
// opaque ones go on, until they end or Run does. With take, what comes is taken as before: somebody else has listeners of
// his own in the pods by now, and on these there is little more. Without, it stays in the queues of the listeners, for
// whoever else holds them. Drain returns at once, and may be called again with another take.
func (e *Engine) Drain(take bool) {
	e.mu.Lock()
	e.draining = drain{begun: true, take: take}
	e.mu.Unlock()
	select {
	case e.changed <- struct{}{}:
	default:
	}
}

// Live is the number of connections that have not ended.
func (e *Engine) Live() int64 { return e.live.Load() }

// applyDrain has every pod do what Drain has asked for. It runs on Run's goroutine only.
func (e *Engine) applyDrain() {
	e.mu.Lock()
	want := e.draining
	e.mu.Unlock()
	if want == e.drained {
		return
	}
	e.drained = want
	for _, p := range e.pods {
		p.wind(want)
	}
}

// wind begins a pod's part of the engine's drain.
func (p *pod) wind(d drain) {
	p.mu.Lock()
	p.winding = true
	p.mu.Unlock()
	for ln, a := range p.accepts {
		if d.take && a.paused {
			p.accept(a.dir, ln)
		} else if !d.take {
			a.pause()
		}
	}
	for _, s := range p.sessions() {
		s.drain()
	}
}

// pause ends run and leaves the listener open, with what waits in its queue. It returns false if the listener cannot do that.
func (a *acceptor) pause() bool {
	d, ok := a.ln.(interface{ SetDeadline(time.Time) error })
	if a.paused || !ok {
		return a.paused
	}
	a.paused = true
	a.keep.Store(true)
	a.stopping.Store(true)
	_ = d.SetDeadline(time.Unix(1, 0)) // one that is closed already needs none
	return true
}
