package balance

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/cespare/xxhash/v2"

	"fairlead.io/fairlead/internal/mesh"
)

const (
	// points is how many an endpoint has on the ring, whatever the others: only so nothing moves but what must.
	points = 160
	// maxPoints bounds the ring. Beyond it, every endpoint has fewer.
	maxPoints = 320_000
)

// ring is a circle of hashes. A key belongs to the endpoint of the first point at or after its hash.
type ring struct {
	list  []netip.AddrPort // that it was made of
	point []point
}

type point struct {
	hash uint64
	at   uint32 // in list
}

// HashOf is the hash of a header's or a cookie's value.
func HashOf(value string) uint64 { return xxhash.Sum64String(value) }

// newRing makes a ring, or takes the old one if that is of the same addresses.
func newRing(from []*Endpoint, old *ring) *ring {
	same := func(e *Endpoint, a netip.AddrPort) bool { return e.Addr == a }
	if old != nil && slices.EqualFunc(from, old.list, same) {
		return old
	}
	each := points
	for each > 1 && each*len(from) > maxPoints {
		each /= 2
	}
	r := &ring{list: make([]netip.AddrPort, len(from)), point: make([]point, 0, each*len(from))}
	var key [20]byte
	for i, e := range from {
		r.list[i] = e.Addr
		addr := e.Addr.Addr().As16()
		copy(key[:], addr[:])
		binary.BigEndian.PutUint16(key[16:], e.Addr.Port())
		for n := range each {
			binary.BigEndian.PutUint16(key[18:], uint16(n))
			r.point = append(r.point, point{xxhash.Sum64(key[:]), uint32(i)})
		}
	}
	slices.SortFunc(r.point, func(a, b point) int { return cmp.Compare(a.hash, b.hash) })
	return r
}

// find is the first point at or after the hash.
func (r *ring) find(hash uint64) int {
	low, high := 0, len(r.point)
	for low < high {
		mid := int(uint(low+high) >> 1)
		if r.point[mid].hash < hash {
			low = mid + 1
		} else {
			high = mid
		}
	}
	if low == len(r.point) {
		return 0
	}
	return low
}

// hash is the choice's, if it has what the policy says it is made of.
func (d *draw) hash() (uint64, bool) {
	switch {
	case d.s.ring == nil || len(d.s.ring.point) == 0:
		return 0, false
	case d.ch.Hashed:
		return d.ch.Hash, true
	case d.s.balance.HashOn == mesh.HashAddress && d.ch.Client.IsValid():
		key := d.ch.Client.As16()
		return xxhash.Sum64(key[:]), true
	}
	return 0, false
}

// around goes along the ring from the hash to the first endpoint that can be used.
func (d *draw) around(hash uint64) *Endpoint {
	r := d.s.ring
	start := r.find(hash)
	seen := ^uint32(0)
	for k := range min(strides, len(r.point)) {
		at := r.point[(start+k)%len(r.point)].at
		if at == seen {
			continue
		}
		seen = at
		if e := d.take(d.s.tiers[0][at]); e != nil {
			return e
		}
	}
	return nil
}
