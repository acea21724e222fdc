package l7

import (
	"errors"
	"net"
	"runtime/debug"
	"sync/atomic"
	"time"
)

const (
	minBackOff = 5 * time.Millisecond
	maxBackOff = time.Second
	// queueTime is how long a replaced listener still takes what waits in its accept queue.
	queueTime = 50 * time.Millisecond
)

// acceptor accepts from one listener of a pod.
type acceptor struct {
	p        *pod
	dir      Direction
	ln       net.Listener
	stopping atomic.Bool
	keep     atomic.Bool // the listener stays open
	paused   bool        // Run's goroutine only
}

// stop ends run. With drain, connections that wait in the accept queue are taken first.
func (a *acceptor) stop(drain bool) {
	a.stopping.Store(true)
	if a.paused {
		a.ln.Close() // nobody accepts
		return
	}
	if d, ok := a.ln.(interface{ SetDeadline(time.Time) error }); drain && ok && d.SetDeadline(time.Now().Add(queueTime)) == nil {
		return
	}
	a.ln.Close()
}

func (a *acceptor) run() {
	defer func() {
		if !a.keep.Load() {
			a.ln.Close()
		}
	}()
	wait := minBackOff
	for {
		c, err := a.ln.Accept()
		if err == nil {
			wait = minBackOff
			a.p.e.work.Go(func() { a.p.serve(a.dir, c) })
			continue
		}
		if errors.Is(err, net.ErrClosed) || a.stopping.Load() {
			return
		}
		// Out of descriptors, mostly: those who wait are served when some come free.
		spec := a.p.spec.Load()
		a.p.e.rec.Event(spec, a.dir, EventAcceptError)
		if a.p.e.warned.first("accept: " + err.Error()) {
			a.p.e.log.Warn("accept", "pod", spec.Name.String(), "direction", a.dir.String(), "err", err)
		}
		t := time.NewTimer(wait)
		select {
		case <-a.p.ctx.Done():
		case <-t.C:
		}
		t.Stop()
		wait = min(2*wait, maxBackOff)
	}
}

// serve handles one accepted connection until it has ended or a loop has it.
func (p *pod) serve(d Direction, conn net.Conn) {
	c, ok := conn.(*net.TCPConn)
	if !ok {
		conn.Close()
		return
	}
	f := &flow{p: p, e: p.e, spec: p.spec.Load(), dir: d, c: c, down: c, peer: addrPort(c.RemoteAddr()), local: p.e.original(c)}
	f.rec = ConnRecord{Direction: d, Pod: f.spec, PeerAddr: f.peer, Port: f.local.Port(), Began: time.Now()}
	defer func() {
		if r := recover(); r != nil {
			p.e.rec.Event(f.spec, d, EventPanic)
			p.e.log.Error("panic in a connection", "pod", f.spec.Name.String(), "panic", r, "stack", string(debug.Stack()))
			reset(c)
		}
	}()
	if f.local.Addr().IsLoopback() || !f.local.IsValid() {
		p.e.rec.Event(f.spec, d, EventLoopback)
		reset(c)
		return
	}
	defer func() {
		if !f.passed {
			p.conns[d].Add(-1)
		}
	}()
	if p.conns[d].Add(1) > p.e.lim.Conns {
		p.e.rec.Event(f.spec, d, EventConnLimit)
		reset(c)
		return
	}
	if b := &p.budgets[d]; b.Full() {
		b.Refuse()
		reset(c)
		return
	}
	p.enter(f)
	defer p.leave(f)
	if d == Outbound {
		f.outbound()
	} else {
		f.inbound()
	}
}

// reset closes with a RST.
func reset(c *net.TCPConn) {
	c.SetLinger(0)
	c.Close()
}
