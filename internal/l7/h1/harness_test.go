package h1

import (
	"fmt"
	"strings"
	"time"

	"fairlead.io/fairlead/internal/l7/exchange"
)

// fakeLoop runs posted functions when told to.
type fakeLoop struct {
	now    time.Time
	posted []func()
	timers int
}

func (l *fakeLoop) Now() time.Time { return l.now }
func (l *fakeLoop) Post(f func())  { l.posted = append(l.posted, f) }
func (l *fakeLoop) After(time.Duration, func()) func() {
	l.timers++
	return func() { l.timers-- }
}

// fakeWire is a transport whose kernel takes everything at once.
type fakeWire struct {
	loop    fakeLoop
	out     []byte
	paused  bool
	eof     bool // half-closed by us
	closed  bool
	aborted bool
}

func (w *fakeWire) Write(b []byte) {
	if !w.eof && !w.closed && !w.aborted {
		w.out = append(w.out, b...)
	}
}
func (w *fakeWire) Pending() int        { return 0 }
func (w *fakeWire) Pause()              { w.paused = true }
func (w *fakeWire) Resume()             { w.paused = false }
func (w *fakeWire) CloseWrite()         { w.eof = true }
func (w *fakeWire) Close()              { w.closed = true }
func (w *fakeWire) Abort()              { w.aborted = true }
func (w *fakeWire) Loop() exchange.Loop { return &w.loop }
func (w *fakeWire) over() bool          { return w.eof || w.closed || w.aborted }

// feed gives p the bytes in pieces of the given size, as a transport would, and ends them with EOF.
func (w *fakeWire) feed(p exchange.Protocol, in []byte, piece int) {
	var held []byte
	give := func() {
		for !w.paused && len(held) > 0 {
			n, err := p.Feed(held)
			if err != nil {
				w.Abort()
			}
			held = held[n:]
			if n == 0 || w.closed || w.aborted {
				return
			}
		}
	}
	for len(in) > 0 && !w.closed && !w.aborted {
		k := min(piece, len(in))
		held = append(held, in[:k]...)
		in = in[k:]
		give()
		for _, f := range w.loop.posted {
			f()
		}
		w.loop.posted = nil
	}
	if !w.paused && !w.closed && !w.aborted {
		p.EOF()
	}
	p.Closed(nil)
}

// sink is a side that writes down what it is told, in a form that does not depend on how bytes were cut.
type sink struct {
	log    strings.Builder
	body   int
	answer *exchange.Head // a server's exchanges are answered with this when they end
}

func (s *sink) WriteHead(_ *exchange.Exchange, h *exchange.Head, end bool) {
	fmt.Fprintf(&s.log, "head %s %s %s %q %q %d %v %d end=%v\n", h.Method, h.Scheme, h.Authority, h.Path, h.Protocol, h.Status, h.Fields, h.Length, end)
}

func (s *sink) WriteData(x *exchange.Exchange, b []byte, end bool) {
	s.log.Write(b)
	s.body += len(b)
	if end {
		s.ended(x)
	}
}

func (s *sink) WriteTrailers(x *exchange.Exchange, f []exchange.Field) {
	fmt.Fprintf(&s.log, "trailers %v\n", f)
	s.ended(x)
}

func (s *sink) ended(x *exchange.Exchange) {
	s.log.WriteString("\nend\n")
	if s.answer != nil {
		x.ResponseHead(s.answer, true)
	}
}

func (s *sink) Reset(_ *exchange.Exchange, why exchange.Reason) {
	fmt.Fprintf(&s.log, "\nreset %d\n", why.Code)
}
func (s *sink) Consumed(*exchange.Exchange, int) {}

// serve runs a server over in and returns what came of it: what upstreams were told, and the answers.
func serve(in []byte, piece int, lim exchange.Limits) (told, answered string, w *fakeWire) {
	w = &fakeWire{}
	up := &sink{answer: &exchange.Head{Status: 204, Length: -1}}
	s := NewServer(w, ServerConfig{Limits: lim, Request: func(x *exchange.Exchange, h *exchange.Head, end bool) {
		up.WriteHead(x, h, end)
		x.Bind(credit{up})
		if end {
			up.ended(x)
		} else if x.Tunnel {
			x.ResponseHead(&exchange.Head{Status: 101, Length: -1}, false)
		}
	}})
	w.feed(s, in, piece)
	return up.log.String(), string(w.out), w
}

// credit is a sink that pays for what it is given at once.
type credit struct{ *sink }

func (c credit) WriteData(x *exchange.Exchange, b []byte, end bool) {
	x.Down.Consumed(x, len(b))
	c.sink.WriteData(x, b, end)
}
