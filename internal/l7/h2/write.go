package h2

import (
	"strconv"

	"fairlead.io/fairlead/internal/l7/exchange"
)

// writeRequest sends a request's head.
func (c *conn) writeRequest(id uint32, h *exchange.Head, end bool) {
	e := &c.coding
	e.begin()
	method, extended := h.Method, h.Protocol != ""
	if extended {
		method = "CONNECT"
	}
	e.put(":method", method)
	if method != "CONNECT" || extended {
		scheme := h.Scheme
		if scheme == "" {
			scheme = "http"
		}
		e.put(":scheme", scheme)
		e.put(":path", h.Path)
	}
	if h.Authority != "" {
		e.put(":authority", h.Authority)
	}
	if extended {
		e.put(":protocol", h.Protocol)
	}
	if c.private {
		e.put(fieldVersion, version(h.Version))
		if extended {
			e.put(fieldMethod, h.Method)
		}
		if h.Service != "" {
			e.put(fieldService, h.Service)
		}
	}
	c.encodeFields(h.Fields, h.Length)
	c.writeBlock(id, end)
}

// writeResponse sends a response's head. 101 has no meaning in HTTP/2: an accepted upgrade is 200.
func (c *conn) writeResponse(id uint32, h *exchange.Head, end bool) {
	e := &c.coding
	e.begin()
	status := h.Status
	if status == 101 {
		status = 200
	}
	e.put(":status", statusText(status))
	if c.private {
		e.put(fieldVersion, version(h.Version))
		if h.Status == 101 {
			e.put(fieldStatus, "101")
		}
		if h.Protocol != "" {
			e.put(fieldProtocol, h.Protocol)
		}
	}
	c.encodeFields(h.Fields, h.Length)
	c.writeBlock(id, end)
}

func (c *conn) writeTrailers(id uint32, f []exchange.Field) {
	c.coding.begin()
	c.encodeFields(f, -1)
	c.writeBlock(id, true)
}

// statusTexts has the statuses of three digits, so that writing one makes no garbage.
var statusTexts = func() (t [1000]string) {
	all := make([]byte, 0, 3*len(t))
	for i := range t {
		all = append(all, byte('0'+i/100), byte('0'+i/10%10), byte('0'+i%10))
	}
	text := string(all)
	for i := range t {
		t[i] = text[3*i : 3*i+3]
	}
	return t
}()

func statusText(status int) string {
	if status < 0 || status >= len(statusTexts) {
		return strconv.Itoa(status)
	}
	return statusTexts[status]
}

func version(v exchange.Version) string {
	switch v {
	case exchange.HTTP10:
		return "10"
	case exchange.HTTP11:
		return "11"
	}
	return "20"
}

// encodeFields writes the fields that travel. Content-Length is there once, and only if length is not negative.
func (c *conn) encodeFields(fields []exchange.Field, length int64) {
	sized := length < 0
	for i := range fields {
		f := &fields[i]
		about := f.Notes.About
		if !f.Notes.Known {
			about = exchange.About(f.Name)
		}
		switch about {
		case exchange.AboutLength:
			if sized {
				continue
			}
			sized = true
			if n, ok := exchange.ParseLength(f.Value); !ok || n != length {
				c.coding.put(f.Name, strconv.FormatInt(length, 10))
				continue
			}
		case exchange.AboutTE:
			c.coding.put(f.Name, "trailers")
			continue
		case exchange.AboutUs, exchange.AboutHost:
			continue
		default:
			if about.HopByHop() {
				continue
			}
		}
		c.coding.putField(f)
	}
	if !sized {
		c.coding.put("content-length", strconv.FormatInt(length, 10))
	}
}

// writeBlock sends what the encoder holds as HEADERS and, where it does not fit, CONTINUATION.
func (c *conn) writeBlock(id uint32, end bool) {
	block := c.coding.block
	kind, flags := byte(frameHeaders), byte(0)
	if end {
		flags = flagEndStream
	}
	for {
		part := block[:min(len(block), maxFrame)]
		block = block[len(part):]
		if len(block) == 0 {
			flags |= flagEndHeaders
		}
		c.writeFrame(kind, flags, id, part)
		if len(block) == 0 {
			return
		}
		kind, flags = frameContinuation, 0
	}
}

func (c *conn) writeFrame(kind, flags byte, id uint32, payload []byte) {
	c.t.Write(appendFrameHeader(c.scratch[:0], len(payload), kind, flags, id))
	if len(payload) > 0 {
		c.t.Write(payload)
	}
}

func (c *conn) writeUint32(kind byte, id uint32, v uint32) {
	b := appendFrameHeader(c.scratch[:0], 4, kind, 0, id)
	c.t.Write(append(b, byte(v>>24), byte(v>>16), byte(v>>8), byte(v)))
}

func (c *conn) writeReset(id uint32, why code) { c.writeUint32(frameReset, id, uint32(why)) }

func (c *conn) writeGoAway(last uint32, why code) {
	b := appendFrameHeader(c.scratch[:0], 8, frameGoAway, 0, 0)
	b = append(b, byte(last>>24), byte(last>>16), byte(last>>8), byte(last))
	c.t.Write(append(b, byte(why>>24), byte(why>>16), byte(why>>8), byte(why)))
}
