package loop

import (
	"io"
	"net"
	"sync"
	"testing"

	"fairlead.io/fairlead/internal/l7/exchange"
)

// TestTurnsAreShared has one owner with many events and one with a single event, all of them there before the loop looks: the single one
// is served first, and all of the others come to their turn.
func TestTurnsAreShared(t *testing.T) {
	const many = 5 * turnShare
	l := start(t)
	var mu sync.Mutex // protects order
	var order []string
	attach := func(owner string) *net.TCPConn {
		c, s := pair(t)
		e := newEcho()
		e.feed = func(b []byte) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			order = append(order, owner)
			e.t.Write(b)
			return len(b), nil
		}
		if err := l.Attach(s, nil, e.starts(owner)); err != nil {
			t.Fatal(err)
		}
		return c
	}
	var crowd []*net.TCPConn
	for range many {
		crowd = append(crowd, attach("crowd"))
	}
	single := attach("single")
	send := func(c *net.TCPConn) {
		if _, err := io.WriteString(c, "x"); err != nil {
			t.Fatal(err)
		}
	}
	receive := func(c *net.TCPConn) {
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []*net.TCPConn{crowd[0], single} { // the loop learns that it is shared
		send(c)
		receive(c)
	}
	for range 10 {
		held, let := make(chan struct{}), make(chan struct{})
		l.Post(func() { close(held); <-let })
		<-held
		mu.Lock()
		order = nil
		mu.Unlock()
		for _, c := range append(crowd, single) {
			send(c)
		}
		close(let)
		for _, c := range append(crowd, single) {
			receive(c)
		}
		mu.Lock()
		if len(order) != many+1 || order[0] != "single" {
			t.Errorf("%d were served, in the order %v", len(order), order)
		}
		mu.Unlock()
	}
}

// starts is start with an owner.
func (e *echo) starts(owner any) func(exchange.Transport) exchange.Protocol {
	return func(t exchange.Transport) exchange.Protocol {
		Own(t, owner)
		return e.start(t)
	}
}
