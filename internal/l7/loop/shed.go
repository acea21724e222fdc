package loop

import (
	"errors"

	"fairlead.io/fairlead/internal/l7/exchange"
)

var errShed = errors.New("connection held too much and stood still")

// Shed resets the connections charged to b that hold more than a little, and have hardly moved a byte between the last times
// that it was called, until b is not tight any more. It is called on the loop.
func (l *Loop) Shed(b *exchange.Budget) {
	for _, c := range l.conns {
		if c == nil || !c.kept.Of(b) || c.kept.Held() < exchange.Least || !c.pace.Stuck(l.now) || !b.Tight() {
			continue
		}
		b.Refuse()
		l.guard(c, func() { c.fail(errShed) })
	}
}
