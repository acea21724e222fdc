package loop

import (
	"io"
	"net"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/l7/exchange"
)

// charged attaches an echo's connection whose bytes are counted.
func charged(t *testing.T, s *net.TCPConn, e *echo) (*Loop, *exchange.Budget) {
	t.Helper()
	l, b, ready := start(t), &exchange.Budget{Limit: 64 << 20}, make(chan struct{})
	err := l.Attach(s, nil, func(tr exchange.Transport) exchange.Protocol {
		defer close(ready)
		tr.Charge(b)
		return e.start(tr)
	})
	if err != nil {
		t.Fatal(err)
	}
	<-ready
	return l, b
}

// TestSentBytesAreNotKept: a writer that is always a little ahead of its reader keeps what waits, and not what has gone.
func TestSentBytesAreNotKept(t *testing.T) {
	c, s := pair(t)
	s.SetWriteBuffer(32 << 10)
	c.SetReadBuffer(32 << 10)
	c.SetDeadline(time.Now().Add(time.Minute))
	e := newEcho()
	l, _ := charged(t, s, e)
	piece, buf := make([]byte, 16<<10), make([]byte, 16<<10)
	for range 1000 {
		kept := make(chan int, 1)
		l.Post(func() {
			for e.t.Pending() < 192<<10 { // below HighWater, as every codec
				e.t.Write(piece)
			}
			kept <- cap(e.t.(*conn).wire)
		})
		if n := <-kept; n > 1<<20 {
			t.Fatalf("%d KiB are kept", n>>10)
		}
		if _, err := io.ReadFull(c, buf); err != nil {
			t.Fatal(err)
		}
	}
}

// TestASmallRestKeepsASmallBuffer: one byte that is left of a large read does not keep the room of all.
func TestASmallRestKeepsASmallBuffer(t *testing.T) {
	c, s := pair(t)
	e := newEcho()
	e.feed = func(b []byte) (int, error) { return len(b) - 1, nil }
	l, b := charged(t, s, e)
	for range 10 {
		c.Write([]byte("xx"))
		time.Sleep(2 * time.Millisecond) // to be read by itself, mostly
		c.Write(make([]byte, 64<<10))
		time.Sleep(5 * time.Millisecond) // likewise
	}
	done := make(chan struct{})
	l.Post(func() {
		defer close(done)
		in := e.t.(*conn).in
		if len(in) != 1 || cap(in) > 16<<10 || b.Used() < int64(cap(in)) {
			t.Errorf("%d bytes in a buffer of %d, of which %d are counted", len(in), cap(in), b.Used())
		}
	})
	<-done
}
