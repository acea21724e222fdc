package h2

import "fairlead.io/fairlead/internal/l7/exchange"

// stream is one exchange on a connection. It may be used again for another one: whoever finds it by an exchange checks that it is
// still that one's.
type stream struct {
	id uint32
	x  *exchange.Exchange

	localEnd, remoteEnd, gone bool
	unwanted                  bool // the rest of what the peer sends is dropped
	tunnel, extended, grpc    bool
	responded, answered       bool // a final head has passed; its end has, too
	interim                   int

	sendWindow  int64
	recv        window
	unpaid      int64 // delivered without credit
	owing       int64 // of that, what the connection has no credit for either
	length, got int64 // of the incoming body; length -1 if not declared

	queue    []byte // to send, from head on
	head     int
	ending   bool // the queue is the last of it
	pace     exchange.Pace
	trailers []exchange.Field
	aside    int  // bytes of trailers that wait
	listed   bool // in conn.ready

	held         []byte // a server's: request body that has no upstream yet
	heldEnd      bool
	heldTrailers []exchange.Field
	stop         func()
}

func (c *conn) newStream(id uint32, x *exchange.Exchange) *stream {
	var st *stream
	if c.shared != nil {
		st = c.shared.take()
	} else {
		st = &stream{}
	}
	st.id, st.x, st.length, st.sendWindow = id, x, -1, c.peerWindow
	st.recv = window{size: int64(c.lim.StreamWindow), left: max(int64(c.lim.StreamWindow), defaultWindow)} // the peer may not have seen our settings
	c.streams[id] = st
	return st
}

// send passes body bytes on, as far as the windows and the transport allow; the rest waits in the stream.
func (c *conn) send(st *stream, b []byte, end bool) {
	if st.localEnd || st.ending || st.gone {
		c.pay(st, len(b))
		return
	}
	if st.head == len(st.queue) {
		n := 0
		for !st.localEnd && (n < len(b) || end) {
			k := c.push(st, b[n:], end)
			if k < 0 {
				break
			}
			n += k
		}
		c.pay(st, n)
		b = b[n:]
	}
	if st.localEnd {
		c.endLocal(st)
		return
	}
	if len(b) > 0 || end {
		st.ending = end
		c.enqueue(st, b)
	}
}

func (c *conn) enqueue(st *stream, b []byte) {
	if st.head > 0 && st.head >= len(st.queue)/2 {
		st.queue = st.queue[:copy(st.queue, st.queue[st.head:])]
		st.head = 0
	}
	if c.shared != nil {
		st.queue = c.shared.queue.Append(st.queue, b)
	} else {
		st.queue = append(st.queue, b...)
	}
	c.account.Add(len(b))
	c.list(st)
	held := len(st.queue) - st.head
	if held > exchange.Share && c.budget.IsShort() && (!st.pace.Flows(held) || c.budget.Critical()) {
		c.giveUp(st)
	}
}

// push writes one frame of b, with END_STREAM if it takes all of b and end is set. It returns how much it took,
// or -1 if nothing can go out.
func (c *conn) push(st *stream, b []byte, end bool) int {
	if c.t.Pending() > c.budget.HighWater() {
		return -1
	}
	n := int(min(int64(len(b)), maxFrame, max(st.sendWindow, 0), max(c.sendWindow, 0)))
	if n == 0 && (len(b) > 0 || !end) {
		return -1
	}
	flags := byte(0)
	if end && n == len(b) {
		flags, st.localEnd = flagEndStream, true
	}
	c.writeFrame(frameData, flags, st.id, b[:n])
	st.pace.Moved(n)
	if n > 0 {
		c.flood.excuse(1)
	}
	st.sendWindow -= int64(n)
	c.sendWindow -= int64(n)
	return n
}

// sendTrailers ends a stream with trailers, behind what waits in it.
func (c *conn) sendTrailers(st *stream, f []exchange.Field) {
	if len(f) == 0 {
		c.send(st, nil, true)
		return
	}
	if st.localEnd || st.ending || st.gone {
		return
	}
	if st.head == len(st.queue) {
		st.localEnd = true
		c.writeTrailers(st.id, f)
		c.endLocal(st)
		return
	}
	st.ending, st.trailers = true, append([]exchange.Field(nil), f...)
	c.keepAside(st, f)
}

// keepAside counts trailers that wait, until the stream ends.
func (c *conn) keepAside(st *stream, f []exchange.Field) {
	n := exchange.Size(f)
	st.aside += n
	c.account.Add(n)
}

// emptied gives the room of a queue back.
func (c *conn) emptied(st *stream) {
	if c.shared != nil {
		c.shared.queue.Give(st.queue)
	}
	st.queue, st.head = nil, 0
}

