package l7

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"fairlead.io/fairlead/internal/l7/exchange"
	"fairlead.io/fairlead/internal/l7/loop"
)

// Engine serves the pods of one node.
type Engine struct {
	cfg   Config
	log   *slog.Logger
	brain Brain
	rec   Recorder
	lim   Limits

	loops    []*worker
	next     atomic.Uint32 // loop for the next connection
	turns    turns
	learnt   learnt
	warned   warned
	work     sync.WaitGroup // goroutines of connections, acceptors and retiring pods
	pods     map[string]*pod
	drained  drain           // what the pods have been told of it; Run's goroutine only
	live     atomic.Int64    // connections
	budget   exchange.Budget // of all pods
	retries  retryBudgets
	changed  chan struct{}
	doubted  chan struct{}
	quit     chan struct{}                 // closed when Run is about to end, under mu
	original func(net.Conn) netip.AddrPort // what an accepted connection was dialled to

	mu       sync.Mutex // protects what follows
	desired  []*Pod
	skipped  []*Pod // were desired, and replaced before they were seen to
	pending  bool   // desired has not been seen to
	draining drain
	retiring map[string]*pod // have left, and have connections
}

// New makes an engine. Nothing runs before Run.
func New(cfg Config) *Engine {
	if cfg.Loops <= 0 {
		cfg.Loops = runtime.GOMAXPROCS(0)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Recorder == nil {
		cfg.Recorder = nobody{}
	}
	lim := cfg.Limits.withDefaults()
	e := &Engine{
		cfg: cfg, log: cfg.Log, brain: cfg.Brain, rec: cfg.Recorder, lim: lim,
		learnt:   learnt{limit: lim.Learnt},
		pods:     map[string]*pod{},
		retiring: map[string]*pod{},
		changed:  make(chan struct{}, 1),
		doubted:  make(chan struct{}, 1),
		quit:     make(chan struct{}),
		original: func(c net.Conn) netip.AddrPort { return addrPort(c.LocalAddr()) },
	}
	e.budget.Limit = lim.BufferedAll
	e.budget.Short = func() { e.shed(&e.budget) }
	return e
}

// Set replaces the pods that are served. It returns at once; the change is made by Run.
func (e *Engine) Set(pods []*Pod) {
	e.mu.Lock()
	if e.pending {
		e.skipped = append(e.skipped, e.desired...)
	}
	e.desired, e.pending = pods, true
	e.mu.Unlock()
	select {
	case e.changed <- struct{}{}:
	default:
	}
}

// Reauthorize asks the Brain again about every connection that lives, because what it decides by has changed.
// It returns at once.
func (e *Engine) Reauthorize() {
	select {
	case e.doubted <- struct{}{}:
	default:
	}
}

// Run serves until ctx ends, then resets what is left. Drain comes before that.
func (e *Engine) Run(ctx context.Context) error {
	loopCtx, stopLoops := context.WithCancel(context.Background())
	defer stopLoops()
	ended := make(chan error, e.cfg.Loops)
	for range e.cfg.Loops {
		l, err := loop.New(e.log)
		if err != nil {
			stopLoops()
			return errors.Join(fmt.Errorf("make loop: %w", err), e.awaitLoops(ended))
		}
		w := newWorker(e, l)
		e.loops = append(e.loops, w)
		go w.run(loopCtx, ended)
	}
	e.serve(ctx, ended)
	e.mu.Lock()
	close(e.quit)
	e.mu.Unlock()
	for _, p := range e.pods {
		p.closeListeners(false)
		p.cancel(errStopped)
	}
	e.closeUnserved()
	e.work.Wait()
	stopLoops()
	return e.awaitLoops(ended)
}

// serve applies what Set says until ctx or a loop ends. A loop that ended is put back to be counted.
func (e *Engine) serve(ctx context.Context, ended chan error) {
	for {
		select {
		case <-ctx.Done():
			return
		case err := <-ended:
			ended <- err
			return
		case <-e.changed:
			e.applyDrain()
			e.reconcile()
		case <-e.doubted:
			for _, p := range e.pods {
				p.reauthorize()
				p.follow()
			}
		}
	}
}

// aside runs f on a goroutine of work for a loop, unless Run is about to end: what waits for work must not meet the first
// of it.
func (e *Engine) aside(f func()) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	select {
	case <-e.quit:
		return false
	default:
		e.work.Go(f)
		return true
	}
}

