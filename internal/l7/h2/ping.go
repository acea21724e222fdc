package h2

import (
	"time"

	"fairlead.io/fairlead/internal/l7/exchange"
)

// keepAlive and drain pings are told apart by their payload.
var (
	pingAlive = [8]byte{'a', 'l', 'i', 'v', 'e'}
	pingDrain = [8]byte{'d', 'r', 'a', 'i', 'n'}
)

// pinger asks a silent peer whether it is alive.
type pinger struct {
	heard, waiting bool
	cancel         func()
	onDrain        func()
}

func (p *pinger) stop() {
	if p.cancel != nil {
		p.cancel()
		p.cancel = nil
	}
}

func (p *pinger) acked(payload []byte) {
	if string(payload) == string(pingDrain[:]) && p.onDrain != nil {
		f := p.onDrain
		p.onDrain = nil
		f()
	}
}

// keepAlive looks every so often whether anything was heard; if not it sends a PING and waits for as long again.
func (c *conn) keepAlive(every time.Duration) {
	if every <= 0 {
		return
	}
	c.ping.cancel = c.t.Loop().After(every, func() { c.checkAlive(every) })
}

func (c *conn) checkAlive(every time.Duration) {
	switch {
	case c.dead:
		return
	case c.ping.heard:
		c.ping.waiting = false
	case c.ping.waiting:
		c.down(exchange.Reason{Code: exchange.CodeTimeout, Detail: "no answer to PING"})
		c.t.Abort()
		return
	default:
		c.ping.waiting = true
		c.writeFrame(framePing, 0, 0, pingAlive[:])
	}
	c.ping.heard = false
	c.keepAlive(every)
}
