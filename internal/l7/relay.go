package l7

import (
	"io"
	"net"
	"sync"
	"time"

	"fairlead.io/fairlead/internal/l7/exchange"
)

// relay forwards an opaque connection until both directions have ended. An end of input is passed on as a half-close;
// any error ends both sides with a reset.
func (f *flow) relay(l *link) {
	if !f.join(below(l.s)) {
		l.drop()
		f.refuse(CauseDrain, nil)
		return
	}
	if err := f.stands(); err != nil {
		l.drop()
		f.refuse(CauseRefused, err)
		return
	}
	tune(f.c)
	f.rec.Security = l.security
	if l.ep != nil {
		f.rec.PeerAddr, f.rec.Peer = l.ep.Addr, l.ep.Pod
		defer l.ep.Drop()
	}
	f.e.rec.ConnOpened(&f.rec)
	back := make(chan struct{})
	f.e.work.Go(func() {
		f.rec.BytesOut = f.pass(f.down, l.s, l.first)
		close(back)
	})
	f.rec.BytesIn = f.pass(l.s, f.down, f.first)
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
		m, err := io.Copy(d, s) // splice: the bytes stay in the kernel
		return n + m, err
	}
	m, err := f.copyBuffer(dst, src)
	return n + m, err
}

var buffers = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}

// copyBuffer is what is left where splice cannot be used: TLS, and idle time limits. A connection that waits holds a
// small buffer only; one that has much to say borrows a large one.
func (f *flow) copyBuffer(dst, src stream) (n int64, err error) {
	small := make([]byte, 1<<10)
	var large *[]byte
	var kept exchange.Account
	budget := &f.p.budgets[f.dir]
	kept.Open(budget)
	defer func() {
		if large != nil {
			buffers.Put(large)
			kept.Set(0)
		}
	}()
	idle := f.e.lim.TCPIdle
	for {
		buf := small
		if large != nil {
			buf = *large
		}
		if idle > 0 {
			src.SetReadDeadline(time.Now().Add(idle))
		}
		m, rerr := src.Read(buf)
		if m > 0 {
			if idle > 0 {
				dst.SetWriteDeadline(time.Now().Add(idle))
			}
			w, werr := dst.Write(buf[:m])
			n += int64(w)
			if werr != nil {
				return n, werr
			}
		}
		switch {
		case rerr == io.EOF:
			return n, nil
		case rerr != nil:
			return n, rerr
		case m == len(small) && large == nil && !budget.Tight():
			large = buffers.Get().(*[]byte)
			kept.Set(len(*large))
		case m < len(small) && large != nil:
			buffers.Put(large)
			large = nil
			kept.Set(0)
		}
	}
}
