package h2

import (
	"time"

	"fairlead.io/fairlead/internal/l7/exchange"
)

func (c *conn) onSettings(f *frame) error {
	if f.id != 0 {
		return fatal(codeProtocol, "SETTINGS on a stream")
	}
	if f.has(flagAck) {
		if len(f.payload) != 0 {
			return fatal(codeSize, "SETTINGS acknowledgement with a payload")
		}
		return nil
	}
	if len(f.payload)%6 != 0 || len(f.payload) > 6*64 {
		return fatal(codeSize, "malformed SETTINGS")
	}
	if err := c.settings(f.payload); err != nil {
		return err
	}
	c.sawSettings = true
	c.writeFrame(frameSettings, flagAck, 0, nil)
	if !c.server {
		c.role.freed() // there may be more streams now, or CONNECT
	}
	c.pump()
	return nil
}

// settings takes a payload of SETTINGS, whose length has been checked.
func (c *conn) settings(p []byte) error {
	for ; len(p) > 0; p = p[6:] {
		v := uint32(p[2])<<24 | uint32(p[3])<<16 | uint32(p[4])<<8 | uint32(p[5])
		if err := c.setting(uint16(p[0])<<8|uint16(p[1]), v); err != nil {
			return err
		}
	}
	return nil
}

func (c *conn) setting(id uint16, v uint32) error {
	switch id {
	case setTableSize:
		c.coding.enc.Resize(int(v))
	case setPush:
		if v > 1 || v == 1 && !c.server {
			return fatal(codeProtocol, "malformed ENABLE_PUSH")
		}
	case setStreams:
		c.peerStreams = v
	case setWindow:
		if v > maxWindow {
			return fatal(codeFlow, "initial window is too large")
		}
		return c.resizeWindows(int64(v))
	case setFrameSize:
		if v < maxFrame || v > 1<<24-1 {
			return fatal(codeProtocol, "malformed MAX_FRAME_SIZE")
		}
	case setConnect:
		if v > 1 || v == 0 && c.peerConnect {
			return fatal(codeProtocol, "malformed ENABLE_CONNECT_PROTOCOL")
		}
		c.peerConnect = v == 1
	}
	return nil
}

// resizeWindows applies a new initial window to the streams that are open.
func (c *conn) resizeWindows(v int64) error {
	delta := v - c.peerWindow
	c.peerWindow = v
	for _, st := range c.streams {
		if st.sendWindow += delta; st.sendWindow > maxWindow {
			return fatal(codeFlow, "stream window is too large")
		}
		if st.head < len(st.queue) {
			c.list(st)
		}
	}
	return nil
}

func (c *conn) onWindow(f *frame) error {
	if len(f.payload) != 4 {
		return fatal(codeSize, "malformed WINDOW_UPDATE")
	}
	n := int64(f.uint32(0) & maxWindow)
	if f.id == 0 {
		if n == 0 {
			return fatal(codeProtocol, "WINDOW_UPDATE of nothing")
		}
		if c.sendWindow += n; c.sendWindow > maxWindow {
			return fatal(codeFlow, "connection window is too large")
		}
		c.pump()
		return nil
	}
	st := c.streams[f.id]
	if st == nil {
		if c.idle(f.id) {
			return fatal(codeProtocol, "WINDOW_UPDATE on an idle stream")
		}
		return c.crossed()
	}
	if n == 0 {
		return c.streamError(st, codeProtocol, "WINDOW_UPDATE of nothing")
	}
	if st.sendWindow += n; st.sendWindow > maxWindow {
		return c.streamError(st, codeFlow, "stream window is too large")
	}
	if st.head < len(st.queue) {
		c.list(st)
		c.pump()
	}
	return nil
}

func (c *conn) onPing(f *frame) error {
	if f.id != 0 {
		return fatal(codeProtocol, "PING on a stream")
	}
	if len(f.payload) != 8 {
		return fatal(codeSize, "malformed PING")
	}
	if f.has(flagAck) {
		c.ping.acked(f.payload)
		return nil
	}
	c.writeFrame(framePing, flagAck, 0, f.payload)
	return nil
}

func (c *conn) onGoAway(f *frame) error {
	if f.id != 0 {
		return fatal(codeProtocol, "GOAWAY on a stream")
	}
	if len(f.payload) < 8 {
		return fatal(codeSize, "malformed GOAWAY")
	}
	c.role.goAway(f.uint32(0) & maxWindow)
	return nil
}

// onPriority checks and ignores priorities.
func (c *conn) onPriority(f *frame) error {
	if f.id == 0 {
		return fatal(codeProtocol, "PRIORITY on stream 0")
	}
	st := c.streams[f.id]
	switch {
	case len(f.payload) != 5 && st != nil:
		return c.streamError(st, codeSize, "malformed PRIORITY")
	case len(f.payload) != 5:
		return fatal(codeSize, "malformed PRIORITY")
	case f.uint32(0)&maxWindow != f.id:
		return nil
	case st != nil:
		return c.streamError(st, codeProtocol, "stream depends on itself")
	}
	return fatal(codeProtocol, "stream depends on itself")
}

const (
	// meshClients is how many clients, each at its own limit of resets, a connection between nodes is meant to carry.
	meshClients = 25
	// What may be on its way for a stream when we reset it: head, trailers, an end, credit, a reset. And when it ends: a reset.
	behindReset, behindEnd = 8, 1
	// maxExcused bounds what is owed to streams that have gone.
	maxExcused = 256 * behindReset
)

// flood counts, per second, the frames that cost the peer nothing.
type flood struct {
	controls, resets meter
	excused          int // frames that are no flood: behind what has gone, and PINGs beside bodies
}

// excuse lets n frames more come for streams that have gone, or PINGs: there are clients and servers that measure the path with
// one for each piece of a body.
func (f *flood) excuse(n int) { f.excused = min(f.excused+n, maxExcused) }

// pass tells whether a frame is excused, and uses that up.
func (f *flood) pass() bool {
	if f.excused == 0 {
		return false
	}
	f.excused--
	return true
}

// crossed takes a frame for a stream that has gone. What was on its way when the stream went is no flood.
func (c *conn) crossed() error {
	if c.flood.pass() {
		return nil
	}
	return c.flood.control(c.t.Loop().Now(), &c.lim)
}

// resetMany counts a stream that the peer has reset, or made us reset. A client's peer does that to streams that the client has paid for
// with requests of its own. A connection between nodes carries the clients of a pod, who are counted at their own node, so that much
// more is taken; what a node without honour can do with it is what its processor time could do with requests, too.
func (c *conn) resetMany() error {
	limit := c.lim.Resets
	switch {
	case !c.server:
		return nil
	case c.private:
		limit *= meshClients
	}
	if c.flood.resets.over(c.t.Loop().Now(), limit) {
		return fatal(codeCalm, "too many resets")
	}
	return nil
}

type meter struct {
	since time.Time
	n     int
}

func (m *meter) over(now time.Time, limit int) bool {
	if now.Sub(m.since) >= time.Second {
		m.since, m.n = now, 0
	}
	m.n++
	return m.n > limit
}

func (f *flood) control(now time.Time, lim *exchange.Limits) error {
	if f.controls.over(now, lim.Controls) {
		return fatal(codeCalm, "too many control frames")
	}
	return nil
}
