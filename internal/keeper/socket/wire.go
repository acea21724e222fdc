package socket

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"fairlead.io/fairlead/internal/mesh"
)

// Limits of single fields. What Kubernetes allows fits; what does not fit is refused by both ends.
const (
	maxUID       = 128
	maxNamespace = 63
	maxName      = 253
	maxAddrs     = 16
	maxListeners = 8
	maxChain     = 8
	maxContent   = 256 // RFC 8446, 4.4.3: 64 spaces, 33 bytes of context, a zero, a hash of at most 64 bytes
	maxSignature = 1024
	maxText      = 512
	maxVerdicts  = 1024
	maxPrograms  = 64
	maxDomain    = 255
)

var errShort = errors.New("message ends too early")

// writer builds a message. The first error sticks.
type writer struct {
	b   []byte
	err error
}

func (w *writer) u8(v uint8)   { w.b = append(w.b, v) }
func (w *writer) u16(v uint16) { w.b = binary.BigEndian.AppendUint16(w.b, v) }
func (w *writer) u32(v uint32) { w.b = binary.BigEndian.AppendUint32(w.b, v) }
func (w *writer) u64(v uint64) { w.b = binary.BigEndian.AppendUint64(w.b, v) }

// bytes writes a length of 16 bits and the bytes.
func (w *writer) bytes(p []byte, limit int) {
	if len(p) > limit {
		if w.err == nil {
			w.err = fmt.Errorf("field of %d bytes, at most %d fit", len(p), limit)
		}
		return
	}
	w.u16(uint16(len(p)))
	w.b = append(w.b, p...)
}

func (w *writer) flag(v bool) {
	if v {
		w.u8(1)
	} else {
		w.u8(0)
	}
}

func (w *writer) str(s string, limit int) { w.bytes([]byte(s), limit) }

func (w *writer) account(a mesh.Account) {
	w.str(a.Namespace, maxNamespace)
	w.str(a.Name, maxName)
}

func (w *writer) addr(a netip.Addr) { w.bytes(a.AsSlice(), 16) }

// count writes the number of elements that follow.
func (w *writer) count(n, limit int) {
	if n > limit && w.err == nil {
		w.err = fmt.Errorf("%d elements, at most %d fit", n, limit)
	}
	w.u16(uint16(n))
}

// done returns the message, or the first thing that did not fit.
func (w *writer) done() ([]byte, error) {
	if w.err == nil && len(w.b) > MaxMessage {
		w.err = fmt.Errorf("message of %d bytes, at most %d fit", len(w.b), MaxMessage)
	}
	return w.b, w.err
}

// reader takes a message apart. The first error sticks, and everything read after it is zero.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.b = nil
}

func (r *reader) take(n int) []byte {
	if r.err != nil || len(r.b) < n {
		r.fail(errShort)
		return nil
	}
	p := r.b[:n:n]
	r.b = r.b[n:]
	return p
}

func (r *reader) u8() uint8 {
	if p := r.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (r *reader) flag() bool {
	v := r.u8()
	if v > 1 {
		r.fail(fmt.Errorf("%d is neither yes nor no", v))
	}
	return v == 1
}

func (r *reader) u16() uint16 {
	if p := r.take(2); p != nil {
		return binary.BigEndian.Uint16(p)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if p := r.take(4); p != nil {
		return binary.BigEndian.Uint32(p)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if p := r.take(8); p != nil {
		return binary.BigEndian.Uint64(p)
	}
	return 0
}

// bytes returns a field. It aliases the message: copy what outlives it.
func (r *reader) bytes(limit int) []byte {
	n := int(r.u16())
	if n > limit {
		r.fail(fmt.Errorf("field of %d bytes, at most %d are allowed", n, limit))
		return nil
	}
	return r.take(n)
}

func (r *reader) str(limit int) string { return string(r.bytes(limit)) }

func (r *reader) account() mesh.Account {
	return mesh.Account{Namespace: r.str(maxNamespace), Name: r.str(maxName)}
}

func (r *reader) addr() netip.Addr {
	a, ok := netip.AddrFromSlice(r.bytes(16))
	if !ok {
		r.fail(errors.New("address is neither of 4 nor of 16 bytes"))
	}
	return a
}

func (r *reader) count(limit int) int {
	n := int(r.u16())
	if n > limit {
		r.fail(fmt.Errorf("%d elements, at most %d are allowed", n, limit))
		return 0
	}
	return n
}

func (r *reader) done() error {
	if r.err == nil && len(r.b) != 0 {
		r.err = fmt.Errorf("%d bytes left over", len(r.b))
	}
	return r.err
}
