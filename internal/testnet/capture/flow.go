package capture

import "bytes"

// maxEdges is how many segments of a flow are remembered, by their first and last bytes.
const maxEdges = 32

// edge is what is remembered of a segment: enough of both ends to find a marker that reaches over them.
type edge struct {
	start, end uint32 // sequence numbers; end is the next one
	head, tail []byte
}

type flowKey struct{ src, dst string }

// flows is what one tap remembers. The oldest flow goes when there are too many.
type flows struct {
	keep  int // bytes of an edge: one less than the longest marker
	table map[flowKey]*flow
	order []flowKey
}

// flow is one direction of a connection.
type flow struct {
	edges [maxEdges]edge
	next  int // the edge to overwrite
}

func newFlows(longest int) flows { return flows{keep: longest - 1, table: map[flowKey]*flow{}} }

// neighbours returns the last bytes before the segment and the first after it, as far as they are known, and remembers
// the segment.
func (f *flows) neighbours(s segment) (before, after []byte) {
	key := flowKey{s.src.String(), s.dst.String()}
	fl := f.table[key]
	if fl == nil {
		if len(f.order) >= maxFlows {
			delete(f.table, f.order[0])
			f.order = f.order[1:]
		}
		fl = &flow{}
		f.table[key] = fl
		f.order = append(f.order, key)
	}
	start, end := s.seq, s.seq+uint32(len(s.payload))
	for i := range fl.edges {
		e := &fl.edges[i]
		if e.end == start && len(e.tail) > len(before) {
			before = e.tail
		}
		if e.start == end && len(e.head) > len(after) {
			after = e.head
		}
	}
	// What is shorter than an edge takes from its neighbours, so that a text written byte by byte is found too.
	fl.edges[fl.next] = edge{start: start, end: end, head: first(f.keep, s.payload, after), tail: last(f.keep, before, s.payload)}
	fl.next = (fl.next + 1) % maxEdges
	return before, after
}

func first(n int, a, b []byte) []byte {
	joined := append(bytes.Clone(a[:min(n, len(a))]), b...)
	return joined[:min(n, len(joined))]
}

func last(n int, a, b []byte) []byte {
	joined := append(bytes.Clone(a), b[max(0, len(b)-n):]...)
	return joined[max(0, len(joined)-n):]
}

// count is how often the marker stands in the payload, or reaches into it from what is before or after it.
func count(before, payload, after, marker []byte) int {
	n := bytes.Count(payload, marker)
	reach := len(marker) - 1
	if reach == 0 {
		return n
	}
	n += across(before, payload, marker, reach)
	n += across(payload, after, marker, reach)
	if len(payload) < reach && len(before) > 0 && len(after) > 0 {
		// A short segment can lie inside a marker.
		text := append(append(bytes.Clone(before), payload...), after...)
		for at := range text {
			if at < len(before) && at+len(marker) > len(before)+len(payload) && bytes.HasPrefix(text[at:], marker) {
				n++
			}
		}
	}
	return n
}

// across counts markers that begin in a and end in b.
func across(a, b, marker []byte, reach int) int {
	a, b = a[max(0, len(a)-reach):], b[:min(reach, len(b))]
	text := append(bytes.Clone(a), b...)
	n := 0
	for at := range a {
		if at+len(marker) > len(a) && bytes.HasPrefix(text[at:], marker) {
			n++
		}
	}
	return n
}
