package capture

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

const marker = "PLAINTEXT-MARKER"

// packet4 is an IPv4 packet with a TCP segment, as the wire has it.
func packet4(src, dst netip.AddrPort, seq uint32, payload string) []byte {
	b := make([]byte, 40, 40+len(payload))
	b[0], b[9], b[32] = 0x45, unix.IPPROTO_TCP, 5<<4
	binary.BigEndian.PutUint16(b[2:], uint16(40+len(payload)))
	copy(b[12:], src.Addr().AsSlice())
	copy(b[16:], dst.Addr().AsSlice())
	binary.BigEndian.PutUint16(b[20:], src.Port())
	binary.BigEndian.PutUint16(b[22:], dst.Port())
	binary.BigEndian.PutUint32(b[24:], seq)
	return append(b, payload...)
}

var client, server = netip.MustParseAddrPort("10.0.0.1:40000"), netip.MustParseAddrPort("10.0.0.2:80")

// hits is how often the marker is found in these payloads, sent in this order with these sequence numbers.
func hits(t *testing.T, markers []string, send func(func(seq uint32, payload string))) uint64 {
	t.Helper()
	c, err := New(markers...)
	if err != nil {
		t.Fatal(err)
	}
	tap := c.tap("here")
	send(func(seq uint32, payload string) {
		c.packet(tap, unix.ETH_P_IP, packet4(client, server, seq, payload), false)
	})
	return c.Stats().Hits[markers[0]]
}

func TestAMarkerIsFoundHoweverItIsCut(t *testing.T) {
	text := "x" + marker + marker + "yy" + marker[:15] + marker + "PLAIN"
	random := rand.New(rand.NewPCG(1, 2))
	for round := range 2000 {
		type piece struct {
			seq     uint32
			payload string
		}
		var pieces []piece
		seq := uint32(0xfffffff0) // it wraps
		for at := 0; at < len(text); {
			n := min(1+random.IntN(20), len(text)-at)
			if round == 0 {
				n = 1
			}
			pieces = append(pieces, piece{seq + uint32(at), text[at : at+n]})
			at += n
		}
		inOrder := round%2 == 0 || len(pieces) > maxEdges
		if !inOrder {
			random.Shuffle(len(pieces), func(i, j int) { pieces[i], pieces[j] = pieces[j], pieces[i] })
		}
		got := hits(t, []string{marker, "a longer marker than the one that is there"}, func(send func(uint32, string)) {
			for _, p := range pieces {
				send(p.seq, p.payload)
			}
		})
		if inOrder && got != 3 || got == 0 {
			t.Fatalf("round %d: %d hits in %v", round, got, pieces)
		}
	}
}

func TestWhatIsNotThereIsNotFound(t *testing.T) {
	got := hits(t, []string{marker}, func(send func(uint32, string)) {
		send(100, marker[:8])
		send(200, marker[8:]) // of another place in the stream
		send(300, marker[:15])
	})
	if got != 0 {
		t.Errorf("%d hits", got)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	c, err := New(marker)
	if err != nil {
		t.Fatal(err)
	}
	tap := c.tap("here")
	for i := range 3 * maxFlows {
		from := netip.AddrPortFrom(netip.MustParseAddr(fmt.Sprintf("10.%d.%d.1", i>>8&0xff, i&0xff)), 1000)
		c.packet(tap, unix.ETH_P_IP, packet4(from, server, 1, marker), false)
	}
	if len(tap.flows.table) != maxFlows || len(tap.flows.order) != maxFlows || len(c.Stats().First) != maxHits {
		t.Errorf("%d flows, %d in order, %d hits in detail", len(tap.flows.table), len(tap.flows.order), len(c.Stats().First))
	}
	if got := c.Stats().Hits[marker]; got != 3*maxFlows {
		t.Errorf("%d hits", got)
	}
}

func TestMarkersThatAreNone(t *testing.T) {
	for _, m := range []string{"", fmt.Sprintf("%257d", 1)} {
		if _, err := New(m); err == nil {
			t.Errorf("a marker of %d bytes was taken", len(m))
		}
	}
}

func FuzzPacket(f *testing.F) {
	f.Add(uint16(unix.ETH_P_IP), packet4(client, server, 1, marker))
	v6 := append([]byte{0x60, 0, 0, 0, 0, 36, unix.IPPROTO_HOPOPTS, 64}, make([]byte, 32)...)
	v6 = append(v6, unix.IPPROTO_TCP, 0, 0, 0, 0, 0, 0, 0)
	f.Add(uint16(unix.ETH_P_IPV6), append(v6, packet4(client, server, 1, "12345678")[20:]...))
	f.Fuzz(func(t *testing.T, protocol uint16, b []byte) {
		c, err := New(marker, "y")
		if err != nil {
			t.Fatal(err)
		}
		tap := c.tap("here")
		for range 2 {
			c.packet(tap, protocol, b, false)
		}
		if s := c.Stats(); s.Packets != 2 || s.Segments > 2 {
			t.Fatalf("%+v", s)
		}
	})
}
