package h2

import (
	"bytes"
	"strings"

	"golang.org/x/net/http2/hpack"

	"fairlead.io/fairlead/internal/l7/exchange"
)

// table size that both directions use: the protocol's default.
const tableSize = 4096

// decoder turns header blocks into fields. It is the only user of the library's decoder.
type decoder struct {
	dec    *hpack.Decoder
	lim    *exchange.Limits
	fields []exchange.Field
	size   int
	large  bool
}

func newDecoder(lim *exchange.Limits) *decoder {
	d := &decoder{lim: lim}
	d.dec = hpack.NewDecoder(tableSize, d.emit)
	d.dec.SetMaxStringLength(lim.HeadBytes)
	return d
}

func (d *decoder) emit(f hpack.HeaderField) {
	d.size += len(f.Name) + len(f.Value) + 32
	if d.size > d.lim.HeadBytes || len(d.fields) >= d.lim.HeadFields+8 {
		d.large = true
		d.dec.SetEmitEnabled(false)
		return
	}
	d.fields = append(d.fields, exchange.Field{Name: f.Name, Value: f.Value})
}

// decode reads one whole block. The fields are valid until the next call; large says that there were too many.
func (d *decoder) decode(block []byte) (fields []exchange.Field, large bool, err error) {
	d.fields, d.size, d.large = d.fields[:0], 0, false
	d.dec.SetEmitEnabled(true)
	if _, err := d.dec.Write(block); err != nil {
		return nil, false, fatal(codeCompression, "header block does not decode")
	}
	if err := d.dec.Close(); err != nil {
		return nil, false, fatal(codeCompression, "header block is cut short")
	}
	return d.fields, d.large, nil
}

// encoder turns fields into a header block. It is the only user of the library's encoder.
type encoder struct {
	buf bytes.Buffer
	enc *hpack.Encoder
}

func newEncoder() *encoder {
	e := &encoder{}
	e.enc = hpack.NewEncoder(&e.buf)
	e.enc.SetMaxDynamicTableSizeLimit(tableSize)
	return e
}

func (e *encoder) resize(n uint32) { e.enc.SetMaxDynamicTableSize(min(n, tableSize)) }

func (e *encoder) reset() { e.buf.Reset() }

func (e *encoder) field(name, value string) {
	// Writing to a bytes.Buffer has no error.
	_ = e.enc.WriteField(hpack.HeaderField{Name: name, Value: value, Sensitive: secret(name)})
}

// secret tells whether a field must not enter a compression table, where a guess could be tested against it.
func secret(name string) bool {
	return len(name) == len("authorization") && strings.EqualFold(name, "authorization") ||
		len(name) == len("proxy-authorization") && strings.EqualFold(name, "proxy-authorization")
}
