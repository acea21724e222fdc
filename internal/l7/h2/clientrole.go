package h2

import (
	"strings"

	"fairlead.io/fairlead/internal/l7/exchange"
)

// clientRole keeps the role's methods out of Client's own.
type clientRole Client

func (c *clientRole) headers(id uint32, fields []exchange.Field, how block) error {
	st := c.streams[id]
	switch {
	case st == nil:
		return c.closed(&frame{kind: frameHeaders, id: id})
	case st.remoteEnd:
		return c.streamError(st, codeClosed, "HEADERS behind END_STREAM")
	case how.large:
		return c.streamError(st, codeCalm, "response header too large")
	case st.responded:
		return c.trailers(st, fields, how)
	}
	h, err := c.reading.response(fields, c.private)
	if err != nil || len(h.Fields) > c.lim.HeadFields {
		return c.streamError(st, codeProtocol, "malformed response head")
	}
	if h.Status < 200 && h.Status != 101 {
		if st.interim++; how.end || st.interim > c.lim.Interim {
			return c.streamError(st, codeProtocol, "malformed interim response")
		}
		st.x.ResponseHead(h, false)
		return nil
	}
	return c.final(st, h, how.end)
}

// final passes on the head that decides.
func (c *clientRole) final(st *stream, h *exchange.Head, end bool) error {
	if st.extended && !c.private && h.Status/100 == 2 {
		h.Status = 101
	}
	accepted := h.Status == 101 || st.tunnel && !st.extended && h.Status/100 == 2
	st.length = h.Length
	switch {
	case accepted:
		st.length, h.Length = -1, -1
	case st.x.Head || h.Status == 304 || h.Status == 204:
		st.length = 0
	case end && h.Length > 0:
		return c.streamError(st, codeProtocol, "response is shorter than its content-length")
	}
	if !accepted {
		st.tunnel = false
	}
	st.responded, st.remoteEnd = true, end
	st.x.ResponseHead(h, end)
	if end {
		c.endResponse(st)
	}
	return nil
}

func (c *clientRole) trailers(st *stream, fields []exchange.Field, how block) error {
	f, err := c.reading.trailers(fields, c.private)
	if err != nil || !how.end || st.tunnel || st.length >= 0 && st.got != st.length {
		return c.streamError(st, codeProtocol, "malformed trailers")
	}
	st.remoteEnd = true
	if len(f) == 0 {
		st.x.ResponseData(nil, true)
	} else {
		st.x.ResponseTrailers(f)
	}
	c.endResponse(st)
	return nil
}

func (c *clientRole) data(st *stream, b []byte, end bool) {
	c.served = c.served || end
	st.x.ResponseData(b, end)
	if end && !st.gone && !st.localEnd {
		c.linger(st)
	}
}

func (c *clientRole) endResponse(st *stream) {
	c.served = true
	if st.gone {
		return
	}
	c.endRemote(st)
	if !st.gone {
		c.linger(st)
	}
}

// linger gives a request that is still going out behind its response a little longer.
func (c *clientRole) linger(st *stream) {
	if st.tunnel {
		return
	}
	st.stop = c.t.Loop().After(c.lim.Linger, func() {
		st.stop = nil
		if !st.gone {
			c.abandon(st, codeCancel)
			st.x.ResponseReset(exchange.Reason{})
			c.freed()
		}
	})
}

// lost: a reset behind the whole response only stops the request.
func (c *clientRole) lost(st *stream, why exchange.Reason) {
	if st.remoteEnd {
		why = exchange.Reason{}
	}
	why.Reused = why.Code == exchange.CodeClosed && !why.Unprocessed && c.served && !st.responded && st.interim == 0
	st.x.ResponseReset(why)
}

func (c *clientRole) payee(st *stream) exchange.Side { return st.x.Down }

func (c *clientRole) freed() {
	c.drained()
	if c.cfg.OnReady != nil && !c.dead {
		c.cfg.OnReady((*Client)(c))
	}
}

// goAway gives up the streams that the server has not taken, and starts no new ones.
func (c *clientRole) goAway(last uint32) {
	(*Client)(c).leave()
	for id, st := range c.streams {
		if id > last {
			c.remove(st)
			st.x.ResponseReset(exchange.Reason{Code: exchange.CodeClosed, Unprocessed: true, Detail: "connection goes away"})
		}
	}
	c.drained()
}

func (c *clientRole) lastSaid() bool { return false }

// dropKey and dropAccept remove what only the HTTP/1.1 handshake of WebSocket has (RFC 8441 section 5.1).
func dropKey(f []exchange.Field) []exchange.Field { return drop(f, "sec-websocket-key") }

func dropAccept(f []exchange.Field) []exchange.Field { return drop(f, "sec-websocket-accept") }

func drop(fields []exchange.Field, name string) []exchange.Field {
	kept := make([]exchange.Field, 0, len(fields))
	for _, f := range fields {
		if !strings.EqualFold(f.Name, name) {
			kept = append(kept, f)
		}
	}
	return kept
}
