package l7

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"fairlead.io/fairlead/internal/mesh"
)

// The preface of fairlead-tcp/1: magic, u16 length of what follows, TLVs of u8 type and u16 length.
const (
	prefaceMagic   = "FLT1"
	prefaceService = 1
	maxPreface     = 512
)

var errPreface = errors.New("malformed preface")

// preface is what the dialling proxy says about an opaque connection.
type preface struct {
	Service mesh.Name
	Port    uint16
}

// append writes the preface behind b. A service whose name does not fit is left out.
func (p preface) append(b []byte) []byte {
	at := len(b)
	b = append(b, prefaceMagic...)
	b = append(b, 0, 0)
	if p.Service.Name != "" {
		value := p.Service.Namespace + "/" + p.Service.Name + ":" + strconv.Itoa(int(p.Port))
		if len(prefaceMagic)+2+3+len(value) <= maxPreface {
			b = append(b, prefaceService)
			b = binary.BigEndian.AppendUint16(b, uint16(len(value)))
			b = append(b, value...)
		}
	}
	binary.BigEndian.PutUint16(b[at+len(prefaceMagic):], uint16(len(b)-at-len(prefaceMagic)-2))
	return b
}

// readPreface reads exactly the preface from r.
func readPreface(r io.Reader) (preface, error) {
	var head [len(prefaceMagic) + 2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return preface{}, fmt.Errorf("read preface: %w", err)
	}
	n := int(binary.BigEndian.Uint16(head[len(prefaceMagic):]))
	if string(head[:len(prefaceMagic)]) != prefaceMagic || n > maxPreface-len(head) {
		return preface{}, errPreface
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return preface{}, fmt.Errorf("read preface: %w", err)
	}
	return parsePreface(body)
}

func parsePreface(body []byte) (p preface, err error) {
	r := &reader{b: body, ok: true}
	for r.ok && len(r.b) > 0 {
		kind := r.take(1)
		value := r.vector(2)
		if r.ok && kind[0] == prefaceService {
			p.Service, p.Port, r.ok = parseService(string(value))
		}
	}
	if !r.ok {
		return preface{}, errPreface
	}
	return p, nil
}

// parseService reads "namespace/name:port".
func parseService(s string) (mesh.Name, uint16, bool) {
	namespace, rest, ok := strings.Cut(s, "/")
	name, number, ok2 := strings.Cut(rest, ":")
	port, err := strconv.ParseUint(number, 10, 16)
	if !ok || !ok2 || err != nil || namespace == "" || name == "" || strings.ContainsAny(name, "/") {
		return mesh.Name{}, 0, false
	}
	return mesh.Name{Namespace: namespace, Name: name}, uint16(port), true
}
