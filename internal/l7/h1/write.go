package h1

import (
	"net/http"
	"strconv"
	"strings"

	"fairlead.io/fairlead/internal/l7/exchange"
)

// out writes one message body in the framing that its head announced.
type out struct {
	kind kind
	left int64
	line [20]byte
}

// write sends body bytes; end closes the body. It refuses what does not fit a declared length.
func (o *out) write(t exchange.Transport, b []byte, end bool) error {
	switch o.kind {
	case counted:
		if int64(len(b)) > o.left {
			return errOverrun
		}
		o.left -= int64(len(b))
		t.Write(b)
		if end && o.left > 0 {
			return errShort
		}
	case chunks:
		if len(b) > 0 {
			t.Write(append(strconv.AppendUint(o.line[:0], uint64(len(b)), 16), '\r', '\n'))
			t.Write(b)
			t.Write(crlf)
		}
		if end {
			t.Write(lastChunk)
		}
	case untilClose:
		t.Write(b)
	case none:
		if len(b) > 0 {
			return errOverrun
		}
	}
	return nil
}

var (
	crlf      = []byte("\r\n")
	lastChunk = []byte("0\r\n\r\n")
)

// trailers ends the body with trailer fields where the framing has room for them.
func (o *out) trailers(t exchange.Transport, f []exchange.Field) error {
	if o.kind != chunks || len(f) == 0 {
		return o.write(t, nil, true)
	}
	b := append(make([]byte, 0, 256), "0\r\n"...)
	for i := range f {
		if !forbiddenTrailer(f[i].Name) {
			b = appendField(b, f[i].Name, f[i].Value)
		}
	}
	t.Write(append(b, crlf...))
	return nil
}

// announcesTrailers tells whether a message wants chunks for its trailers although it knows its length, as one from
// HTTP/2 may.
func announcesTrailers(h *exchange.Head) bool {
	_, ok := exchange.Get(h.Fields, "trailer")
	return ok
}

func appendField(b []byte, name, value string) []byte {
	b = append(b, name...)
	b = append(b, ": "...)
	b = append(b, value...)
	return append(b, "\r\n"...)
}

// appendFields writes the fields that travel. Content-Length is written if length is not negative, and only then;
// several Cookie fields, HTTP/2's crumbs, become one (RFC 9113 section 8.2.3).
func appendFields(b []byte, fields []exchange.Field, length int64, te bool) []byte {
	sized, cookies := length < 0, 0
	for i := range fields {
		name, value, about := fields[i].Name, fields[i].Value, fields[i].Notes.About
		if !fields[i].Notes.Known {
			about = exchange.About(name)
		}
		switch about {
		case exchange.AboutLength:
			if sized {
				continue
			}
			sized, value = true, lengthText(value, length)
		case exchange.AboutTE:
			if !te {
				continue
			}
			b = appendField(b, "Connection", "TE")
		case exchange.AboutCookie:
			if cookies++; cookies > 1 {
				continue
			}
			value = joinCookies(fields[i:])
		case exchange.AboutUs, exchange.AboutHost:
			continue
		default:
			if about.HopByHop() {
				continue
			}
		}
		b = appendField(b, name, value)
	}
	if !sized {
		b = appendField(b, "Content-Length", strconv.FormatInt(length, 10))
	}
	return b
}

// lengthText is length as a text: said, if that is what it says.
func lengthText(said string, length int64) string {
	if n, ok := exchange.ParseLength(said); ok && n == length {
		return said
	}
	return strconv.FormatInt(length, 10)
}

func joinCookies(fields []exchange.Field) string {
	value := fields[0].Value
	for _, f := range fields[1:] {
		if strings.EqualFold(f.Name, "cookie") {
			value += "; " + f.Value
		}
	}
	return value
}

// appendStatus writes a status line. The reason is the standard one.
func appendStatus(b []byte, v exchange.Version, status int) []byte {
	if v == exchange.HTTP10 {
		b = append(b, "HTTP/1.0 "...)
	} else {
		b = append(b, "HTTP/1.1 "...)
	}
	b = strconv.AppendInt(b, int64(status), 10)
	b = append(b, ' ')
	if text := http.StatusText(status); text != "" {
		b = append(b, text...)
	} else {
		b = append(b, "Status"...)
	}
	return append(b, "\r\n"...)
}

// room is what is kept of a buffer for the next head: not what a large one took.
func room(b []byte) []byte {
	if cap(b) > 4<<10 {
		return nil
	}
	return b[:0]
}

// headShare is what may be here of a head that is not whole when the budget is short.
const headShare = 2 << 10

// overdrawn tells whether a transport that does not take what is pending, and would have n bytes more, is among what makes the budget short, and has to be given up.
func overdrawn(t exchange.Transport, n int, b *exchange.Budget) bool {
	if !b.IsShort() || t.Pending() == 0 || t.Pending()+n <= exchange.LowWater || t.Flows() && !b.Critical() {
		return false
	}
	b.Refuse()
	return true
}
