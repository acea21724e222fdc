package socket

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/mesh"
)

// FuzzServerMessage reads what a proxy sends. What parses is within bounds and writes back as it was.
func FuzzServerMessage(f *testing.F) {
	for _, q := range []request{
		{kind: kindSockets, id: 1, uid: "pod", family: 4, n: 64},
		{kind: kindHop, id: 2, uid: "pod", client: netip.MustParseAddr("10.0.0.1")},
		{kind: kindHop, id: 2, uid: "pod", client: netip.MustParseAddr("fd00::1")},
		{kind: kindSign, id: 3, account: mesh.Account{Namespace: "ns", Name: "sa"}, content: []byte("content")},
		{kind: kindVerdicts, id: 4}, {kind: kindSaveState, id: 5}, {kind: kindLoadState, id: 6}, {kind: kindServing, id: 7},
	} {
		b, err := q.encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add(encodeHello())
	f.Fuzz(func(t *testing.T, b []byte) {
		_ = parseHello(b)
		q, err := parseRequest(b)
		if err != nil {
			return
		}
		if len(q.uid) > maxUID || q.n > MaxBatch || len(q.content) > maxContent || q.descriptors() > 1 {
			t.Errorf("out of bounds: %+v", q)
		}
		again, err := q.encode()
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("%x writes back as %x, %v", b, again, err)
		}
	})
}

// FuzzClientMessage reads what a keeper sends, which a proxy has no reason to mistrust, but must not crash on either.
func FuzzClientMessage(f *testing.F) {
	for _, e := range []event{
		{enrolled: &enrolled{Pod{UID: "pod", Name: mesh.Name{Namespace: "ns", Name: "n"}, Addrs: []netip.Addr{netip.MustParseAddr("fd00::1")}}, []Listener{{Out, 4, 3}, {In, 6, 4}}}},
		{left: &left{"pod", time.Second}},
		{others: &others{[]string{"a", "b"}}},
		{earlier: &earlier{"pod", Earlier{3, true}}},
		{synced: true}, {superseded: true},
		{certificate: &Certificate{Chain: [][]byte{{1}, {2}}, NotAfter: time.Unix(1, 0)}},
		{roots: &roots{"td", []byte("pem")}},
	} {
		b, err := e.encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, uint8(2))
		f.Add(b, uint8(0))
	}
	v, err := encodeVerdicts(1, map[string]uint64{"a": 1, "b": 2})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(v, uint8(0))
	f.Add(encodeRefusal(1, ErrLimited), uint8(0))
	f.Fuzz(func(t *testing.T, b []byte, n uint8) {
		if len(b) > MaxMessage {
			return
		}
		fds := make([]int, n%maxDescriptors)
		e, err := parseEvent(b, fds)
		if err == nil {
			if e.enrolled != nil && (len(e.enrolled.pod.Addrs) > maxAddrs || len(e.enrolled.listeners) != len(fds)) {
				t.Errorf("out of bounds: %+v", e.enrolled)
			}
			if e.others != nil && len(e.others.programs) > maxPrograms {
				t.Errorf("out of bounds: %+v", e.others)
			}
			if e.left != nil && e.left.drain < 0 {
				t.Errorf("negative drain %v", e.left.drain)
			}
		}
		if len(b) > headerLen {
			if verdicts, err := parseVerdicts(b[headerLen:]); err == nil && len(verdicts) > maxVerdicts {
				t.Errorf("%d verdicts", len(verdicts))
			}
			if parseRefusal(b[headerLen:]) == nil {
				t.Error("a refusal without an error")
			}
		}
	})
}
