package h1

import (
	"fairlead.io/fairlead/internal/l7/exchange"
)

// ClientConfig is what a client needs to know.
type ClientConfig struct {
	Limits exchange.Limits
	Memo   *Memo // shared with the other connections of the loop; may be nil
	Budget *exchange.Budget
	// OnIdle, if set, is called whenever the connection can take the next request.
	OnIdle func(*Client)
	// OnClosed, if set, is called once, when the connection has ended.
	OnClosed func(*Client, error)
}

// Client is the upstream end: it sends one request at a time and reads its response.
//
// What comes behind a response belongs to no request: the connection is closed, be it that it came with the response, while the connection
// was idle, or that the kernel has it when the next request is about to be written. Responses of HTTP/1.1 have no number, so that what
// a server sends later than that is the next one's response for us, as for every client. Who can be given it is bounded by who shares the
// connection: the clients of one pod.
type Client struct {
	t    exchange.Transport
	cfg  ClientConfig
	lim  exchange.Limits
	head response // that is being read

	x       *exchange.Exchange
	state   state // atHead: before a response's head; atWait: no request; atBody, atTunnel, atEnd as in a server
	scan    scanner
	in      body
	out     out
	early   []byte           // tunnel bytes that came before the tunnel was accepted
	kept    exchange.Account // of early
	earlyFn bool             // and their end
	asked   string
	connect bool

	persist, draining            bool
	reqEnded, respEnded, anybyte bool
	interim, unpaid, owed        int
	served                       int
	stopTimer                    func()
	buf                          []byte
}

// NewClient makes a client for a connection to a server.
func NewClient(t exchange.Transport, cfg ClientConfig) *Client {
	t.Charge(cfg.Budget)
	c := &Client{t: t, cfg: cfg, lim: cfg.Limits.WithDefaults(), state: atWait}
	c.kept.Open(cfg.Budget)
	return c
}

// Idle tells whether Send may be called.
func (c *Client) Idle() bool { return c.state == atWait && c.x == nil && !c.draining }

// Drain closes the connection, after the exchange in progress if there is one.
func (c *Client) Drain() {
	c.draining = true
	if c.state == atWait {
		c.close()
	}
}

// Feed implements exchange.Protocol.
func (c *Client) Feed(b []byte) (int, error) {
	n := 0
	for n < len(b) {
		var k int
		switch c.state {
		case atHead:
			c.anybyte = true
			k = c.readHead(b[n:])
		case atBody, atTunnel:
			if c.respEnded {
				k = len(b) - n // behind a whole response, while the request is still going out
				c.persist = false
				break
			}
			k = c.readBody(b[n:])
		case atWait:
			c.close() // nobody has asked for this
		}
		if c.state == atEnd {
			return len(b), nil
		}
		if k == 0 {
			return n, nil
		}
		n += k
	}
	c.settle()
	return n, nil
}

func (c *Client) readHead(b []byte) int {
	end, err := c.scan.scan(b, &c.lim)
	if err != nil {
		c.broken("malformed response head")
		return 0
	}
	if end == 0 {
		if len(b) > headShare && c.cfg.Budget.Critical() {
			c.cfg.Budget.Refuse()
			c.fail(exchange.Reason{Code: exchange.CodeLimit, Detail: "buffer limit"})
			c.t.Abort()
		}
		return 0
	}
	r := &c.head
	if err := r.parse(b[:end], c.cfg.Memo, c.x.Head, c.connect); err != nil {
		c.broken("malformed response head")
		return 0
	}
	defer r.forget()
	x := c.x
	switch {
	case r.head.Status == 101:
		if c.asked == "" || !r.upgrade {
			c.broken("unasked switch of protocols")
			return 0
		}
		c.openTunnel(r)
	case r.head.Status < 200:
		if c.interim++; c.interim > c.lim.Interim {
			c.broken("too many interim responses")
			return 0
		}
		x.ResponseHead(&r.head, false)
	case c.connect && r.head.Status < 300:
		c.openTunnel(r)
	default:
		c.begin(r)
	}
	return end
}

// begin passes a final head on and gets ready for its body.
func (c *Client) begin(r *response) {
	x := c.x
	c.in = body{kind: r.body, left: r.head.Length}
	c.persist = r.persist
	c.state, c.respEnded = atBody, r.body == none
	if x.Tunnel { // refused: the request was its head alone
		dropped := len(c.early)
		c.reqEnded, c.early = true, nil
		c.kept.Set(0)
		x.Down.Consumed(x, dropped)
	}
	x.ResponseHead(&r.head, r.body == none)
}

