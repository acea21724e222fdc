package l7

import "encoding/binary"

// Numbers of RFC 8446, and the bounds of what is looked at.
const (
	recordHandshake = 22
	helloClient     = 1
	extensionSNI    = 0
	extensionALPN   = 16

	maxRecord = 16 << 10
	maxHello  = 16 << 10
	// helloBytes is the most that is read to see a whole ClientHello, with its record headers.
	helloBytes = maxHello + 64*5
)

// hello is what matters of a ClientHello.
type hello struct {
	SNI  string
	ALPN []string
}

// ours tells which of the mesh's protocols a ClientHello asks for, if any.
func (h *hello) ours() bool {
	for _, p := range h.ALPN {
		if p == ALPNHTTP || p == ALPNTCP {
			return true
		}
	}
	return false
}

// progress of parsing.
type progress uint8

const (
	needMore progress = iota
	parsed
	malformed
)

// parseHello reads a ClientHello from the first bytes of a connection. It may be spread over several records.
func parseHello(b []byte) (*hello, progress) {
	msg, p := handshakeMessage(b)
	if p != parsed {
		return nil, p
	}
	h, ok := readHello(msg)
	if !ok {
		return nil, malformed
	}
	return h, parsed
}

// handshakeMessage joins the fragments of the first handshake message.
func handshakeMessage(b []byte) ([]byte, progress) {
	var msg []byte
	for records := 0; ; records++ {
		if len(b) >= 1 && b[0] != recordHandshake || len(b) >= 2 && b[1] != 3 || records == 64 {
			return nil, malformed
		}
		if len(b) < 5 {
			return nil, needMore
		}
		n := int(binary.BigEndian.Uint16(b[3:]))
		if n == 0 || n > maxRecord {
			return nil, malformed
		}
		part := b[5:]
		whole := len(part) >= n
		part = part[:min(n, len(part))]
		if records == 0 {
			msg = part
		} else {
			msg = append(msg[:len(msg):len(msg)], part...)
		}
		if len(msg) >= 1 && msg[0] != helloClient {
			return nil, malformed
		}
		if len(msg) >= 4 {
			want := 4 + (int(msg[1])<<16 | int(msg[2])<<8 | int(msg[3]))
			if want > maxHello {
				return nil, malformed
			}
			if len(msg) >= want {
				return msg[4:want], parsed
			}
		}
		if !whole {
			return nil, needMore
		}
		b = b[5+n:]
	}
}

// reader takes fields off the front of b; ok is false once something was missing.
type reader struct {
	b  []byte
	ok bool
}

func (r *reader) take(n int) []byte {
	if !r.ok || n > len(r.b) {
		r.ok = false
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

// vector takes a field with a length of size bytes before it.
func (r *reader) vector(size int) []byte {
	n := 0
	for _, c := range r.take(size) {
		n = n<<8 | int(c)
	}
	return r.take(n)
}

func readHello(msg []byte) (*hello, bool) {
	r := &reader{b: msg, ok: true}
	r.take(2 + 32)
	r.vector(1) // session
	r.vector(2) // cipher suites
	r.vector(1) // compression
	h := &hello{}
	if !r.ok {
		return nil, false
	}
	if len(r.b) == 0 {
		return h, true
	}
	ext := &reader{b: r.vector(2), ok: r.ok}
	for ext.ok && len(ext.b) > 0 {
		kind := ext.take(2)
		body := &reader{b: ext.vector(2), ok: ext.ok}
		if !ext.ok {
			return nil, false
		}
		switch binary.BigEndian.Uint16(kind) {
		case extensionALPN:
			h.ALPN = readALPN(body)
		case extensionSNI:
			h.SNI = readSNI(body)
		}
		if !body.ok {
			return nil, false
		}
	}
	return h, ext.ok
}

func readALPN(r *reader) (names []string) {
	list := &reader{b: r.vector(2), ok: r.ok}
	for list.ok && len(list.b) > 0 && len(names) < 16 {
		names = append(names, string(list.vector(1)))
	}
	r.ok = r.ok && list.ok
	return names
}

func readSNI(r *reader) string {
	list := &reader{b: r.vector(2), ok: r.ok}
	if kind := list.take(1); list.ok && kind[0] == 0 {
		if name := list.vector(2); list.ok && len(name) <= 255 {
			return string(name)
		}
	}
	r.ok = r.ok && list.ok
	return ""
}
