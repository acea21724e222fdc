package hpack

import "hash/maphash"

const (
	memoSets = 16
	memoWays = 8
	memoWire = 160 // bytes of the longest literal that is remembered, as it was on the wire
	// scratchKept is how much room for decoded strings stays between blocks.
	scratchKept = 4096
)

var seed = maphash.MakeSeed()

// Memo remembers short literals as they were on the wire, so that the same bytes give the same string again. It holds
// memoSets times memoWays of them. One may be shared by all decoders of a loop, so that an idle connection has none
// of its own. The zero value is ready.
type Memo struct {
	sets    [memoSets]*memoSet
	scratch []byte // for decoded strings, during a call of Decode
}

// memoSet has the literals whose hash chose it.
type memoSet struct {
	tags    [memoWays]uint32
	used    uint8 // a bit for each that was found since the hand passed it
	hand    uint8 // which is looked at first when one has to go
	entries [memoWays]memoEntry
}

type memoEntry struct {
	text    string
	wire    []byte // only of a literal in Huffman code; without, text is the same
	huffman bool
}

// literal is a string as it stands in a block.
type literal struct {
	wire    []byte
	huffman bool
	hash    uint64
	known   bool   // text is set
	text    string // out of the memo
	plain   []byte // decoded; of the block or of the scratch, valid during Decode only
}

func (l *literal) len() int {
	if l.known {
		return len(l.text)
	}
	return len(l.plain)
}

// remembers tells whether literals of this length are remembered.
func remembers(wire []byte) bool { return len(wire) <= memoWire }

// find sets the text of l if it is remembered.
func (m *Memo) find(l *literal) {
	l.hash = maphash.Bytes(seed, l.wire)
	set := m.sets[l.hash%memoSets]
	if set == nil {
		return
	}
	tag := uint32(l.hash >> 32)
	for i := range set.tags {
		if set.tags[i] != tag {
			continue
		}
		e := &set.entries[i]
		if e.huffman == l.huffman && (l.huffman && string(e.wire) == string(l.wire) || !l.huffman && e.text == string(l.wire)) {
			set.used |= 1 << i
			l.text, l.known = e.text, true
			return
		}
	}
}

// put remembers what find did not find, in the place of one that was not found for longest.
func (m *Memo) put(l *literal, text string) {
	p := &m.sets[l.hash%memoSets]
	if *p == nil {
		*p = &memoSet{}
	}
	set := *p
	for set.used&(1<<set.hand) != 0 {
		set.used &^= 1 << set.hand
		set.hand = (set.hand + 1) % memoWays
	}
	e := &set.entries[set.hand]
	e.text, e.huffman, e.wire = text, l.huffman, e.wire[:0]
	if l.huffman {
		e.wire = append(e.wire, l.wire...)
	}
	set.tags[set.hand] = uint32(l.hash >> 32)
	set.hand = (set.hand + 1) % memoWays
}

// forget ends the use of the scratch for one field, and wipes it if that may be a secret.
func (m *Memo) forget(secret bool) {
	if secret {
		clear(m.scratch)
	}
	m.scratch = m.scratch[:0]
	if cap(m.scratch) > scratchKept {
		m.scratch = nil
	}
}
