package h1

import (
	"hash/maphash"
	"strings"

	"fairlead.io/fairlead/internal/l7/exchange"
)

// matter is what a field is about, as far as a hop has to know.
type matter uint8

const (
	travels matter = iota // it goes on as it is
	aboutHost
	aboutLength
	aboutCoding
	aboutConnection
	aboutUpgrade
	aboutTE
	stays // it concerns this connection only, or is not for clients to send
)

func matterOf(name string) matter {
	switch {
	case strings.EqualFold(name, "host"):
		return aboutHost
	case strings.EqualFold(name, "content-length"):
		return aboutLength
	case strings.EqualFold(name, "transfer-encoding"):
		return aboutCoding
	case strings.EqualFold(name, "connection"):
		return aboutConnection
	case strings.EqualFold(name, "upgrade"):
		return aboutUpgrade
	case strings.EqualFold(name, "te"):
		return aboutTE
	case exchange.HopByHop(name), exchange.Ours(name):
		return stays
	}
	return travels
}

// line is a header line that has been read.
type line struct {
	field exchange.Field
	about matter
}

// parseLine reads a header line, without its CRLF.
func parseLine(s string) (line, error) {
	f, err := parseField(s)
	if err != nil {
		return line{}, err
	}
	return line{f, matterOf(f.Name)}, nil
}

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
	line line
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

// header reads a header line, without its CRLF. One that is malformed is not remembered.
func (m *Memo) header(b []byte) (line, error) {
	e, known := m.find(b)
	if known && e.read {
		return e.line, nil
	}
	s := string(b)
	l, err := parseLine(s)
	if err == nil && e != nil {
		*e = memoEntry{text: s, read: true, line: l}
	}
	return l, err
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
