package capture

import "net/netip"

// connection is one direction of a connection: the client's.
type connection struct{ src, dst netip.AddrPort }

// openings are the connections that were seen to be opened and whose client has sent nothing yet, by the sequence
// number of the client's first byte.
type openings map[connection]uint32

// add remembers a SYN. Above maxFlows nothing is remembered any more: those connections are not judged.
func (o openings) add(s segment) {
	if len(o) < maxFlows {
		o[connection{s.src, s.dst}] = s.seq + 1
	}
}

// first tells whether a segment has a client's first bytes, and whether they begin a TLS handshake record.
func (o openings) first(s segment) (began, secure bool) {
	key := connection{s.src, s.dst}
	if start, ok := o[key]; !ok || start != s.seq {
		return false, false
	}
	delete(o, key)
	return true, len(s.payload) > 2 && s.payload[0] == 0x16 && s.payload[1] == 3
}
