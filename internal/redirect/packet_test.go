package redirect

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// What may stand between the IPv6 header and TCP's: its number, and the bytes after its first, which names the next.
type extension struct {
	number byte
	rest   []byte
}

var (
	hopByHop       = extension{0, []byte{0, 1, 4, 0, 0, 0, 0}}
	destination    = extension{60, []byte{1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}}
	authentication = extension{51, append([]byte{4}, make([]byte, 22)...)} // its length counts by 4, all others' by 8
	wholeFragment  = extension{44, []byte{0, 0, 0, 0, 0, 0, 7}}
	firstFragment  = extension{44, []byte{0, 0, 1, 0, 0, 0, 8}}
	laterFragment  = extension{44, []byte{0, 0, 8, 0, 0, 0, 9}}
)

// tunDevice is the far end of a device of a pod.
type tunDevice struct{ file *os.File }

// openTun makes a device without a link header, with routes to these addresses.
func openTun(t *testing.T, ns *NetNS, to ...netip.Addr) tunDevice {
	t.Helper()
	const name = "tun0"
	req := must[*unix.Ifreq](t)(unix.NewIfreq(name))
	req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	fd := -1
	err := ns.Do(func() (err error) {
		// the device comes to the namespace that the file was opened in
		fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			return fmt.Errorf("open tun: %w", err)
		}
		if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
			return fmt.Errorf("make tun: %w", err)
		}
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		if n := linkHeader(l); n != 0 {
			return fmt.Errorf("a link header of %d", n)
		}
		if err := netlink.LinkSetUp(l); err != nil {
			return err
		}
		for _, a := range to {
			if err := addRoute(name, host(a), nil, netip.Addr{}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		unix.Close(fd)
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), name) // not before the ioctl: a tun without a device cannot be polled
	t.Cleanup(func() { file.Close() })
	return tunDevice{file}
}

// next reads the next packet that is TCP.
func (d tunDevice) next(t *testing.T) segment {
	t.Helper()
	check(t, d.file.SetReadDeadline(time.Now().Add(3*time.Second)))
	buf := make([]byte, 2000)
	for {
		n, err := d.file.Read(buf)
		check(t, err)
		if s, ok := parseSegment(buf[:n]); ok {
			return s
		}
	}
}

const (
	flagSYN = 0x02
	flagACK = 0x10
)

// segment is a TCP segment without data.
type segment struct {
	src        netip.Addr
	dst        netip.AddrPort
	sport      uint16
	flags      byte
	extensions []extension // of IPv6
}

// bytes is the packet, with right checksums.
func (s segment) bytes() []byte {
	tcp := make([]byte, 20)
	binary.BigEndian.PutUint16(tcp[0:], s.sport)
	binary.BigEndian.PutUint16(tcp[2:], s.dst.Port())
	tcp[12], tcp[13], tcp[14] = 5<<4, s.flags, 0x20
	addrs := append(s.src.AsSlice(), s.dst.Addr().AsSlice()...)
	binary.BigEndian.PutUint16(tcp[16:], checksum(addrs, []byte{0, unix.IPPROTO_TCP, 0, 20}, tcp))
	if s.dst.Addr().Is4() {
		head := append([]byte{0x45, 0, 0, 40, 0, 0, 0, 0, 64, unix.IPPROTO_TCP, 0, 0}, addrs...)
		binary.BigEndian.PutUint16(head[10:], checksum(head))
		return append(head, tcp...)
	}
	number, rest := byte(unix.IPPROTO_TCP), tcp
	for i := len(s.extensions) - 1; i >= 0; i-- {
		e := s.extensions[i]
		rest = append(append([]byte{number}, e.rest...), rest...)
		number = e.number
	}
	head := []byte{0x60, 0, 0, 0, 0, 0, number, 64}
	binary.BigEndian.PutUint16(head[4:], uint16(len(rest)))
	return append(append(head, addrs...), rest...)
}

func checksum(parts ...[]byte) uint16 {
	var sum uint32
	for _, b := range parts {
		for i := 0; i < len(b); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(b[i:]))
		}
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// parseSegment reads an IP packet that is TCP without options or extensions before it.
func parseSegment(b []byte) (s segment, ok bool) {
	switch {
	case len(b) >= 40 && b[0] == 0x45 && b[9] == unix.IPPROTO_TCP:
		s.src, s.dst = netip.AddrFrom4([4]byte(b[12:])), netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[16:])), 0)
		b = b[20:]
	case len(b) >= 60 && b[0]>>4 == 6 && b[6] == unix.IPPROTO_TCP:
		s.src, s.dst = netip.AddrFrom16([16]byte(b[8:])), netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[24:])), 0)
		b = b[40:]
	default:
		return s, false
	}
	s.sport, s.dst = binary.BigEndian.Uint16(b), netip.AddrPortFrom(s.dst.Addr(), binary.BigEndian.Uint16(b[2:]))
	s.flags = b[13]
	return s, true
}

// sendRaw sends a whole packet by a raw socket.
func sendRaw(packet []byte, dst netip.AddrPort) error {
	family := unix.AF_INET
	if dst.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Sendto(fd, packet, 0, sockaddr(netip.AddrPortFrom(dst.Addr(), 0)))
}

// sendFrame sends a whole packet by a packet socket, which says that the frame is of this protocol.
func sendFrame(packet []byte, protocol uint16, tags ...uint16) error {
	eth0, err := net.InterfaceByName("eth0")
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	frame := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0}
	for _, tag := range tags {
		frame = append(binary.BigEndian.AppendUint16(frame, tag), 0, 5)
	}
	if packet[0]>>4 == 6 {
		frame = append(frame, 0x86, 0xdd)
	} else {
		frame = append(frame, 0x08, 0x00)
	}
	err = unix.Sendto(fd, append(frame, packet...), 0, &unix.SockaddrLinklayer{Ifindex: eth0.Index, Protocol: protocol<<8 | protocol>>8})
	if errors.Is(err, unix.ENOBUFS) {
		return nil // dropped by the guard
	}
	return err
}

// packetShort is a first fragment that ends before the flags.
func packetShort(dst netip.AddrPort) error {
	b := segment{src: netip.IPv4Unspecified(), dst: dst, sport: 1, flags: flagSYN}.bytes()[:28]
	b[3], b[6] = 28, 0x20
	return sendFrame(b, unix.ETH_P_IP)
}
