package hpack

const (
	buckets   = 64
	firstRing = 8   // entries
	firstData = 512 // bytes
)

// encoderTable is a dynamic table with copies of its fields. Entries are numbered as they come; a bucket has the number of its
// youngest entry, which has that of the next older one. Entries leave in the order in which they came, so that a
// number which is not among the youngest n ends a chain and nothing has to be taken out of one.
type encoderTable struct {
	*chains
	ring      []entry // of a power of two; entry i is at i modulo its length
	next      uint32  // number of the entry to come
	n         int
	size, max int
	data      []byte // names and values, in the order of the entries
}

// chains are made with the first field that could enter the table.
type chains struct {
	pairs, names [buckets]uint32
	seen         [buckets]uint32 // hashes of fields that came once
	dice         uint32
}

type entry struct {
	hash, nameHash       uint32
	older, olderName     uint32
	at, nameLen, dataLen int32 // in data
}

func (t *encoderTable) entry(i uint32) *entry { return &t.ring[i&uint32(len(t.ring)-1)] }

// nameOf and valueOf are valid until the next add.
func (t *encoderTable) nameOf(e *entry) []byte  { return t.data[e.at:][:e.nameLen] }
func (t *encoderTable) valueOf(e *entry) []byte { return t.data[e.at:][e.nameLen:e.dataLen] }

func (t *encoderTable) sameName(e *entry, f *field) bool {
	name := t.nameOf(e)
	if string(name) == f.name {
		return true
	}
	if f.keepCase || len(name) != len(f.name) {
		return false
	}
	for i, c := range name {
		if c != lower[f.name[i]] {
			return false
		}
	}
	return true
}

// pair returns the index of a field, or 0.
func (t *encoderTable) pair(f *field, hash uint32) int {
	if t.n == 0 {
		return 0
	}
	for i, last := t.pairs[hash%buckets], uint32(0); ; {
		age := t.next - i
		if age <= last || age > uint32(t.n) {
			return 0
		}
		e := t.entry(i)
		if e.hash == hash && string(t.valueOf(e)) == f.value && t.sameName(e, f) {
			return dynamic - 1 + int(age)
		}
		i, last = e.older, age
	}
}

// name returns the index of a field with the name of f, or 0.
func (t *encoderTable) name(f *field) int {
	if t.n == 0 {
		return 0
	}
	for i, last := t.names[f.hash%buckets], uint32(0); ; {
		age := t.next - i
		if age <= last || age > uint32(t.n) {
			return 0
		}
		e := t.entry(i)
		if e.nameHash == f.hash && t.sameName(e, f) {
			return dynamic - 1 + int(age)
		}
		i, last = e.olderName, age
	}
}

// again tells whether a field came before. What comes once, an identifier or a date, would push out what comes always.
// Of fields that share a place one is kept, by chance: if each took it from the other, as they come in turn, neither would
// ever be found.
func (t *encoderTable) again(hash uint32) bool {
	if t.chains == nil {
		t.chains = &chains{}
	}
	p := &t.seen[hash/buckets%buckets]
	if *p == hash {
		return true
	}
	t.dice = t.dice*1664525 + 1013904223
	if *p == 0 || t.dice>>31 > 0 {
		*p = hash
	}
	return false
}

// evict drops the oldest entries until the rest has at most that size.
func (t *encoderTable) evict(size int) {
	for t.size > size {
		t.size -= int(t.entry(t.next-uint32(t.n)).dataLen) + overhead
		t.n--
	}
}

// add takes in a field; one that is larger than the table empties it.
func (t *encoderTable) add(f *field, hash uint32) {
	length := len(f.name) + len(f.value)
	if length+overhead > t.max {
		t.evict(0)
		return
	}
	t.evict(t.max - length - overhead)
	t.room(length)
	e := entry{
		hash: hash, nameHash: f.hash, older: t.pairs[hash%buckets], olderName: t.names[f.hash%buckets],
		at: int32(len(t.data)), nameLen: int32(len(f.name)), dataLen: int32(length),
	}
	t.data = append(append(t.data, f.name...), f.value...)
	if !f.keepCase {
		makeLower(t.nameOf(&e))
	}
	*t.entry(t.next) = e
	t.pairs[hash%buckets], t.names[f.hash%buckets] = t.next, t.next
	t.next++
	t.n, t.size = t.n+1, t.size+length+overhead
}

// room makes place for one entry of that length.
func (t *encoderTable) room(length int) {
	if t.n == len(t.ring) {
		ring := make([]entry, max(firstRing, 2*t.n))
		for i := t.next - uint32(t.n); i != t.next; i++ {
			ring[i&uint32(len(ring)-1)] = *t.entry(i)
		}
		t.ring = ring
	}
	if len(t.data)+length <= cap(t.data) {
		return
	}
	// What evicted entries have left goes. At least half of the room is free then, so that a byte moves once on average.
	var start int32
	if t.n > 0 {
		start = t.entry(t.next - uint32(t.n)).at
	} else {
		start = int32(len(t.data))
	}
	live := t.data[start:]
	if need := 2 * (len(live) + length); need > cap(t.data) {
		t.data = append(make([]byte, 0, max(firstData, need)), live...)
	} else {
		t.data = t.data[:copy(t.data[:cap(t.data)], live)]
	}
	for i := t.next - uint32(t.n); i != t.next; i++ {
		t.entry(i).at -= start
	}
}
