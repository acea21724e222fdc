// Package wiretest has the two ends that a codec's own tests need: a transport without a network, and a side that
// writes down what it is told.
package wiretest

import (
	"fmt"
	"strings"
	"time"

	"fairlead.io/fairlead/internal/l7/exchange"
)

// Sched is a loop whose turns the test takes.
type Sched struct {
	Time   time.Time
	posted []func()
	timers []*timer
}

type timer struct {
	at time.Time
	f  func()
}

// Now implements exchange.Loop.
func (l *Sched) Now() time.Time { return l.Time }

// Post implements exchange.Loop.
func (l *Sched) Post(f func()) { l.posted = append(l.posted, f) }

// After implements exchange.Loop.
func (l *Sched) After(d time.Duration, f func()) func() {
	t := &timer{l.Time.Add(d), f}
	l.timers = append(l.timers, t)
	return func() { t.f = nil }
}

// Turn runs what was posted.
func (l *Sched) Turn() {
	for _, f := range l.posted {
		f()
	}
	l.posted = nil
}

// Advance lets time pass, and the timers that it brings due run.
func (l *Sched) Advance(d time.Duration) {
	l.Time = l.Time.Add(d)
	all := l.timers
	l.timers = nil
	for _, t := range all {
		switch {
		case t.f == nil:
		case t.at.After(l.Time):
			l.timers = append(l.timers, t)
		default:
			t.f()
		}
	}
	l.Turn()
}

// Wire is a transport without a network: what is written stays in Out.
type Wire struct {
	Sched      Sched
	Out        []byte
	Full       int           // what Pending says
	RTT        time.Duration // what Trip says
	Paused     bool
	HalfClosed bool // by us
	Ended      bool
	Aborted    bool
	held       []byte
}

// Write implements exchange.Transport.
func (w *Wire) Write(b []byte) {
	if !w.Over() {
		w.Out = append(w.Out, b...)
	}
}

// Pending implements exchange.Transport.
func (w *Wire) Pending() int { return w.Full }

// Pause implements exchange.Transport.
func (w *Wire) Pause() { w.Paused = true }

// Resume implements exchange.Transport.
func (w *Wire) Resume() { w.Paused = false }

// CloseWrite implements exchange.Transport.
func (w *Wire) CloseWrite() { w.HalfClosed = true }

// Close implements exchange.Transport.
func (w *Wire) Close() { w.Ended = true }

// Abort implements exchange.Transport.
func (w *Wire) Abort() { w.Aborted = true }

// Trip implements exchange.Transport.
func (w *Wire) Trip() time.Duration { return w.RTT }

// Flows implements exchange.Transport.
func (w *Wire) Flows() bool { return false }

// Charge implements exchange.Transport.
func (w *Wire) Charge(*exchange.Budget) {}

// Loop implements exchange.Transport.
func (w *Wire) Loop() exchange.Loop { return &w.Sched }

// Over tells whether nothing can be written any more.
func (w *Wire) Over() bool { return w.HalfClosed || w.Ended || w.Aborted }

// Feed gives p bytes in pieces of the given size, as a transport would.
func (w *Wire) Feed(p exchange.Protocol, in []byte, piece int) {
	for len(in) > 0 && !w.Ended && !w.Aborted {
		k := min(piece, len(in))
		w.held = append(w.held, in[:k]...)
		in = in[k:]
		w.Again(p)
	}
}

// Again feeds p what it has left over, unless it has paused.
func (w *Wire) Again(p exchange.Protocol) {
	for !w.Paused && len(w.held) > 0 && !w.Ended && !w.Aborted {
		n, err := p.Feed(w.held)
		if err != nil {
			w.Abort()
		}
		w.held = w.held[n:]
		if n == 0 {
			break
		}
	}
	w.Sched.Turn()
}

// End ends what p is fed, and then the connection.
func (w *Wire) End(p exchange.Protocol) {
	if !w.Paused && !w.Ended && !w.Aborted {
		p.EOF()
	}
	p.Closed(nil)
}

// Sink is a side that writes down what it is told, in a form that does not depend on how bytes were cut.
type Sink struct {
	Log    strings.Builder
	Answer *exchange.Head // a server's exchanges are answered with this when they end
}

// WriteHead implements exchange.Side.
func (s *Sink) WriteHead(_ *exchange.Exchange, h *exchange.Head, end bool) {
	fmt.Fprintf(&s.Log, "head %s %s %s %q %q %d %v %d end=%v\n", h.Method, h.Scheme, h.Authority, h.Path, h.Protocol, h.Status, h.Fields, h.Length, end)
}

// WriteData implements exchange.Side.
func (s *Sink) WriteData(x *exchange.Exchange, b []byte, end bool) {
	s.Log.Write(b)
	if end {
		s.Done(x)
	}
}

// WriteTrailers implements exchange.Side.
func (s *Sink) WriteTrailers(x *exchange.Exchange, f []exchange.Field) {
	fmt.Fprintf(&s.Log, "trailers %v\n", f)
	s.Done(x)
}

// Done notes the end of a message, and answers if there is an Answer.
func (s *Sink) Done(x *exchange.Exchange) {
	s.Log.WriteString("\nend\n")
	if s.Answer != nil {
		x.ResponseHead(s.Answer, true)
	}
}

// Reset implements exchange.Side.
func (s *Sink) Reset(_ *exchange.Exchange, why exchange.Reason) {
	fmt.Fprintf(&s.Log, "\nreset %d\n", why.Code)
}

// Consumed implements exchange.Side.
func (s *Sink) Consumed(*exchange.Exchange, int) {}

// Credit is an upstream Sink that pays for what it is given at once.
type Credit struct{ *Sink }

// WriteData implements exchange.Side.
func (c Credit) WriteData(x *exchange.Exchange, b []byte, end bool) {
	x.Down.Consumed(x, len(b))
	c.Sink.WriteData(x, b, end)
}

// Payer is a downstream Sink that pays for what it is given at once.
type Payer struct{ *Sink }

// WriteData implements exchange.Side.
func (p Payer) WriteData(x *exchange.Exchange, b []byte, end bool) {
	if x.Up != nil {
		x.Up.Consumed(x, len(b))
	}
	p.Sink.WriteData(x, b, end)
}
