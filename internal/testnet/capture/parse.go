package capture

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// segment is a TCP segment. payload lies in the packet's buffer.
type segment struct {
	src, dst netip.AddrPort
	seq      uint32
	payload  []byte
}

// parse reads a packet from its network header on. false: it is no TCP segment, or only a part of one.
func parse(protocol uint16, b []byte) (segment, bool) {
	switch protocol {
	case unix.ETH_P_IP:
		return parse4(b)
	case unix.ETH_P_IPV6:
		return parse6(b)
	}
	return segment{}, false
}

func parse4(b []byte) (segment, bool) {
	if len(b) < 20 {
		return segment{}, false
	}
	header, total := int(b[0]&0x0f)*4, int(binary.BigEndian.Uint16(b[2:]))
	if total == 0 {
		total = len(b) // larger than the field can say
	}
	fragmentOffset := binary.BigEndian.Uint16(b[6:]) & 0x1fff
	if header < 20 || total < header || total > len(b) || b[9] != unix.IPPROTO_TCP || fragmentOffset != 0 {
		return segment{}, false
	}
	src, dst := netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
	return parseTCP(src, dst, b[header:total])
}

func parse6(b []byte) (segment, bool) {
	if len(b) < 40 {
		return segment{}, false
	}
	src, dst := netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	next, rest := b[6], b[40:]
	if length := int(binary.BigEndian.Uint16(b[4:])); length > 0 {
		if length > len(rest) {
			return segment{}, false
		}
		rest = rest[:length]
	}
	for range 8 {
		switch next {
		case unix.IPPROTO_TCP:
			return parseTCP(src, dst, rest)
		case unix.IPPROTO_HOPOPTS, unix.IPPROTO_ROUTING, unix.IPPROTO_DSTOPTS:
			if len(rest) < 8 || len(rest) < (int(rest[1])+1)*8 {
				return segment{}, false
			}
			next, rest = rest[0], rest[(int(rest[1])+1)*8:]
		default:
			return segment{}, false
		}
	}
	return segment{}, false
}

func parseTCP(src, dst netip.Addr, b []byte) (segment, bool) {
	if len(b) < 20 {
		return segment{}, false
	}
	header := int(b[12]>>4) * 4
	if header < 20 || header > len(b) {
		return segment{}, false
	}
	return segment{src: netip.AddrPortFrom(src, binary.BigEndian.Uint16(b)), dst: netip.AddrPortFrom(dst, binary.BigEndian.Uint16(b[2:])),
		seq: binary.BigEndian.Uint32(b[4:]), payload: b[header:]}, true
}
