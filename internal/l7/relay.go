package l7

import (
	"io"
	"net"
	"time"

	"fairlead.io/fairlead/internal/l7/exchange"
	"fairlead.io/fairlead/internal/l7/loop"
)

// relay forwards an opaque connection until both directions have ended. An end of input is passed on as a half-close;
// any error ends both sides with a reset.
func (f *flow) relay(l *link) {
	if !f.join(below(l.s)) {
		l.drop()
		f.refuse(CauseDrain, nil)
		return
	}
	if err := f.asOpaque(); err != nil {
		l.drop()
		f.refuse(CauseRefused, err)
		return
	}
	tune(f.c)
	f.rec.Security = l.security
	if l.ep != nil {
		f.rec.PeerAddr, f.rec.Peer = l.ep.Addr, l.ep.Pod
		l.ep.Reached()
		defer l.ep.Drop()
	}
	f.e.rec.ConnOpened(&f.rec)
	back := make(chan struct{})
	f.e.work.Go(func() {
		said := l.first
		l.first = nil // a relay lives long
		f.rec.BytesOut = f.pass(f.down, l.s, said)
		close(back)
	})
	asked := f.first
	f.first = nil
	f.rec.BytesIn = f.pass(l.s, f.down, asked)
	<-back
	f.rec.Cause = causeOf(f.broken)
	if f.p.ctx.Err() != nil && f.broken != nil {
		f.rec.Cause = CauseDrain
	}
	f.down.Close()
	l.s.Close()
	f.rec.Duration = time.Since(f.rec.Began)
	f.e.rec.ConnClosed(&f.rec)
}

// pass carries one direction. When it fails, both sides are reset, so that the other direction ends too.
func (f *flow) pass(dst, src stream, first []byte) int64 {
	n, err := f.copy(dst, src, first)
	if err == nil {
		err = dst.CloseWrite()
	}
	if err != nil {
		f.mu.Lock()
		if f.broken == nil { // what the other direction sees of it later is no cause
			f.broken = err
		}
		f.mu.Unlock()
		reset(below(dst))
		reset(below(src))
	}
	return n
}

func (f *flow) copy(dst, src stream, first []byte) (int64, error) {
	var n int64
	if len(first) > 0 {
		m, err := dst.Write(first)
		n = int64(m)
		if err != nil {
			return n, err
		}
	}
	d, plain := dst.(*net.TCPConn)
	s, plain2 := src.(*net.TCPConn)
	if plain && plain2 && f.e.lim.TCPIdle == 0 {
		m, err := f.splice(d, s)
		return n + m, err
	}
	m, err := f.copyBuffer(dst, src)
	return n + m, err
}

// spliced is after how many bytes a copy within the kernel gives way.
const spliced = 256 << 10

// muchAtOnce is what only a connection reads at once that moves much.
const muchAtOnce = 4 << 10

// splice has the bytes stay in the kernel.
func (f *flow) splice(dst, src *net.TCPConn) (n int64, err error) {
	for {
		m, err := dst.ReadFrom(&io.LimitedReader{R: src, N: spliced})
		n += m
		if err != nil || m < spliced { // the end
			return n, err
		}
		f.e.giveWay()
	}
}

// copyBuffer is what is left where splice cannot be used: TLS, and idle time limits. A connection that waits holds no buffer.
func (f *flow) copyBuffer(dst, src stream) (n int64, err error) {
	budget := f.budget()
	in, err := loop.NewIntake(src, budget.Tight)
	if err != nil {
		return 0, err
	}
	var kept exchange.Account
	kept.Open(budget)
	defer kept.Set(0)
	idle := f.e.lim.TCPIdle
	for {
		if idle > 0 {
			src.SetReadDeadline(time.Now().Add(idle))
		}
		b, rerr := in.Read()
		if len(b) > 0 {
			if idle > 0 {
				dst.SetWriteDeadline(time.Now().Add(idle))
			}
			kept.Set(in.Size()) // as long as dst does not take it
			w, werr := in.Pass(dst)
			kept.Set(0)
			n += int64(w)
			if werr != nil {
				return n, werr
			}
		}
		if rerr == io.EOF {
			return n, nil
		}
		if rerr != nil {
			return n, rerr
		}
		if len(b) >= muchAtOnce {
			f.e.giveWay()
		}
	}
}
