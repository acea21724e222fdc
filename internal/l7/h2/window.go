package h2

import (
	"time"

	"fairlead.io/fairlead/internal/l7/exchange"
)

// window is the room that the peer has been given to send in, on a stream or on a connection. It grows while the peer could
// send more than fits: when at least half of it is used up in a round trip. Where the bytes go on more slowly, or the path
// is short, it stays as it is.
type window struct {
	size   int64 // of all of it
	left   int64 // of that, unused
	refund int64 // to be given back
	paid   time.Time
}

// widest is the rate that the windows of a path are enough for: 10 Gbit/s, by bytes per second.
const widest = 10e9 / 8

// take uses n bytes up. It returns false if there were fewer.
func (w *window) take(n int64) bool {
	w.left -= n
	return w.left >= 0
}

// give returns n bytes, when enough have come together to be worth a WINDOW_UPDATE, whose increment it returns.
func (w *window) give(n int64, part int64, c *conn, most int64) int64 {
	w.refund += n
	if w.refund < w.size/part {
		return 0
	}
	now := c.t.Loop().Now()
	trip := c.t.Trip()
	fast := float64(now.Sub(w.paid))*float64(w.size) < 2*float64(trip)*float64(w.refund) // half of it and more in a round trip
	if fast && !w.paid.IsZero() && !c.budget.Tight() {
		if more := min(w.size, min(most, int64(trip.Seconds()*widest))-w.size); more > 0 {
			w.size += more
			w.refund += more
		}
	}
	w.paid = now
	n = w.refund
	w.left += n
	w.refund = 0
	return n
}

// Shed gives up the streams that hold what their peer has not taken, hardly a byte, between the last times it was called. It is
// for a budget that is short.
func (c *conn) Shed() {
	now := c.t.Loop().Now()
	for _, st := range c.streams {
		if len(st.queue)-st.head+len(st.held) < exchange.Least || !st.pace.Stuck(now) || !c.budget.Tight() {
			continue
		}
		c.giveUp(st)
	}
}

// giveUp ends a stream that holds too much of the budget.
func (c *conn) giveUp(st *stream) {
	c.budget.Refuse()
	c.abandon(st, codeCalm)
	c.role.lost(st, exchange.Reason{Code: exchange.CodeLimit, Detail: "buffer limit"})
	c.role.freed()
}
