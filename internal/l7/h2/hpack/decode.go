package hpack

import "fairlead.io/fairlead/internal/l7/exchange"

// Decoder turns the header blocks of one connection into fields.
type Decoder struct {
	memo  *Memo
	limit int // of a list, with the overhead of each field
	most  int // fields of a list

	table   decoderTable
	secret  lastSecret
	setting int // what we have announced: the largest size that the peer may choose
	owed    int // an update to at most this size has to come first; -1 is none
	err     error

	// Of the block that is being decoded.
	fields []exchange.Field
	size   int
	large  bool
}

// NewDecoder makes a decoder of lists with at most so many bytes, counted as SETTINGS_MAX_HEADER_LIST_SIZE counts, and so
// many fields. memo may be nil: then the decoder makes one of its own when the first literal comes.
func NewDecoder(listBytes, fields int, memo *Memo) *Decoder {
	return &Decoder{
		memo: memo, limit: listBytes, most: fields, setting: DefaultTable, owed: -1,
		table: decoderTable{max: DefaultTable},
	}
}

// Resize says that the peer has acknowledged a SETTINGS_HEADER_TABLE_SIZE. If that is below the size in use, the next
// block has to begin with an update.
func (d *Decoder) Resize(n int) {
	d.setting = n
	if n < d.table.max && (d.owed < 0 || n < d.owed) {
		d.owed = n
	}
}

// Decode reads one whole block and appends its fields to dst. large says that they are more than the limits allow: then
// some are missing. After an error there is nothing to be had from this connection any more.
func (d *Decoder) Decode(dst []exchange.Field, block []byte) (fields []exchange.Field, large bool, err error) {
	if d.err != nil {
		return dst, false, d.err
	}
	d.fields, d.size, d.large = dst, 0, false
	first := len(dst)
	block, d.err = d.updates(block)
	for len(block) > 0 && d.err == nil {
		block, d.err = d.field(block, first)
	}
	fields, d.fields = d.fields, nil
	if d.memo != nil {
		d.memo.forget(d.err != nil)
	}
	if d.err != nil {
		return dst, false, d.err
	}
	return fields, d.large, nil
}

func isUpdate(c byte) bool { return c&0xe0 == 0x20 }

// updates reads the changes of the table's size at the start of a block.
func (d *Decoder) updates(b []byte) ([]byte, error) {
	for n := 0; len(b) > 0 && isUpdate(b[0]); n++ {
		if n == 2 {
			return nil, errUpdateMany
		}
		size, rest, err := readInteger(b, 5)
		if err != nil {
			return nil, err
		}
		if size > d.setting || d.owed >= 0 && size > d.owed {
			return nil, errUpdateLarge
		}
		d.table.max, d.owed = size, -1
		d.table.evict(size)
		b = rest
	}
	if d.owed >= 0 && len(b) > 0 {
		return nil, errUpdateNone
	}
	return b, nil
}

// field reads one field and returns what follows it. first is where this block's fields begin in d.fields.
func (d *Decoder) field(b []byte, first int) ([]byte, error) {
	c := b[0]
	prefix, indexed, never := uint(4), false, c&0xf0 == 0x10
	switch {
	case c >= 0x80:
		i, rest, err := readInteger(b, 7)
		if err != nil {
			return nil, err
		}
		f := d.at(i)
		if f == nil {
			return nil, errIndex
		}
		if d.fits(len(f.Name)+len(f.Value)+overhead, first) {
			d.fields = append(d.fields, *f)
		}
		return rest, nil
	case c >= 0x40:
		prefix, indexed = 6, true
	case c >= 0x20:
		return nil, errUpdateLate
	}
	i, b, err := readInteger(b, prefix)
	if err != nil {
		return nil, err
	}
	var name, value literal
	if i == 0 {
		b, err = d.literal(&name, b, true)
	} else if f := d.at(i); f != nil {
		name.text, name.known = f.Name, true
	} else {
		err = errIndex
	}
	if err != nil {
		return nil, err
	}
	remember := !never && !credentials(&name)
	if b, err = d.literal(&value, b, remember); err != nil {
		return nil, err
	}
	d.take(&name, &value, indexed, never, remember, first)
	d.memo.forget(!remember)
	return b, nil
}

