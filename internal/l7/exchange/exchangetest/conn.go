package exchangetest

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"fairlead.io/fairlead/internal/l7/exchange"
)

// Conn is an exchange.Transport over a net.Conn.
type Conn struct {
	loop *Loop
	nc   net.Conn
	p    exchange.Protocol

	// the loop's
	in                      []byte
	out                     []byte
	pending                 int
	high, paused, eof       bool
	eofSaid, closing, ended bool
	halfClosing, dirty      bool
	MaxPending, MaxIn, Read int

	mu      sync.Mutex // protects what the goroutines share with the loop
	cond    *sync.Cond
	sending []byte
	stopped bool // reading is paused
	final   int  // what the writer does behind sending: 1 half-close, 2 close
	gone    bool
}

// Add makes a transport of nc. Its protocol is made by make, on the loop.
func (l *Loop) Add(nc net.Conn, protocol func(exchange.Transport) exchange.Protocol) *Conn {
	c := &Conn{loop: l, nc: nc}
	c.cond = sync.NewCond(&c.mu)
	l.group.Add(2)
	l.Post(func() {
		l.conns[c] = true
		c.p = protocol(c)
		go c.read()
		go c.write()
	})
	return c
}

// Write implements exchange.Transport.
func (c *Conn) Write(b []byte) {
	if c.ended || c.closing || c.halfClosing {
		return
	}
	c.out = append(c.out, b...)
	c.pending += len(b)
	c.MaxPending = max(c.MaxPending, c.pending)
	c.high = c.high || c.pending > exchange.LowWater
	c.touch()
}

func (c *Conn) touch() {
	if !c.dirty {
		c.dirty = true
		c.loop.dirty = append(c.loop.dirty, c)
	}
}

// flush hands the turn's output to the writer.
func (c *Conn) flush() {
	c.dirty = false
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sending = append(c.sending, c.out...)
	c.out = c.out[:0]
	if c.closing {
		c.final = 2
	} else if c.halfClosing {
		c.final = 1
	}
	c.cond.Broadcast()
}

// Pending implements exchange.Transport.
func (c *Conn) Pending() int { return c.pending }

// Pause implements exchange.Transport.
func (c *Conn) Pause() { c.pause(true) }

// Resume implements exchange.Transport.
func (c *Conn) Resume() {
	if !c.paused {
		return
	}
	c.pause(false)
	c.loop.Post(func() { c.feed(nil) })
}

func (c *Conn) pause(on bool) {
	c.paused = on
	c.mu.Lock()
	c.stopped = on
	c.mu.Unlock()
	c.cond.Broadcast()
}

// CloseWrite implements exchange.Transport.
func (c *Conn) CloseWrite() { c.halfClosing = true; c.touch() }

// Close implements exchange.Transport.
func (c *Conn) Close() { c.closing = true; c.touch() }

// Abort implements exchange.Transport.
func (c *Conn) Abort() {
	if t, ok := c.nc.(*net.TCPConn); ok {
		t.SetLinger(0)
	}
	c.closed(errors.New("aborted"))
}

// Trip implements exchange.Transport.
func (c *Conn) Trip() time.Duration { return 0 }

// Flows implements exchange.Transport.
func (c *Conn) Flows() bool { return true }

// Charge implements exchange.Transport.
func (c *Conn) Charge(*exchange.Budget) {}

// Loop implements exchange.Transport.
func (c *Conn) Loop() exchange.Loop { return c.loop }

// feed gives the protocol what has come, and the end if that has come too.
func (c *Conn) feed(b []byte) {
	if c.ended {
		return
	}
	c.in = append(c.in, b...)
	c.Read += len(b)
	c.MaxIn = max(c.MaxIn, len(c.in))
	if len(c.in) > 0 && !c.paused {
		n, err := c.p.Feed(c.in)
		if err != nil {
			c.Abort()
			return
		}
		c.in = c.in[:copy(c.in, c.in[n:])]
	}
	if c.eof && !c.paused && !c.eofSaid && !c.ended {
		c.eofSaid = true
		c.p.EOF()
	}
}

func (c *Conn) read() {
	defer c.loop.group.Done()
	buf := make([]byte, 32<<10)
	for {
		c.mu.Lock()
		for c.stopped && !c.gone {
			c.cond.Wait()
		}
		gone := c.gone
		c.mu.Unlock()
		if gone {
			return
		}
		n, err := c.nc.Read(buf)
		if n > 0 && !c.loop.Do(func() { c.feed(buf[:n]) }) {
			return
		}
		switch {
		case errors.Is(err, io.EOF):
			c.loop.Post(func() { c.eof = true; c.feed(nil) })
			return
		case err != nil:
			c.loop.Post(func() { c.closed(err) })
			return
		}
	}
}

func (c *Conn) write() {
	defer c.loop.group.Done()
	var buf []byte
	half := false
	for {
		c.mu.Lock()
		for len(c.sending) == 0 && !c.gone && (c.final == 0 || c.final == 1 && half) {
			c.cond.Wait()
		}
		buf, c.sending = c.sending, buf[:0]
		final, gone := c.final, c.gone
		c.mu.Unlock()
		if gone {
			return
		}
		n := len(buf)
		if _, err := c.nc.Write(buf); err != nil {
			c.loop.Post(func() { c.closed(err) })
			return
		}
		c.loop.Post(func() { c.sent(n) })
		c.mu.Lock()
		rest := len(c.sending)
		c.mu.Unlock()
		if rest > 0 {
			continue
		}
		if final == 2 {
			c.loop.Post(func() { c.closed(nil) })
			return
		}
		if t, ok := c.nc.(*net.TCPConn); ok && final == 1 && !half {
			half = true
			_ = t.CloseWrite() // the peer may have reset it meanwhile
		}
	}
}

func (c *Conn) sent(n int) {
	c.pending -= n
	if c.pending == 0 && c.high && !c.ended {
		c.high = false
		c.p.Writable()
	}
}

func (c *Conn) closed(err error) {
	if c.ended {
		return
	}
	c.ended = true
	delete(c.loop.conns, c)
	c.mu.Lock()
	c.gone = true
	c.mu.Unlock()
	c.cond.Broadcast()
	c.nc.Close()
	c.p.Closed(err)
}
