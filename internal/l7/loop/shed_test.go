package loop

import (
	"testing"
	"time"

	"fairlead.io/fairlead/internal/l7/exchange"
)

// TestShedStopsInTime: of those who all stand still, so many are given up as bring the budget down, and no more.
func TestShedStopsInTime(t *testing.T) {
	const conns, each = 8, 256 << 10
	l, b := start(t), &exchange.Budget{Limit: conns * each}
	var refused int
	b.Refused = func() { refused++ }
	var all []*echo
	for range conns {
		c, s := pair(t)
		c.SetReadBuffer(4 << 10)
		s.SetWriteBuffer(4 << 10)
		e, ready := newEcho(), make(chan struct{})
		err := l.Attach(s, nil, func(tr exchange.Transport) exchange.Protocol {
			defer close(ready)
			tr.Charge(b)
			tr.Write(make([]byte, each))
			return e.start(tr)
		})
		if err != nil {
			t.Fatal(err)
		}
		<-ready
		all = append(all, e)
	}
	for look := range 5 {
		time.Sleep(600 * time.Millisecond) // looks that are nearer to each other count as one
		done := make(chan struct{})
		l.Post(func() {
			l.Shed(b)
			close(done)
		})
		<-done
		if look == 0 && refused > 0 {
			t.Fatal("one look has given up", refused)
		}
	}
	if refused == 0 || refused > conns-1 || b.Tight() {
		t.Errorf("%d of %d were given up; %d bytes of %d are in use", refused, conns, b.Used(), b.Limit)
	}
	for _, e := range all {
		l.Post(func() { e.t.Abort() })
	}
}