func (c *conn) list(st *stream) {
	if !st.listed && !st.gone {
		st.listed = true
		c.ready = append(c.ready, st)
	}
}

// pump lets the streams that wait take turns, one frame each, until none can go on.
func (c *conn) pump() {
	if c.pumping || c.dead {
		return
	}
	c.pumping = true
	for len(c.ready) > 0 && !c.dead && c.t.Pending() <= c.budget.HighWater() {
		st := c.ready[0]
		c.ready = c.ready[1:]
		st.listed = false
		if st.gone {
			continue
		}
		if st.sendWindow <= 0 && st.head < len(st.queue) {
			continue // listed again by its WINDOW_UPDATE
		}
		if c.sendWindow <= 0 && st.head < len(st.queue) {
			st.listed = true
			c.ready = append(c.ready, st)
			if !c.anyEnd() {
				break
			}
			continue
		}
		if !c.turn(st) {
			break
		}
	}
	c.pumping = false
}

// anyEnd moves a stream that needs no window to the front, if there is one.
func (c *conn) anyEnd() bool {
	for i, st := range c.ready {
		if st.head == len(st.queue) {
			c.ready[0], c.ready[i] = st, c.ready[0]
			return true
		}
	}
	return false
}

// turn sends one frame of a waiting stream, and its end if that was the last. It is false if nothing could go out: the budget is
// that of other loops too, and may have become tight since it was looked at.
func (c *conn) turn(st *stream) bool {
	rest := st.queue[st.head:]
	n := 0
	if len(rest) > 0 || st.trailers == nil {
		if n = c.push(st, rest, st.ending && st.trailers == nil); n < 0 {
			c.list(st)
			return false
		}
	}
	st.head += n
	c.account.Add(-n)
	if st.head == len(st.queue) {
		c.emptied(st)
		if st.trailers != nil && !st.localEnd {
			st.localEnd = true
			c.writeTrailers(st.id, st.trailers)
		}
	} else {
		c.list(st)
	}
	c.pay(st, n)
	if st.localEnd && !st.gone {
		c.endLocal(st)
	}
	return true
}

// pay gives the other side credit for n bytes that have gone out, or never will.
func (c *conn) pay(st *stream, n int) {
	if n == 0 {
		return
	}
	if side := c.role.payee(st); side != nil {
		side.Consumed(st.x, n)
	}
}

func (c *conn) endLocal(st *stream) {
	switch {
	case st.remoteEnd:
		c.finish(st)
	case st.unwanted:
		c.abandon(st, codeNone)
		c.role.freed()
	}
}

func (c *conn) endRemote(st *stream) {
	st.remoteEnd = true
	if st.localEnd && !st.gone {
		c.finish(st)
	}
}

// finish forgets a stream that both ends have closed.
func (c *conn) finish(st *stream) {
	c.ended.add(st.id)
	c.flood.excuse(behindEnd)
	c.close(st)
	delete(c.streams, st.id)
	c.role.freed()
}

// close lets go of the exchange, which may still be used in this turn.
func (c *conn) close(st *stream) {
	if st.gone {
		return
	}
	st.gone = true
	c.account.Add(-st.aside)
	st.aside = 0
	st.x.Drop()
	if c.shared != nil {
		c.shared.ended = append(c.shared.ended, st)
	}
	if st.stop != nil {
		st.stop()
		st.stop = nil
	}
}

// abandon resets a stream and forgets it.
func (c *conn) abandon(st *stream, why code) {
	if st.gone {
		return
	}
	c.writeReset(st.id, why)
	c.reset.add(st.id)
	c.flood.excuse(behindReset)
	c.remove(st)
}

// remove forgets a stream that ended early.
func (c *conn) remove(st *stream) {
	delete(c.streams, st.id)
	c.discard(st)
}

// discard settles the credit of a stream that ended early, in both directions.
func (c *conn) discard(st *stream) {
	c.close(st)
	waiting := len(st.queue) - st.head
	c.account.Add(-waiting - len(st.held))
	c.emptied(st)
	st.held, st.trailers = nil, nil
	st.unpaid = 0
	c.repay(st, st.owing)
	c.pay(st, waiting)
}

// past remembers the latest stream numbers of some kind.
type past struct {
	ids  [256]uint32
	next int
}

func (p *past) add(id uint32) {
	p.ids[p.next] = id
	p.next = (p.next + 1) % len(p.ids)
}

// full tells whether it has had to forget some.
func (p *past) full() bool { return p.ids[p.next] != 0 }

func (p *past) has(id uint32) bool {
	for _, v := range p.ids {
		if v == id {
			return true
		}
	}
	return false
}
