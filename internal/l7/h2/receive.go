package h2

import "fairlead.io/fairlead/internal/l7/exchange"

func (c *conn) onData(f *frame) error {
	size := int64(len(f.payload))
	if f.id == 0 {
		return fatal(codeProtocol, "DATA on stream 0")
	}
	if !c.recv.take(size) {
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
	if !st.recv.take(size) {
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
	if n > 0 {
		c.flood.excuse(1)
	}
	c.creditStream(st, size-n)
	st.unpaid += n
	if c.common {
		c.credit(size)
	} else {
		c.credit(size - n)
		st.owing += n
	}
	st.remoteEnd = end
	c.role.data(st, f.payload, end)
	if end {
		c.endRemote(st)
	}
	return nil
}

// credit returns n bytes to the connection's window.
func (c *conn) credit(n int64) {
	if c.dead {
		return
	}
	if n = c.recv.give(n, 4, c, int64(c.lim.ConnGrown)); n > 0 {
		c.writeUint32(frameWindow, 0, uint32(n))
	}
}

func (c *conn) creditStream(st *stream, n int64) {
	if st.remoteEnd || st.gone {
		return
	}
	if n = st.recv.give(n, 2, c, min(int64(c.lim.StreamGrown), c.recv.size/4*3)); n > 0 {
		c.writeUint32(frameWindow, st.id, uint32(n))
	}
}

// consumed gives a stream credit for n bytes that it delivered.
func (c *conn) consumed(st *stream, n int) {
	k := min(int64(n), st.unpaid)
	st.unpaid -= k
	c.repay(st, k)
	c.creditStream(st, k)
}

// repay gives the connection's credit for n of the stream's bytes, if they were not paid for when they came.
func (c *conn) repay(st *stream, n int64) {
	n = min(n, st.owing)
	st.owing -= n
	c.credit(n)
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
	return c.gather(f.payload)
}

func (c *conn) onContinuation(f *frame) error {
	if c.open.id == 0 {
		return fatal(codeProtocol, "CONTINUATION without HEADERS")
	}
	c.open.fragments++
	if c.open.fragments > c.lim.Fragments || len(c.fragment)+len(f.payload) > c.lim.Block {
		return fatal(codeCalm, "header block is too large")
	}
	if err := c.gather(f.payload); err != nil || !f.has(flagEndHeaders) {
		return err
	}
	c.blockStop()
	c.blockStop = nil
	b := c.fragment
	c.account.Add(-len(b))
	c.fragment = nil
	return c.onBlock(b)
}

// gather keeps a piece of a header block that is not whole.
func (c *conn) gather(b []byte) error {
	c.fragment = append(c.fragment, b...)
	c.account.Add(len(b))
	if !c.common && len(c.fragment) > exchange.Share && c.budget.IsShort() {
		c.budget.Refuse()
		return fatal(codeCalm, "header block is too large for what is left of the budget")
	}
	return nil
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