// openTunnel passes the acceptance on, and what has waited for it.
func (c *Client) openTunnel(r *response) {
	x := c.x
	c.state, c.persist = atTunnel, false
	c.out.kind = untilClose
	x.ResponseHead(&r.head, false)
	if c.x != x {
		return
	}
	early, end := c.early, c.earlyFn
	c.early = nil
	c.kept.Set(0)
	if len(early) > 0 || end {
		c.WriteData(x, early, end)
	}
}

func (c *Client) readBody(b []byte) int {
	if c.unpaid >= c.lim.Body {
		c.t.Pause()
		return 0
	}
	x := c.x
	if c.state == atTunnel {
		c.unpaid += len(b)
		x.ResponseData(b, false)
		return len(b)
	}
	data, n, done, err := c.in.next(b, &c.lim)
	if err != nil {
		c.broken("malformed response body")
		return 0
	}
	c.unpaid += len(data)
	switch {
	case done:
		c.respEnded = true
		if len(c.in.trailers) > 0 {
			x.ResponseTrailers(c.in.trailers)
		} else {
			x.ResponseData(data, true)
		}
	case len(data) > 0:
		x.ResponseData(data, false)
	}
	return n
}

// settle makes the connection idle, or ends it, when request and response have ended. A request that is still
// going out behind its response gets a little longer.
func (c *Client) settle() {
	if c.x == nil || !c.respEnded {
		return
	}
	if !c.reqEnded {
		if c.stopTimer == nil && c.state != atTunnel {
			c.stopTimer = c.t.Loop().After(c.lim.Linger, c.stop)
		}
		return
	}
	c.cancelTimer()
	tunnel := c.state == atTunnel
	c.forget()
	c.served++
	if tunnel || !c.persist || c.draining {
		c.close()
		return
	}
	c.state = atWait
	c.t.Resume()
	if c.cfg.OnIdle != nil {
		c.cfg.OnIdle(c)
	}
}

// stop takes no more of a request whose response is whole.
func (c *Client) stop() {
	c.stopTimer = nil
	x := c.x
	c.close()
	if x != nil {
		c.refund(x)
		x.ResponseReset(exchange.Reason{})
	}
}

// broken ends a connection whose peer does not speak HTTP.
func (c *Client) broken(detail string) {
	c.fail(exchange.Reason{Code: exchange.CodeProtocol, Detail: detail})
	c.t.Abort()
}

// fail tells the exchange that its connection is gone.
func (c *Client) fail(why exchange.Reason) {
	ended := c.respEnded
	c.cancelTimer()
	x := c.forget()
	c.state = atEnd
	if x == nil {
		return
	}
	c.refund(x)
	if ended {
		why = exchange.Reason{}
	}
	x.ResponseReset(why)
}

// forget lets go of the exchange, which may still be used in this turn.
func (c *Client) forget() *exchange.Exchange {
	x := c.x
	c.x, c.early = nil, nil
	c.kept.Set(0)
	if x != nil {
		x.Drop()
	}
	return x
}

// refund gives credit for bytes that will not be sent any more.
func (c *Client) refund(x *exchange.Exchange) {
	if n := c.owed; n > 0 {
		c.owed = 0
		x.Down.Consumed(x, n)
	}
}

func (c *Client) close() {
	c.cancelTimer()
	c.forget()
	c.state = atEnd
	c.t.Close()
}

func (c *Client) cancelTimer() {
	if c.stopTimer != nil {
		c.stopTimer()
		c.stopTimer = nil
	}
}

// EOF implements exchange.Protocol.
func (c *Client) EOF() {
	switch c.state {
	case atWait:
		c.close()
	case atHead:
		c.fail(c.gone())
		c.t.Close()
	case atBody:
		if c.in.kind == untilClose && !c.respEnded {
			c.respEnded = true
			c.x.ResponseData(nil, true)
		}
		if c.respEnded && c.reqEnded {
			c.settle()
			return
		}
		c.fail(c.gone())
		c.t.Close()
	case atTunnel:
		if !c.respEnded {
			c.respEnded = true
			c.x.ResponseData(nil, true)
			c.settle()
		}
	}
}

// gone is the reason for an exchange whose connection closed.
func (c *Client) gone() exchange.Reason {
	return exchange.Reason{Code: exchange.CodeClosed, Reused: c.served > 0 && !c.anybyte, Detail: "server closed"}
}

// Writable implements exchange.Protocol.
func (c *Client) Writable() {
	if c.x != nil {
		c.refund(c.x)
	}
}

// Closed implements exchange.Protocol.
func (c *Client) Closed(err error) {
	c.fail(c.gone())
	if c.cfg.OnClosed != nil {
		c.cfg.OnClosed(c, err)
	}
}
