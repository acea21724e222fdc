package l7

import (
	"cmp"
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"fairlead.io/fairlead/internal/l7/exchange"
)

var (
	errStopped = errors.New("engine stopped")
	errDrained = errors.New("drain deadline passed")
	errPanic   = errors.New("panic")
)

// session is a connection that belongs to a pod. Both methods may be called from any goroutine, more than once.
type session interface {
	drain() // take nothing new, end when what is under way has ended
	abort() // end now, with a reset
	// arrived is what an inbound connection was admitted as; nil for an outbound one.
	arrived() *Arrival
	// destination is where the requests of an outbound HTTP connection go; nil for any other.
	destination() *Destination
}

// pod is a Pod while it is served, and until its last connection has ended.
type pod struct {
	e       *Engine
	spec    atomic.Pointer[Pod]
	ctx     context.Context // ends with the pod's last permission to live
	cancel  context.CancelCauseFunc
	accepts map[net.Listener]*acceptor // Run's goroutine only
	policy  any                        // that the connections were last asked about by; likewise

	conns, requests [2]atomic.Int64    // by Direction
	copies          atomic.Int64       // for mirrors
	shakes          *rate.Limiter      // handshakes that are answered
	budgets         [2]exchange.Budget // by Direction

	mu       sync.Mutex       // protects what follows
	live     map[session]bool // true: it was told to end, because it is forbidden now
	draining bool
	winding  bool          // the engine drains
	empty    chan struct{} // closed when draining and nothing is live

	gone chan struct{} // closed by Gone
}

func newPod(e *Engine, spec *Pod) *pod {
	p := &pod{e: e, winding: e.drained.begun, accepts: map[net.Listener]*acceptor{}, live: map[session]bool{},
		empty: make(chan struct{}), gone: make(chan struct{}), shakes: rate.NewLimiter(rate.Limit(e.lim.Shakes), 2*e.lim.Shakes)}
	p.ctx, p.cancel = context.WithCancelCause(context.Background())
	p.spec.Store(spec)
	for d := range p.budgets {
		p.budgets[d].Limit, p.budgets[d].Whole = e.lim.Buffered, &e.budget
		p.budgets[d].Refused = func() { e.rec.Event(p.spec.Load(), Direction(d), EventBufferLimit) }
		p.budgets[d].Short = func() { e.shed(&p.budgets[d]) }
	}
	context.AfterFunc(p.ctx, p.abortAll)
	return p
}

// update starts the listeners that are new before it stops those that are gone.
func (p *pod) update(spec *Pod) {
	p.spec.Store(spec)
	keep := map[net.Listener]bool{}
	start := func(d Direction, listeners []net.Listener) {
		for _, ln := range listeners {
			keep[ln] = true
			if p.accepts[ln] == nil {
				p.accept(d, ln)
			}
		}
	}
	start(Outbound, spec.Out)
	start(Inbound, spec.In)
	for ln, a := range p.accepts {
		if !keep[ln] {
			delete(p.accepts, ln)
			a.stop(true)
		}
	}
}

// accept begins to accept from a listener, also again after a pause.
func (p *pod) accept(d Direction, ln net.Listener) {
	a := &acceptor{p: p, dir: d, ln: ln}
	if old := p.accepts[ln]; old != nil && old.paused {
		_ = ln.(interface{ SetDeadline(time.Time) error }).SetDeadline(time.Time{})
	}
	p.accepts[ln] = a
	if p.e.drained.begun && !p.e.drained.take && a.pause() {
		return
	}
	p.e.work.Go(a.run)
}

// closeListeners ends accepting. With drain, what waits in the accept queues is served first.
func (p *pod) closeListeners(drain bool) {
	for _, a := range p.accepts {
		a.stop(drain)
	}
}

// enter makes s the pod's; leave takes it out again.
func (p *pod) enter(s session) {
	p.mu.Lock()
	if _, twice := p.live[s]; !twice {
		p.live[s] = false
		p.e.live.Add(1)
	}
	draining := p.draining || p.winding
	p.mu.Unlock()
	if p.ctx.Err() != nil {
		s.abort()
	} else if draining {
		s.drain()
	}
}

func (p *pod) leave(s session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, is := p.live[s]; is {
		delete(p.live, s)
		p.e.live.Add(-1)
	}
	p.checkEmpty()
}

// checkEmpty is called with mu held.
func (p *pod) checkEmpty() {
	if !p.draining || len(p.live) > 0 {
		return
	}
	select {
	case <-p.empty:
	default:
		close(p.empty)
	}
}

func (p *pod) sessions() []session {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]session, 0, len(p.live))
	for s := range p.live {
		all = append(all, s)
	}
	return all
}

func (p *pod) abortAll() {
	for _, s := range p.sessions() {
		s.abort()
	}
}

// follow lets outbound HTTP connections end whose destination has moved, such as an address that was nobody's and is
// a service's now: the client's next connection goes to where the address leads by then.
func (p *pod) follow() {
	for _, s := range p.sessions() {
		if d := s.destination(); d != nil && p.e.brain.Moved(d) {
			s.drain()
		}
	}
}

// reauthorize asks again about every inbound connection, and resets those that are refused now. What would have been
// refused as plaintext and is still on its way to prove more is left alone: it will be asked about by itself. So is what
// cannot be told any more, such as of a pod that the table has lost: it was let in when it could.
func (p *pod) reauthorize() {
	policy := p.e.brain.Policy(p.spec.Load())
	again := policy != p.policy
	p.policy = policy
	for _, s := range p.sessions() {
		a := s.arrived()
		if a == nil || p.standing(s, a, again) {
			continue
		}
		if f, ok := s.(*flow); ok && a.TLS == nil && !f.joined() {
			continue
		}
		if p.forbid(s) {
			p.e.rec.Event(p.spec.Load(), Inbound, EventForbidden)
			s.abort()
		}
	}
}

// forbid tells whether s lives and is forbidden for the first time: its end may take a moment, and counts once.
func (p *pod) forbid(s session) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	told, lives := p.live[s]
	if lives {
		p.live[s] = true
	}
	return lives && !told
}

// retire drains a pod that has left.
func (p *pod) retire() {
	p.mu.Lock()
	p.draining = true
	p.checkEmpty()
	p.mu.Unlock()
	for _, s := range p.sessions() {
		s.drain()
	}
	p.awaitEmpty()
	p.cancel(errDrained)
	p.e.learnt.forget(p.spec.Load().UID)
	for _, w := range p.e.loops {
		w.forget(p)
	}
}

// lastWords is how long what a pod has said may still be on its way when the pod has gone.
const lastWords = time.Second

// awaitEmpty waits until the pod has no connection any more, or none that it may keep.
func (p *pod) awaitEmpty() {
	spec := p.spec.Load()
	limit, late := time.NewTimer(cmp.Or(spec.Drain, lastWords)), spec.Drain > 0
	defer limit.Stop()
	gone := p.gone
	for {
		select {
		case <-p.empty:
			p.e.rec.Event(spec, Outbound, EventDrained)
		case <-gone:
			gone, late = nil, false
			limit.Reset(lastWords)
			continue
		case <-limit.C:
			if late {
				p.e.rec.Event(spec, Outbound, EventDrainDeadline)
			}
		case <-p.e.quit:
		}
		return
	}
}
