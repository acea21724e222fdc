package l7

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"fairlead.io/fairlead/internal/l7/exchange"
	"fairlead.io/fairlead/internal/l7/loop"
)

// stream is TCP, or TLS over it, on a goroutine.
type stream interface {
	net.Conn
	CloseWrite() error
}

// below is the TCP connection that a stream runs on.
func below(s stream) *net.TCPConn {
	if sec, ok := s.(*loop.Secure); ok {
		return sec.TCP()
	}
	return s.(*net.TCPConn)
}

// flow is one accepted connection, from accept until its end or until a loop has taken it.
type flow struct {
	p     *pod
	e     *Engine
	spec  *Pod
	dir   Direction
	c     *net.TCPConn
	down  stream // c, or TLS over it
	peer  netip.AddrPort
	local netip.AddrPort // what the client dialled
	first []byte         // read from down and not yet passed on
	rec   ConnRecord

	passed bool // to a session, which the pod's limit of connections counts from then on

	admitted atomic.Pointer[Arrival] // inbound: what the connection was admitted as, to be asked about again

	cut atomic.Bool // the other side has spoken: the wait for the client's first bytes is over

	mu     sync.Mutex // protects what follows
	up     *net.TCPConn
	ended  bool
	broken error // why a relay ended early: the first error of either direction
}

// budget is what the connection's side of the pod may keep.
func (f *flow) budget() *exchange.Budget { return &f.p.budgets[f.dir] }

func (f *flow) arrived() *Arrival { return f.admitted.Load() }

func (f *flow) destination() *Destination { return nil }

func (f *flow) drain() {} // an opaque connection is left alone until the deadline

func (f *flow) abort() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = true
	reset(f.c)
	if f.up != nil {
		reset(f.up)
	}
}

// join makes up share the flow's end. It returns false if that has come already.
func (f *flow) join(up *net.TCPConn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.up = up
	if f.ended {
		reset(up)
	}
	return !f.ended
}

func (f *flow) joined() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.up != nil
}

// refuse ends a connection that got nowhere.
func (f *flow) refuse(cause Cause, err error) {
	reset(f.c)
	if f.p.ctx.Err() != nil {
		cause = CauseDrain
	}
	f.rec.Cause = cause
	f.rec.Duration = time.Since(f.rec.Began)
	f.e.rec.ConnRefused(&f.rec)
	f.warn(cause, err)
}

// warn logs why a connection is refused, each reason once.
func (f *flow) warn(cause Cause, err error) {
	if err != nil && cause != CauseCancel && f.e.warned.first(cause.String()+": "+err.Error()) {
		f.e.log.Warn("connection refused", "pod", f.spec.Name.String(), "direction", f.dir.String(),
			"peer", f.rec.PeerAddr, "port", f.rec.Port, "cause", cause.String(), "err", err)
	}
}

// stands asks once more about plaintext that was let in, now that reauthorize can see it: what is decided by may have
// changed while the connection was on its way.
func (f *flow) stands() error {
	a := f.admitted.Load()
	if a == nil || a.TLS != nil {
		return nil
	}
	if err := f.e.brain.Authorize(a); !errors.Is(err, ErrUndecided) {
		return err
	}
	return nil
}

// sniff reads until the kind of the first bytes is clear, or the wait is over. KindUnknown and no error means that
// nothing has come. An end of input before anything else counts as KindTCP: it has to be passed on.
func (f *flow) sniff(wait time.Duration) (Kind, error) {
	if len(f.first) > 0 {
		if k := detect(f.first); k != KindUnknown {
			return k, nil
		}
	}
	var deadline time.Time
	if wait > 0 {
		deadline = time.Now().Add(wait)
	}
	defer f.down.SetReadDeadline(time.Time{})
	for {
		f.down.SetReadDeadline(deadline)
		if f.cut.Load() {
			return KindTCP, nil
		}
		err := f.more()
		if len(f.first) > 0 {
			if k := detect(f.first); k != KindUnknown {
				return k, nil
			}
			if wait == 0 || wait > f.e.lim.Detect {
				// They have begun to speak: what may still be ambiguous must not hold them up.
				wait = f.e.lim.Detect
				deadline = time.Now().Add(wait)
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded) && f.cut.Load():
			return KindTCP, nil
		case errors.Is(err, os.ErrDeadlineExceeded) && len(f.first) == 0:
			return KindUnknown, nil
		case errors.Is(err, os.ErrDeadlineExceeded), err == io.EOF && len(f.first) > 0:
			return guess(f.first), nil
		case err == io.EOF:
			return KindTCP, nil
		default:
			return KindUnknown, err
		}
	}
}

