package h2

import (
	"fairlead.io/fairlead/internal/l7/exchange"
	"fairlead.io/fairlead/internal/l7/h2/hpack"
)

// keptFields is how many decoded fields a connection has room for while it is idle.
const keptFields = 32

// coding is the header compression of a connection.
type coding struct {
	enc    *hpack.Encoder
	dec    *hpack.Decoder
	block  []byte // that is being written
	fields []exchange.Field
}

// init fills in a zero coding.
func (c *coding) init(lim *exchange.Limits, private bool, shared *Shared) {
	c.enc = hpack.NewEncoder(private)
	var memo *hpack.Memo
	if shared != nil {
		memo = &shared.memo
	}
	// Pseudo-fields and those that travel as ours are not counted as fields of a head.
	c.dec = hpack.NewDecoder(lim.HeadBytes, lim.HeadFields+8, memo)
}

// decode reads one whole block. The fields are valid until forget; large says that there were too many.
func (c *coding) decode(block []byte) (fields []exchange.Field, large bool, err error) {
	fields, large, err = c.dec.Decode(c.fields[:0], block)
	if err != nil {
		return nil, false, &connError{codeCompression, err.Error()}
	}
	c.fields = fields
	return fields, large, nil
}

// forget lets go of the decoded fields.
func (c *coding) forget() {
	clear(c.fields)
	if cap(c.fields) > keptFields {
		c.fields = nil
	}
}

// begin starts a new block.
func (c *coding) begin() { c.block = c.block[:0] }

func (c *coding) put(name, value string) { c.block = c.enc.Append(c.block, name, value) }

func (c *coding) putField(f *exchange.Field) { c.block = c.enc.AppendField(c.block, f) }
