package h2

import (
	"time"

	"fairlead.io/fairlead/internal/l7/exchange"
)

// ClientConfig is what a client needs to know.
type ClientConfig struct {
	Limits  exchange.Limits
	Private bool
	Shared  *Shared // with the other connections of the loop; may be nil
	Budget  *exchange.Budget
	Ping    time.Duration // of silence before a PING, and to wait for its answer; 0 is never
	// OnReady, if set, is called when a stream has ended or the peer's first SETTINGS have come: CanSend may have
	// become true, and Streams may have become 0.
	OnReady func(*Client)
	// OnDraining, if set, is called once, when the connection takes no new streams any more.
	OnDraining func(*Client)
	// OnClosed, if set, is called once, when the connection has ended.
	OnClosed func(*Client, error)
}

// Client is the upstream end: it sends requests, many at a time, and reads their responses.
type Client struct {
	conn
	cfg    ClientConfig
	nextID uint32
}

// NewClient makes a client for a connection to a server, and sends preface and settings.
func NewClient(t exchange.Transport, cfg ClientConfig) *Client {
	c := &Client{cfg: cfg, nextID: 1}
	c.init(t, cfg.Limits, (*clientRole)(c), cfg.Private, false, cfg.Shared, cfg.Budget)
	c.start()
	c.keepAlive(cfg.Ping)
	return c
}

// CanSend tells whether Send may be called.
func (c *Client) CanSend() bool {
	return !c.dead && !c.goingAway && len(c.streams) < int(min(c.peerStreams, 1<<20)) && c.nextID < maxWindow-2
}

// Drain starts no more streams, and closes the connection behind the last.
func (c *Client) Drain() {
	if c.dead || c.goingAway {
		return
	}
	c.writeGoAway(0, codeNone)
	c.leave()
	c.drained()
}

// leave starts no more streams.
func (c *Client) leave() {
	if c.goingAway {
		return
	}
	c.goingAway = true
	if c.cfg.OnDraining != nil {
		c.cfg.OnDraining(c)
	}
}

// Send writes a request's head. On error nothing has been written and x is untouched. It never calls x; the caller
// calls x.Bind behind it.
func (c *Client) Send(x *exchange.Exchange, h *exchange.Head, end bool) error {
	if !c.CanSend() {
		return ErrFull
	}
	if h.Protocol != "" && !c.private && !c.peerConnect {
		return ErrProtocol
	}
	x.Hold()
	st := c.newStream(c.nextID, x)
	x.UpState = st
	c.lastPeer = c.nextID // the newest stream that is not idle
	c.nextID += 2
	st.extended = h.Protocol != ""
	st.tunnel = st.extended || h.Method == "CONNECT"
	head := *h
	if st.extended && !c.private {
		head.Fields = dropKey(h.Fields)
	}
	if st.tunnel {
		head.Length = -1
	}
	c.writeRequest(st.id, &head, end)
	st.localEnd = end
	return nil
}

// WriteHead implements exchange.Side.
func (c *Client) WriteHead(x *exchange.Exchange, h *exchange.Head, end bool) {
	if err := c.Send(x, h, end); err != nil {
		x.ResponseReset(exchange.Reason{Code: exchange.CodeConnect, Unprocessed: true, Detail: err.Error()})
	}
}

func (c *Client) stream(x *exchange.Exchange) *stream {
	st, _ := x.UpState.(*stream)
	if st == nil || st.x != x || st.gone || c.dead {
		return nil
	}
	return st
}

// WriteData implements exchange.Side.
func (c *Client) WriteData(x *exchange.Exchange, b []byte, end bool) {
	if st := c.stream(x); st != nil {
		c.send(st, b, end)
		return
	}
	x.Down.Consumed(x, len(b))
}

// WriteTrailers implements exchange.Side.
func (c *Client) WriteTrailers(x *exchange.Exchange, f []exchange.Field) {
	if st := c.stream(x); st != nil {
		c.sendTrailers(st, f)
	}
}

// Reset implements exchange.Side.
func (c *Client) Reset(x *exchange.Exchange, why exchange.Reason) {
	if st := c.stream(x); st != nil {
		if why.Code == exchange.CodeNone {
			why.Code = exchange.CodeCancel
		}
		why.Unprocessed = false
		c.abandon(st, resetCode(why))
		(*clientRole)(c).freed()
	}
}

// Consumed implements exchange.Side.
func (c *Client) Consumed(x *exchange.Exchange, n int) {
	st, _ := x.UpState.(*stream)
	if st != nil && st.x == x && !c.dead {
		c.consumed(st, n)
	}
}

// Closed implements exchange.Protocol.
func (c *Client) Closed(err error) {
	c.down(exchange.Reason{Code: exchange.CodeClosed, Detail: "server closed"})
	if c.cfg.OnClosed != nil {
		c.cfg.OnClosed(c, err)
	}
}

// Leaving tells whether the connection takes no new streams any more.
func (c *Client) Leaving() bool { return c.goingAway || c.dead }