func (e *Engine) awaitLoops(ended chan error) (err error) {
	for range e.loops {
		if ended := <-ended; ended != nil {
			err = errors.Join(err, fmt.Errorf("loop: %w", ended))
		}
	}
	return err
}

// closeUnserved closes listeners that were Set when nobody was there to take them any more.
func (e *Engine) closeUnserved() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, spec := range append(e.skipped, e.desired...) {
		for _, ln := range spec.listeners() {
			ln.Close()
		}
	}
}

// closeSkipped closes the listeners of pods that were replaced before they were served.
func (e *Engine) closeSkipped(skipped, desired []*Pod) {
	if len(skipped) == 0 {
		return
	}
	used := map[net.Listener]bool{}
	for _, spec := range desired {
		for _, ln := range spec.listeners() {
			used[ln] = true
		}
	}
	for _, p := range e.pods {
		for ln := range p.accepts {
			used[ln] = true
		}
	}
	for _, spec := range skipped {
		for _, ln := range spec.listeners() {
			if !used[ln] {
				ln.Close()
			}
		}
	}
}

// reconcile makes the pods what they should be. It runs on Run's goroutine only.
func (e *Engine) reconcile() {
	e.mu.Lock()
	desired, skipped := e.desired, e.skipped
	e.skipped, e.pending = nil, false
	e.mu.Unlock()
	e.closeSkipped(skipped, desired)
	want := make(map[string]*Pod, len(desired))
	for _, spec := range desired {
		want[spec.UID] = spec
	}
	for uid, p := range e.pods {
		if want[uid] == nil {
			delete(e.pods, uid)
			p.closeListeners(true)
			e.retire(p)
		}
	}
	for uid, spec := range want {
		p := e.pods[uid]
		if p == nil {
			p = newPod(e, spec)
			e.pods[uid] = p
		}
		p.update(spec)
	}
}

// retire drains a pod that has left, beside everything else.
func (e *Engine) retire(p *pod) {
	uid := p.spec.Load().UID
	e.mu.Lock()
	e.retiring[uid] = p
	e.mu.Unlock()
	e.work.Go(func() {
		p.retire()
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.retiring[uid] == p {
			delete(e.retiring, uid)
		}
	})
}

// Gone says that nothing of a pod that has left lives any more: what it still has of connections can only be swept up.
// A pod that leaves with a Drain of 0 has gone, too.
func (e *Engine) Gone(uid string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if p := e.retiring[uid]; p != nil {
		delete(e.retiring, uid)
		close(p.gone)
	}
}

// worker picks the loop for a new connection.
func (e *Engine) worker() *worker {
	return e.loops[int(e.next.Add(1))%len(e.loops)]
}

// try runs f on a goroutine that has something to answer even if f panics.
func (e *Engine) try(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			e.rec.Event(nil, Outbound, EventPanic)
			e.log.Error("panic in a dial", "panic", r, "stack", string(debug.Stack()))
			err = errPanic
		}
	}()
	return f()
}

func addrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := t.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// warned remembers what was logged already: each text once, and no more than maxWarned texts.
type warned struct {
	mu   sync.Mutex // protects seen
	seen map[string]struct{}
}

const maxWarned = 128

func (w *warned) first(text string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.seen[text]; ok || len(w.seen) >= maxWarned {
		return false
	}
	if w.seen == nil {
		w.seen = map[string]struct{}{}
	}
	w.seen[text] = struct{}{}
	return true
}
