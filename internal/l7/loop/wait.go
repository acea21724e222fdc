package loop

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// waiting is how a loop parks: its epoll descriptor is nested in the Go netpoller.
type waiting struct {
	poll  func(fd uintptr) bool // made once: a closure for each park would be garbage
	n     int                   // what it found
	err   error
	armed time.Time // deadline that the netpoller holds

	parked atomic.Bool
}

func (l *Loop) poll(fd uintptr) bool {
	l.idle.n, l.idle.err = ready(int(fd), l.events[:])
	return l.idle.n != 0
}

// wait parks until there are events or the next timer is due.
func (l *Loop) wait() (int, error) {
	if l.unsettled() {
		runtime.Gosched()
		return l.look(), nil
	}
	w := &l.idle
	if due := l.timers.next(); !due.Equal(w.armed) {
		w.armed = due
		if err := l.file.SetReadDeadline(due); err != nil {
			return 0, fmt.Errorf("arm loop timer: %w", err)
		}
	}
	w.parked.Store(true)
	err := l.raw.Read(w.poll)
	w.parked.Store(false)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		w.armed = past // no due time equals it: the deadline is set anew
		// With the deadline passed the poller does not even look: look here, so that timers cannot starve events.
		return l.look(), nil
	case err != nil:
		return 0, fmt.Errorf("wait for events: %w", err)
	case w.n < 0 && w.err == unix.EINTR:
		return 0, nil
	case w.n < 0:
		return 0, fmt.Errorf("epoll wait: %w", w.err)
	}
	return w.n, nil
}

// past is a deadline that has passed.
var past = time.Unix(0, 1)

// Nudge wakes the loop if it is parked though there are events for it. While goroutines keep every processor busy, the runtime asks its
// netpoller every 10 ms only, so whoever works long without waiting looks for the loop. It may be called from any goroutine until Run
// has returned.
func (l *Loop) Nudge() {
	if !l.idle.parked.Load() {
		return
	}
	var one [1]unix.EpollEvent
	if n, err := ready(l.epoll, one[:]); err == nil && n > 0 {
		_ = l.file.SetReadDeadline(past) // a wait that finds it passed looks, and sets its own anew
	}
}

// look is what there is now. An error comes again when the loop parks.
func (l *Loop) look() int {
	n, _ := ready(l.epoll, l.events[:])
	return max(n, 0)
}

const (
	// A loop is busy that had crowd events in a window.
	window = time.Millisecond
	crowd  = 30
	// gathering is how long a busy loop waits for more before it sends.
	gathering = 25 * time.Microsecond
)

// pace tells whether events come so fast that a short wait before sending gathers more of them into one write, one record and one
// wake-up of the peer. A loop that serves quickly would else be woken for each, and cost more than a slow one. What counts are
// events and not turns, since the wait makes those fewer.
type pace struct {
	since  time.Time
	events int
	busy   bool
}

// saw counts the events of a turn.
func (p *pace) saw(n int, now time.Time) {
	p.events += n
	if d := now.Sub(p.since); d >= window {
		p.busy = d < 2*window && p.events >= crowd
		p.since, p.events = now, 0
	}
}
