package h2

import "fairlead.io/fairlead/internal/l7/exchange"

func (c *conn) onData(f *frame) error {
	size := int64(len(f.payload))
	if f.id == 0 {
		return fatal(codeProtocol, "DATA on stream 0")
	}
	if c.recvWindow -= size; c.recvWindow < 0 {
		return fatal(codeFlow, "connection window is overrun")
	}
	st := c.streams[f.id]
	if st == nil {
		c.credit(size)
		return c.closed(f)
	}
	if err := f.unpad(); err != nil {
		return err
	}
	end, n := f.has(flagEndStream), int64(len(f.payload))
	if st.recvWindow -= size; st.recvWindow < 0 {
		c.credit(size)
		return c.streamError(st, codeFlow, "stream window is overrun")
	}
	if n == 0 && !end {
		if err := c.flood.control(c.t.Loop().Now(), &c.lim); err != nil {
			return err
		}
	}
	st.got += n
	switch {
	case st.remoteEnd:
		c.credit(size)
		return c.streamError(st, codeClosed, "DATA behind END_STREAM")
	case !c.server && !st.responded, st.length >= 0 && (st.got > st.length || end && st.got != st.length):
		c.credit(size)
		return c.streamError(st, codeProtocol, "DATA does not fit the head")
	case st.unwanted:
		c.credit(size)
		if end {
			c.endRemote(st)
		}
		return nil
	}
	c.credit(size - n)
	c.creditStream(st, size-n)
	st.unpaid += n
	st.remoteEnd = end
	c.role.data(st, f.payload, end)
	if end {
		c.endRemote(st)
	}
	return nil
}

// credit returns n bytes to the connection's window.
func (c *conn) credit(n int64) {
	c.refund += n
	if c.refund >= int64(c.lim.ConnWindow)/4 && !c.dead {
		c.recvWindow += c.refund
		c.writeUint32(frameWindow, 0, uint32(c.refund))
		c.refund = 0
	}
}

func (c *conn) creditStream(st *stream, n int64) {
	if st.remoteEnd || st.gone {
		return
	}
	st.refund += n
	if st.refund >= int64(c.lim.StreamWindow)/2 {
		st.recvWindow += st.refund
		c.writeUint32(frameWindow, st.id, uint32(st.refund))
		st.refund = 0
	}
}

// consumed gives a stream credit for n bytes that it delivered.
func (c *conn) consumed(st *stream, n int) {
	k := min(int64(n), st.unpaid)
	st.unpaid -= k
	c.credit(k)
	c.creditStream(st, k)
}

func (c *conn) onHeaders(f *frame) error {
	if f.id == 0 || c.server && f.id%2 == 0 {
		return fatal(codeProtocol, "HEADERS on a stream that the peer cannot open")
	}
	if err := f.unpad(); err != nil {
		return err
	}
	c.open = block{id: f.id, end: f.has(flagEndStream)}
	if f.has(flagPriority) {
		if len(f.payload) < 5 {
			return fatal(codeSize, "HEADERS is too short for its priority")
		}
		c.open.self = f.uint32(0)&maxWindow == f.id
		f.payload = f.payload[5:]
	}
	if f.has(flagEndHeaders) {
		return c.onBlock(f.payload)
	}
	c.blockTimer(c.lim.HeadTimeout)
	c.fragment = append(c.fragment[:0], f.payload...)
	return nil
}

func (c *conn) onContinuation(f *frame) error {
	if c.open.id == 0 {
		return fatal(codeProtocol, "CONTINUATION without HEADERS")
	}
	c.open.fragments++
	if c.open.fragments > c.lim.Fragments || len(c.fragment)+len(f.payload) > c.lim.Block {
		return fatal(codeCalm, "header block is too large")
	}
	c.fragment = append(c.fragment, f.payload...)
	if !f.has(flagEndHeaders) {
		return nil
	}
	c.blockStop()
	c.blockStop = nil
	return c.onBlock(c.fragment)
}

func (c *conn) onBlock(b []byte) error {
	how := c.open
	c.open = block{}
	fields, large, err := c.coding.decode(b)
	if err != nil {
		return err
	}
	how.large = large
	err = c.role.headers(how.id, fields, how)
	c.coding.forget()
	c.reading.forget()
	return err
}

func (c *conn) onReset(f *frame) error {
	if f.id == 0 || c.idle(f.id) {
		return fatal(codeProtocol, "RST_STREAM on an idle stream")
	}
	if len(f.payload) != 4 {
		return fatal(codeSize, "malformed RST_STREAM")
	}
	st := c.streams[f.id]
	if st == nil {
		return c.crossed()
	}
	if err := c.resetMany(); err != nil {
		return err
	}
	c.ended.add(f.id)
	c.remove(st)
	c.role.lost(st, resetReason(code(f.uint32(0))))
	c.role.freed()
	return nil
}

// closed deals with a frame for a stream that is not open: an error if it never was or both ends had closed it;
// nothing much if it crossed our RST_STREAM.
func (c *conn) closed(f *frame) error {
	switch {
	case c.idle(f.id):
		return fatal(codeProtocol, "frame on an idle stream")
	case c.ended.has(f.id):
		return fatal(codeClosed, "frame on a closed stream")
	case f.kind == frameData && len(f.payload) > 0: // as dear to the peer as on a stream that is open
		return nil
	}
	return c.crossed()
}

// streamError resets a stream for what its peer did.
func (c *conn) streamError(st *stream, why code, text string) error {
	if err := c.resetMany(); err != nil {
		return err
	}
	c.abandon(st, why)
	c.role.lost(st, exchange.Reason{Code: reasonCode(why), Detail: text})
	c.role.freed()
	return nil
}
