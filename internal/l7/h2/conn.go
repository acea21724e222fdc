package h2

import (
	"errors"
	"time"

	"fairlead.io/fairlead/internal/l7/exchange"
)

// role is what differs between the two ends of a connection.
type role interface {
	headers(id uint32, fields []exchange.Field, how block) error
	data(st *stream, b []byte, end bool)
	// lost tells the exchange that its stream is gone.
	lost(st *stream, why exchange.Reason)
	// payee is the side that delivered what the stream sends.
	payee(st *stream) exchange.Side
	// freed says that a stream has ended.
	freed()
	goAway(last uint32)
	// lastSaid tells whether a server has said which stream is its last.
	lastSaid() bool
}

// block is what came with a header block.
type block struct {
	id               uint32
	end, self, large bool
	fragments        int
}

// conn is what both ends share: frames, windows, settings, liveness.
type conn struct {
	t       exchange.Transport
	lim     exchange.Limits
	role    role
	shared  *Shared // may be nil
	server  bool
	private bool
	common  bool // carries what many clients ask for: one that does not read must not hold up the others
	budget  *exchange.Budget
	account exchange.Account
	coding  coding
	reading reading
	scratch [64]byte

	streams  map[uint32]*stream
	ready    []*stream // with something to send that their own window allows
	pumping  bool
	ended    past   // streams that both ends have closed
	reset    past   // streams that we have reset
	lastPeer uint32 // the highest stream number that was used
	named    uint32 // a server's: what its last GOAWAY has named, once that is out

	sendWindow, peerWindow int64
	recv                   window
	peerStreams            uint32
	peerConnect            bool

	prefaced, sawSettings bool
	open                  block // the header block that is being read; id 0 if none
	fragment              []byte

	goingAway, dead bool
	served          bool // a client's: it has had a whole response
	flood           flood
	ping            pinger
	drainStop       func()
	blockStop       func()
}

// init fills in a zero conn.
func (c *conn) init(t exchange.Transport, lim exchange.Limits, r role, private, server bool, shared *Shared, budget *exchange.Budget) {
	c.t, c.lim, c.role, c.private, c.server, c.shared = t, lim.WithDefaults(), r, private, server, shared
	c.common, c.budget = private || !server, budget
	c.account.Open(budget)
	t.Charge(budget)
	c.streams = make(map[uint32]*stream)
	c.coding.init(&c.lim, private, shared)
	c.sendWindow, c.peerWindow = defaultWindow, defaultWindow
	c.recv = window{size: int64(c.lim.ConnWindow), left: max(int64(c.lim.ConnWindow), defaultWindow)}
	c.peerStreams = 100 // until the peer says
}

// start sends our settings.
func (c *conn) start() {
	b := make([]byte, 0, 64)
	if !c.server {
		b = append(b, Preface...)
	}
	body := make([]byte, 0, 36)
	if c.server {
		body = appendSetting(body, setStreams, c.lim.Streams)
		body = appendSetting(body, setConnect, 1)
	} else {
		body = appendSetting(body, setPush, 0)
	}
	body = appendSetting(body, setWindow, uint32(c.lim.StreamWindow))
	body = appendSetting(body, setHeaderList, uint32(c.lim.HeadBytes))
	b = append(appendFrameHeader(b, len(body), frameSettings, 0, 0), body...)
	c.t.Write(b)
	if more := c.recv.left - defaultWindow; more > 0 {
		c.writeUint32(frameWindow, 0, uint32(more))
	}
}

// Feed implements exchange.Protocol.
func (c *conn) Feed(b []byte) (int, error) {
	n := 0
	if c.server && !c.prefaced && !c.dead {
		k := min(len(b), len(Preface))
		if string(b[:k]) != Preface[:k] {
			c.fatal(fatal(codeProtocol, "no HTTP/2 preface"))
			return len(b), nil
		}
		if k < len(Preface) {
			return 0, nil
		}
		c.prefaced, n = true, k
	}
	c.ping.heard = true
	for !c.dead && len(b)-n >= frameHeaderBytes {
		h := b[n:]
		size := int(h[0])<<16 | int(h[1])<<8 | int(h[2])
		if size > maxFrame {
			c.fatal(fatal(codeSize, "frame is too large"))
			break
		}
		if len(h) < frameHeaderBytes+size {
			break
		}
		f := frame{kind: h[3], flags: h[4], payload: h[frameHeaderBytes : frameHeaderBytes+size]}
		f.id = (uint32(h[5])<<24 | uint32(h[6])<<16 | uint32(h[7])<<8 | uint32(h[8])) & maxWindow
		if err := c.frame(&f); err != nil {
			c.fatal(err)
			break
		}
		n += frameHeaderBytes + size
	}
	if c.dead {
		return len(b), nil
	}
	return n, nil
}