// more reads what there is, once, behind first.
func (f *flow) more() error {
	if cap(f.first)-len(f.first) < 2048 {
		grown := make([]byte, len(f.first), 2*cap(f.first)+4096)
		copy(grown, f.first)
		f.first = grown
	}
	n, err := f.down.Read(f.first[len(f.first):cap(f.first)])
	f.first = f.first[:len(f.first)+n]
	if n > 0 {
		return nil
	}
	return err
}

// hello reads the rest of a ClientHello. It returns nil if the bytes are none, or not all there in time.
func (f *flow) hello() *hello {
	deadline := time.Now().Add(f.e.lim.Hello)
	defer f.down.SetReadDeadline(time.Time{})
	for {
		h, p := parseHello(f.first)
		if p == parsed {
			return h
		}
		if p == malformed || len(f.first) >= helloBytes {
			return nil
		}
		f.down.SetReadDeadline(deadline)
		if f.more() != nil {
			return nil
		}
	}
}

// answer is the other side of a connection when it has been reached.
type answer struct {
	l   *link
	err error
}

// dialling is a connect that goes on beside the wait for the client's first bytes.
type dialling struct {
	e      *Engine
	done   chan answer
	cancel context.CancelFunc
}

func (f *flow) dial(connect func(context.Context) (*link, error)) *dialling {
	ctx, cancel := context.WithCancel(f.p.ctx)
	d := &dialling{e: f.e, done: make(chan answer, 1), cancel: cancel}
	f.e.work.Go(func() {
		var l *link
		err := f.e.try(func() (err error) {
			l, err = connect(ctx)
			return err
		})
		d.done <- answer{l, err}
	})
	return d
}

// drop gives up what was dialled, and does not wait for it.
func (d *dialling) drop() {
	if d == nil {
		return
	}
	d.cancel()
	d.e.work.Go(func() {
		if a := <-d.done; a.l != nil {
			a.l.drop()
		}
	})
}

func (d *dialling) wait() (*link, error) {
	a := <-d.done
	return a.l, a.err
}

// race lets both sides speak: the kind is of the client's first bytes, if they came first. Otherwise it is KindTCP,
// and what the other side has said is in l.first.
func (f *flow) race(l *link) (Kind, bool, error) {
	spoke := make(chan error, 1)
	f.cut.Store(false)
	f.e.work.Go(func() { spoke <- f.listen(l) })
	kind, err := f.sniff(0)
	l.s.SetReadDeadline(time.Unix(1, 0))
	upErr := <-spoke
	l.s.SetReadDeadline(time.Time{})
	serverFirst := f.cut.Load() && len(l.first) > 0
	f.cut.Store(false)
	f.down.SetReadDeadline(time.Time{})
	if err == nil && serverFirst && saysSettings(l.first) {
		// A server of HTTP/2 speaks when it is connected to, and so does its client, who is only slow.
		if kind, err = f.sniff(f.e.lim.Patience); err == nil && kind == KindHTTP2 {
			return kind, false, nil
		}
	}
	if err != nil {
		return kind, serverFirst, err
	}
	if len(l.first) > 0 || upErr == io.EOF {
		return KindTCP, serverFirst, nil
	}
	if upErr != nil && !errors.Is(upErr, os.ErrDeadlineExceeded) {
		return kind, serverFirst, upErr
	}
	return kind, serverFirst, nil
}

// saysSettings tells whether bytes begin with a SETTINGS frame (RFC 9113 section 6.5), as what a server of HTTP/2 says first.
func saysSettings(b []byte) bool {
	const head, entry, most = 9, 6, 64
	if len(b) < head || b[0] != 0 || b[3] != 4 || b[4] != 0 || b[5]|b[6]|b[7]|b[8] != 0 {
		return false
	}
	n := int(b[1])<<8 | int(b[2])
	return n%entry == 0 && n <= most*entry
}

// listen waits for the first bytes, or the end, of the far side, and then stops the wait for the client's.
func (f *flow) listen(l *link) error {
	buf := make([]byte, 4096)
	n, err := l.s.Read(buf)
	l.first = buf[:n]
	if n > 0 {
		err = nil
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		f.cut.Store(true)
		f.down.SetReadDeadline(time.Unix(1, 0))
	}
	return err
}

// causeOf tells what a read or write error was.
func causeOf(err error) Cause {
	switch {
	case err == nil, err == io.EOF:
		return CauseNone
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return CauseReset
	case errors.Is(err, os.ErrDeadlineExceeded):
		return CauseTimeout
	case errors.Is(err, io.ErrUnexpectedEOF):
		return CauseClosed
	}
	return CauseReset
}
