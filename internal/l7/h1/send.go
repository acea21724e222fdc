package h1

import (
	"fairlead.io/fairlead/internal/l7/exchange"
)

// Send writes a request's head. On error nothing has been written and x is untouched. It never calls x; the caller
// calls x.Bind behind it.
func (c *Client) Send(x *exchange.Exchange, h *exchange.Head, end bool) error {
	if !c.Idle() {
		return ErrBusy
	}
	if c.served > 0 && c.t.Unread() { // and nobody has asked for it, or it is the end
		c.close()
		return ErrBusy
	}
	x.Hold()
	c.x, c.state, c.scan = x, atHead, scanner{}
	c.reqEnded, c.respEnded, c.anybyte = end, false, false
	c.interim, c.unpaid, c.owed = 0, 0, 0
	c.early, c.earlyFn = nil, false
	c.kept.Set(0)
	c.asked, c.connect = h.Protocol, h.Method == "CONNECT" && h.Protocol == ""
	c.writeRequest(h, end)
	return nil
}

// WriteHead implements exchange.Side.
func (c *Client) WriteHead(x *exchange.Exchange, h *exchange.Head, end bool) {
	if err := c.Send(x, h, end); err != nil {
		x.ResponseReset(exchange.Reason{Code: exchange.CodeConnect, Unprocessed: true, Detail: err.Error()})
	}
}

func (c *Client) writeRequest(h *exchange.Head, end bool) {
	method, target := h.Method, h.Path
	switch {
	case h.Protocol != "" && method == "CONNECT": // it arrived as extended CONNECT (RFC 8441)
		method = "GET"
	case method == "CONNECT":
		target = h.Authority
	}
	length := c.frame(h, end)
	old := h.Version == exchange.HTTP10 && c.out.kind != chunks && h.Protocol == ""
	b := append(append(append(c.buf[:0], method...), ' '), target...)
	if old {
		b = append(b, " HTTP/1.0\r\n"...)
	} else {
		b = append(b, " HTTP/1.1\r\n"...)
	}
	if h.Authority != "" || !old {
		b = appendField(b, "Host", h.Authority)
	}
	b = appendFields(b, h.Fields, length, true)
	if c.out.kind == chunks {
		b = appendField(b, "Transfer-Encoding", "chunked")
	}
	if h.Protocol != "" {
		b = appendField(appendField(b, "Connection", "Upgrade"), "Upgrade", h.Protocol)
		b = appendWebSocketKey(b, h)
	}
	b = append(b, crlf...)
	c.t.Write(b)
	c.buf = room(b)
}

// frame chooses the body's framing and returns the length to announce, or -1.
func (c *Client) frame(h *exchange.Head, end bool) int64 {
	c.out = out{}
	switch {
	case h.Method == "CONNECT" || h.Protocol != "":
		return -1
	case end: // whatever it declared: there is no body
		if h.Length >= 0 || h.Method == "POST" || h.Method == "PUT" || h.Method == "PATCH" {
			return 0
		}
	case h.Length >= 0 && !announcesTrailers(h):
		c.out.kind, c.out.left = counted, h.Length
		return h.Length
	default:
		c.out.kind = chunks
	}
	return -1
}

// WriteData implements exchange.Side.
func (c *Client) WriteData(x *exchange.Exchange, b []byte, end bool) {
	if x != c.x {
		return
	}
	if c.reqEnded { // a refused tunnel's bytes
		x.Down.Consumed(x, len(b))
		return
	}
	tunnel := c.connect || c.asked != ""
	if tunnel && c.state == atHead {
		c.early, c.earlyFn = append(c.early, b...), end
		c.kept.Set(len(c.early))
		return
	}
	if len(b) > 0 && overdrawn(c.t, len(b), c.cfg.Budget) {
		c.fail(exchange.Reason{Code: exchange.CodeLimit, Detail: "buffer limit"})
		c.t.Abort()
		return
	}
	if err := c.out.write(c.t, b, end); err != nil {
		c.fail(exchange.Reason{Code: exchange.CodeProtocol, Detail: err.Error()})
		c.t.Abort()
		return
	}
	c.pay(x, len(b))
	if end {
		if tunnel && c.state == atTunnel {
			c.t.CloseWrite()
		}
		c.endRequest()
	}
}

// WriteTrailers implements exchange.Side.
func (c *Client) WriteTrailers(x *exchange.Exchange, f []exchange.Field) {
	if x != c.x || c.reqEnded {
		return
	}
	if err := c.out.trailers(c.t, f); err != nil {
		c.fail(exchange.Reason{Code: exchange.CodeProtocol, Detail: err.Error()})
		c.t.Abort()
		return
	}
	c.endRequest()
}

// endRequest notes the request's end. If the response has ended before, the connection settles on a turn of its
// own, for the exchange is still being worked on here.
func (c *Client) endRequest() {
	c.reqEnded = true
	if x := c.x; c.respEnded {
		c.t.Loop().Post(func() {
			if c.x == x {
				c.settle()
			}
		})
	}
}

func (c *Client) pay(x *exchange.Exchange, n int) {
	switch {
	case n == 0:
	case c.t.Pending() > c.cfg.Budget.HighWater():
		c.owed += n
	default:
		x.Down.Consumed(x, n)
	}
}

// Reset implements exchange.Side.
func (c *Client) Reset(x *exchange.Exchange, _ exchange.Reason) {
	if x != c.x {
		return
	}
	c.cancelTimer()
	c.forget()
	c.state = atEnd
	c.t.Abort()
}

// Consumed implements exchange.Side.
func (c *Client) Consumed(x *exchange.Exchange, n int) {
	if x != c.x {
		return
	}
	c.unpaid = max(c.unpaid-n, 0)
	if c.unpaid <= c.lim.Body/2 {
		c.t.Resume()
	}
}
