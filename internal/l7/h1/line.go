package h1

import (
	"hash/maphash"

	"fairlead.io/fairlead/internal/l7/exchange"
)

const (
	memoSets = 128
	memoWays = 4
	memoLong = 160 // bytes of the longest line that is remembered
)

var seed = maphash.MakeSeed()

// Memo remembers short lines of heads, so that one which comes again costs neither an allocation nor a second look at its
// bytes. Lines with credentials are not remembered: who shares a Memo could tell by the time that it takes whether somebody
// else has sent the same. The zero value is ready; one is shared by all connections of a loop.
type Memo struct {
	sets [memoSets]*memoSet
}

type memoSet struct {
	next    uint8 // which makes room
	entries [memoWays]memoEntry
}

type memoEntry struct {
	text string
	read bool // as a header line
	line exchange.Field
}

// find returns the place of a line, and whether it is there. It is nil for one that is not remembered.
func (m *Memo) find(b []byte) (e *memoEntry, known bool) {
	if m == nil || len(b) > memoLong || len(b) == 0 || credentials(b) {
		return nil, false
	}
	p := &m.sets[maphash.Bytes(seed, b)%memoSets]
	if *p == nil {
		*p = &memoSet{}
	}
	set := *p
	for i := range set.entries {
		if e := &set.entries[i]; e.text == string(b) {
			return e, true
		}
	}
	e = &set.entries[set.next%memoWays]
	set.next++
	return e, false
}

// text returns a line as a string.
func (m *Memo) text(b []byte) string {
	e, known := m.find(b)
	if e == nil {
		return string(b)
	}
	if !known {
		*e = memoEntry{text: string(b)}
	}
	return e.text
}

// header reads a header line, without its CRLF. One that is malformed is not remembered; one that is has notes.
func (m *Memo) header(b []byte) (exchange.Field, error) {
	e, known := m.find(b)
	if known && e.read {
		return e.line, nil
	}
	s := string(b)
	f, err := parseField(s)
	if err == nil && e != nil {
		f.Notes = exchange.Note(f.Name, f.Value)
		*e = memoEntry{text: s, read: true, line: f}
	}
	return f, err
}

// credentials tells whether a line's name is one whose values are secrets.
func credentials(b []byte) bool {
	switch b[0] | 0x20 {
	case 'a', 'c', 'p', 's':
		return begins(b, "authorization:") || begins(b, "cookie:") || begins(b, "proxy-authorization:") || begins(b, "set-cookie:")
	}
	return false
}

// begins tells whether b begins with s, which is in small letters, in any case.
func begins(b []byte, s string) bool {
	if len(b) < len(s) {
		return false
	}
	for i := range len(s) {
		c := b[i]
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		if c != s[i] {
			return false
		}
	}
	return true
}