// take makes a field of two literals, if somebody needs it.
func (d *Decoder) take(name, value *literal, indexed, never, remember bool, first int) {
	size := name.len() + value.len() + overhead
	fits := d.fits(size, first)
	if indexed && size > d.table.max {
		// The entry is larger than the table: it only empties it (RFC 7541 section 4.4).
		d.table.evict(0)
		indexed = false
	}
	if !fits && !indexed {
		return
	}
	f := exchange.Field{Name: d.text(name, true), Value: d.text(value, remember), Sensitive: never}
	if indexed {
		d.table.add(f)
	}
	if fits {
		d.fields = append(d.fields, f)
	}
}

// fits counts a field. After one that does not fit none does.
func (d *Decoder) fits(size, first int) bool {
	d.size += size
	if d.size > d.limit || len(d.fields)-first >= d.most {
		d.large = true
	}
	return !d.large
}

// literal reads a string, and returns what follows it. One that the Memo is not to remember is a secret.
func (d *Decoder) literal(l *literal, b []byte, remember bool) ([]byte, error) {
	if len(b) == 0 {
		return nil, errCut
	}
	l.huffman = b[0] >= 0x80
	n, b, err := readInteger(b, 7)
	if err != nil {
		return nil, err
	}
	if n > len(b) {
		return nil, errCut
	}
	l.wire, b = b[:n], b[n:]
	if d.memo == nil {
		d.memo = &Memo{}
	}
	if !remember {
		d.secret.find(l)
	} else if remembers(l.wire) {
		d.memo.find(l)
	}
	if l.known {
		return b, nil
	}
	l.plain = l.wire
	if l.huffman {
		start := len(d.memo.scratch)
		if d.memo.scratch, err = appendDecoded(d.memo.scratch, l.wire); err != nil {
			return nil, err
		}
		l.plain = d.memo.scratch[start:]
	}
	return b, nil
}

// text returns a literal as a string of its own.
func (d *Decoder) text(l *literal, remember bool) string {
	if l.known || len(l.plain) == 0 {
		return l.text
	}
	s := string(l.plain)
	if !remember {
		d.secret.keep(l, s)
	} else if remembers(l.wire) {
		d.memo.put(l, s)
	}
	return s
}

// at returns the field with an index of RFC 7541 section 2.3.3, or nil.
func (d *Decoder) at(i int) *exchange.Field {
	if i < dynamic {
		if i == 0 {
			return nil
		}
		return &static[i]
	}
	f := d.table.at(i - dynamic)
	if f != nil && !f.Notes.Known { // not before it comes again: some peers fill the table and never refer to it
		f.Notes = exchange.Note(f.Name, f.Value)
	}
	return f
}

// decoderTable is a dynamic table: a ring that grows with what is in it.
type decoderTable struct {
	ring      []exchange.Field // of a power of two, or nil
	newest, n int
	size, max int
}

// at returns the i-th youngest field, or nil.
func (t *decoderTable) at(i int) *exchange.Field {
	if i >= t.n {
		return nil
	}
	return &t.ring[(t.newest-i)&(len(t.ring)-1)]
}

// evict drops the oldest fields until the rest has at most that size.
func (t *decoderTable) evict(size int) {
	for t.size > size {
		f := t.at(t.n - 1)
		t.size -= len(f.Name) + len(f.Value) + overhead
		*f = exchange.Field{}
		t.n--
	}
}

// add makes room and takes in a field that is not larger than the table.
func (t *decoderTable) add(f exchange.Field) {
	size := len(f.Name) + len(f.Value) + overhead
	t.evict(t.max - size)
	if t.n == len(t.ring) {
		ring := make([]exchange.Field, max(8, 2*t.n))
		for i := range t.n {
			ring[t.n-1-i] = *t.at(i)
		}
		t.ring, t.newest = ring, t.n-1
	}
	t.newest = (t.newest + 1) & (len(t.ring) - 1)
	t.ring[t.newest] = f
	t.n, t.size = t.n+1, t.size+size
}