func (c *conn) frame(f *frame) error {
	if !c.sawSettings && (f.kind != frameSettings || f.has(flagAck)) {
		return fatal(codeProtocol, "first frame is not SETTINGS")
	}
	if c.open.id != 0 && (f.kind != frameContinuation || f.id != c.open.id) {
		return fatal(codeProtocol, "header block is interrupted")
	}
	if c.t.Pending() > c.budget.HighWater()+c.lim.Backlog {
		return fatal(codeCalm, "peer does not read")
	}
	switch f.kind {
	case frameData:
		return c.onData(f)
	case frameHeaders:
		return c.onHeaders(f)
	case frameContinuation:
		return c.onContinuation(f)
	case frameReset:
		return c.onReset(f)
	case frameWindow:
		return c.onWindow(f)
	}
	if f.kind != framePing || !c.flood.pass() {
		if err := c.flood.control(c.t.Loop().Now(), &c.lim); err != nil {
			return err
		}
	}
	switch f.kind {
	case frameSettings:
		return c.onSettings(f)
	case framePing:
		return c.onPing(f)
	case frameGoAway:
		return c.onGoAway(f)
	case framePriority:
		return c.onPriority(f)
	case framePush:
		return fatal(codeProtocol, "PUSH_PROMISE is not allowed")
	}
	return nil
}

// fatal ends the connection with a farewell.
func (c *conn) fatal(err error) {
	if c.dead {
		return
	}
	why, text := codeInternal, err.Error()
	var ce *connError
	if errors.As(err, &ce) {
		why = ce.code
	}
	last := c.lastPeer
	switch {
	case !c.server:
		last = 0
	case c.role.lastSaid():
		last = c.named // never more than before (RFC 9113 section 6.8)
	}
	c.writeGoAway(last, why)
	c.down(exchange.Reason{Code: reasonCode(why), Detail: text})
	c.t.Close()
}

// down gives every stream up.
func (c *conn) down(why exchange.Reason) {
	if c.dead {
		return
	}
	c.dead = true
	c.stopTimers()
	for id, st := range c.streams {
		delete(c.streams, id)
		c.discard(st)
		c.role.lost(st, why)
	}
	c.account.Set(0)
	c.ready, c.fragment = nil, nil
}

func (c *conn) stopTimers() {
	c.ping.stop()
	for _, stop := range []func(){c.drainStop, c.blockStop} {
		if stop != nil {
			stop()
		}
	}
	c.drainStop, c.blockStop = nil, nil
}

// EOF implements exchange.Protocol. HTTP/2 has no half-closed connections.
func (c *conn) EOF() {
	c.down(exchange.Reason{Code: exchange.CodeClosed, Detail: "peer closed"})
	c.t.Close()
}

// Writable implements exchange.Protocol.
func (c *conn) Writable() { c.pump() }

// Streams is how many streams are open.
func (c *conn) Streams() int { return len(c.streams) }

// idle tells whether nobody has opened the stream yet.
func (c *conn) idle(id uint32) bool { return id > c.lastPeer || id%2 == 0 }

// drained closes a connection that is going away when its last stream has ended.
func (c *conn) drained() {
	if c.goingAway && len(c.streams) == 0 && !c.dead {
		c.down(exchange.Reason{})
		c.t.Close()
	}
}

func (c *conn) blockTimer(d time.Duration) {
	c.blockStop = c.t.Loop().After(d, func() {
		c.blockStop = nil
		c.fatal(fatal(codeCalm, "header block took too long"))
	})
}
