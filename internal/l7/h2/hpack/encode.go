package hpack

import "fairlead.io/fairlead/internal/l7/exchange"

// Encoder turns the fields of one connection into header blocks. It leaves out the Huffman code, which would save bytes that nobody
// counts: towards apps they never leave their pod, and between nodes heads are mostly indices. With it a head that is new in part
// costs a quarter more.
type Encoder struct {
	keepCase bool
	table    encoderTable

	update bool // the next block begins with the table's size,
	empty  bool // and before it with a size of zero
}

// NewEncoder makes an encoder for a peer that has announced nothing yet. With keepCase it sends names as they are, without in small
// letters, as HTTP/2 wants them. Either way names are recognised whatever their case; with it, one that differs from the static
// table's is written out.
func NewEncoder(keepCase bool) *Encoder {
	e := &Encoder{keepCase: keepCase}
	e.table.max = DefaultTable
	return e
}

// Resize follows the peer's SETTINGS_HEADER_TABLE_SIZE, between two blocks, as far as we want it.
func (e *Encoder) Resize(peer int) {
	n := min(peer, DefaultTable)
	if n == e.table.max {
		return
	}
	// Smaller and then larger before a block are two updates, the first with the smallest size. Peers are known that take a
	// second one only when their table is empty, so that the first one is zero.
	if e.update && n > e.table.max {
		e.table.evict(0)
		e.empty = true
	}
	e.table.max, e.update = n, true
	e.table.evict(n)
}

// Append writes a field behind dst, first of all what has to begin a block. The strings are not kept.
func (e *Encoder) Append(dst []byte, name, value string) []byte {
	return e.append(dst, name, value, false)
}

// AppendField is Append of a field with notes.
func (e *Encoder) AppendField(dst []byte, f *exchange.Field) []byte {
	n := &f.Notes
	if n.Known && !f.Sensitive && !e.update && !n.About.Secret() {
		key := field{name: f.Name, value: f.Value, keepCase: e.keepCase}
		if i := e.table.pair(&key, n.Hash); i != 0 {
			return appendInteger(dst, 0x80, 7, i)
		}
	}
	return e.append(dst, f.Name, f.Value, f.Sensitive)
}

func (e *Encoder) append(dst []byte, name, value string, never bool) []byte {
	var f field
	f.set(name, value, e.keepCase)
	if never || secret(f.known, value) {
		return e.literal(e.updates(dst), &f, 0x10, 4)
	}
	return e.public(e.updates(dst), &f, false)
}

// updates writes the table's size if the peer does not know it yet.
func (e *Encoder) updates(dst []byte) []byte {
	if !e.update {
		return dst
	}
	if e.empty {
		dst = append(dst, 0x20)
	}
	e.update, e.empty = false, false
	return appendInteger(dst, 0x20, 5, e.table.max)
}

// field is what the tables are searched for.
type field struct {
	name, value string
	hash        uint32 // of the name, whatever its case
	known       int    // the name's index in the static table, whatever its case
	static      int    // the same if the peer is to see that very name
	keepCase    bool
}

// set fills in a zero field.
func (f *field) set(name, value string, keepCase bool) {
	f.name, f.value, f.keepCase = name, value, keepCase
	f.hash = exchange.HashName(name)
	f.known = staticName(f.hash, name)
	if !keepCase || f.known != 0 && static[f.known].Name == name {
		f.static = f.known
	}
}

// public writes a field that may be in a table. at once says that it goes there the first time it is seen.
func (e *Encoder) public(dst []byte, f *field, atOnce bool) []byte {
	if f.static != 0 {
		if i := staticPair(f.static, f.value); i != 0 {
			return appendInteger(dst, 0x80, 7, i)
		}
	}
	size := len(f.name) + len(f.value) + overhead
	if size > e.table.max/2 && !atOnce {
		return e.literal(dst, f, 0, 4)
	}
	hash := f.hash ^ exchange.HashValue(f.value)
	if i := e.table.pair(f, hash); i != 0 {
		return appendInteger(dst, 0x80, 7, i)
	}
	if !e.table.again(hash) && !atOnce {
		return e.literal(dst, f, 0, 4)
	}
	dst = e.literal(dst, f, 0x40, 6)
	e.table.add(f, hash)
	return dst
}

// literal writes a field with its value, and with its name unless a table has it.
func (e *Encoder) literal(dst []byte, f *field, kind byte, prefix uint) []byte {
	i := f.static
	if i == 0 {
		i = e.table.name(f)
	}
	dst = appendInteger(dst, kind, prefix, i)
	if i == 0 {
		dst = e.text(dst, f.name, !e.keepCase)
	}
	return e.text(dst, f.value, false)
}

// text writes a string, in small letters if fold says so.
func (e *Encoder) text(dst []byte, s string, fold bool) []byte {
	dst = append(appendInteger(dst, 0, 7, len(s)), s...)
	if fold {
		makeLower(dst[len(dst)-len(s):])
	}
	return dst
}

func makeLower(b []byte) {
	for i, c := range b {
		b[i] = lower[c]
	}
}
