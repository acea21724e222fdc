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

// TestGuard sends SYNs by a raw socket: without the guard they are out, with it they are not.
func TestGuard(t *testing.T) {
	w, r, p := captured(t)
	p1, p3 := w.pods["p1"], w.pods["p3"]
	dst := netip.AddrPortFrom(p3.v4, w.serve(p3.ns, "tcp", ":0"))
	sniffer := -1
	check(t, p3.ns.Do(func() (err error) {
		sniffer, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
		return err
	}))
	defer unix.Close(sniffer)
	const port = 4321
	arrived := func() bool {
		buf := make([]byte, 100)
		for {
			n, err := unix.Read(sniffer, buf)
			if err != nil {
				return false
			}
			if n >= 40 && int(buf[20])<<8|int(buf[21]) == port && buf[33]&0x12 == 0x02 {
				return true
			}
		}
	}
	syn := segment{src: p1.v4, dst: dst, sport: port, flags: flagSYN}.bytes()
	send := func() error { return asProcess(p1.ns, defaultCaps, func() error { return sendRaw(syn, dst) }) }

	check(t, send())
	eventually(t, 3*time.Second, "a raw SYN is out without the guard", arrived)

	guarded := w.pod("p1")
	guarded.Guard = true
	change, err := r.Set([]Pod{guarded, w.pod("p2")})
	supported(t, err)
	if len(change.Updated) != 1 {
		t.Errorf("change: %+v", change)
	}
	before := must[map[string]uint64](t)(r.Verdicts())
	// the kernel itself refuses what tc drops, or says nothing
	if err := send(); err != nil && !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.EPERM) {
		t.Errorf("send: %v", err)
	}
	if moved(t, r, before)["guard_dropped"] == 0 {
		t.Error("the guard dropped nothing")
	}
	check(t, asProcess(p1.ns, defaultCaps, func() error { return sendFrame(syn, unix.ETH_P_IP) }))
	check(t, asProcess(p1.ns, defaultCaps, func() error { return sendFrame(syn, 0x88b5) })) // lies about its type
	if n := moved(t, r, before)["guard_dropped"]; n != 3 {
		t.Errorf("the guard dropped %d", n)
	}
	check(t, asProcess(p1.ns, defaultCaps, func() error { return packetShort(dst) }))
	if n := moved(t, r, before)["guard_malformed"]; n != 1 {
		t.Errorf("the guard found %d malformed", n)
	}

	// a mark taken off between connect() and the SYN: only the guard sees it
	err = asProcess(p1.ns, defaultCaps, func() error {
		fd, err := tcpSocket(dst, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		err = errors.Join(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{Usec: 1000}), deferredConnect(fd, dst))
		if err == nil {
			err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, 0)
		}
		if err == nil {
			unix.Write(fd, []byte("x")) // sends the SYN and fails in one way or the other
		}
		return err
	})
	check(t, err)
	if n := moved(t, r, before)["guard_dropped"]; n < 4 {
		t.Errorf("the guard dropped %d", n)
	}

	expectCaptured(t, p, Out, p1.ns, dst)
	expectCaptured(t, p, Out, p1.ns, netip.AddrPortFrom(p3.v6, dst.Port()))
	if moved(t, r, before)["guard_passed"] < 2 {
		t.Error("the proxy's own SYNs were not counted")
	}
	if arrived() {
		t.Error("a SYN came through the guard") // all earlier ones were sent before the proxy's, which arrived
	}

	must[Change](t)(r.Set([]Pod{w.pod("p1"), w.pod("p2")}))
	check(t, send())
	eventually(t, 3*time.Second, "a raw SYN is out after the guard", arrived)
}

// guard switches the guard of p1 on.
func guard(t *testing.T, w *world, r *Redirect) {
	t.Helper()
	guarded := w.pod("p1")
	guarded.Guard = true
	_, err := r.Set([]Pod{guarded, w.pod("p2")})
	supported(t, err)
}

// What may stand between the IPv6 header and TCP's: its number, and the bytes after its first, which names the next.
type extension struct {
	number byte
	rest   []byte
}

var (
	hopByHop      = extension{0, []byte{0, 1, 4, 0, 0, 0, 0}}
	destination   = extension{60, []byte{1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}}
	wholeFragment = extension{44, []byte{0, 0, 0, 0, 0, 0, 7}}
	firstFragment = extension{44, []byte{0, 0, 1, 0, 0, 0, 8}}
	laterFragment = extension{44, []byte{0, 0, 8, 0, 0, 0, 9}}
)

// TestGuardIPv6 sends what raw IPv6 sockets can: a SYN behind any headers is found.
func TestGuardIPv6(t *testing.T) {
	w, r, p := captured(t)
	p1, p3 := w.pods["p1"], w.pods["p3"]
	guard(t, w, r)
	dst := netip.AddrPortFrom(p3.v6, w.serve(p3.ns, "tcp", ":0"))
	many := make([]extension, 7)
	for i := range many {
		many[i] = destination
	}
	plain := segment{src: p1.v6, dst: dst, sport: 4321, flags: flagSYN}
	with := func(extensions ...extension) segment {
		s := plain
		s.extensions = extensions
		return s
	}
	answer := plain
	answer.flags = flagSYN | flagACK
	for _, c := range []struct {
		name    string
		packet  []byte
		verdict string // empty: it passes
	}{
		{"a SYN", plain.bytes(), "guard_dropped"},
		{"with hop-by-hop options", with(hopByHop).bytes(), "guard_dropped"},
		{"with destination options", with(destination, destination).bytes(), "guard_dropped"},
		{"in a whole fragment", with(wholeFragment).bytes(), "guard_dropped"},
		{"in a first fragment, behind all the others", with(hopByHop, destination, firstFragment, destination).bytes(), "guard_dropped"},
		{"behind more headers than are read", with(many...).bytes(), "guard_malformed"},
		{"cut off before the flags", with(firstFragment).bytes()[:40+8+12], "guard_malformed"},
		{"cut off within the headers", with(firstFragment, destination).bytes()[:40+8+4], "guard_malformed"},
		{"a later fragment", with(laterFragment).bytes(), ""},
		{"a SYN with ACK", answer.bytes(), ""},
	} {
		for how, send := range map[string]func([]byte) error{
			"raw":    func(b []byte) error { return sendRaw(b, dst) },
			"packet": func(b []byte) error { return sendFrame(b, unix.ETH_P_IPV6) },
		} {
			t.Run(c.name+" "+how, func(t *testing.T) {
				before := must[map[string]uint64](t)(r.Verdicts())
				err := asProcess(p1.ns, defaultCaps, func() error { return send(c.packet) })
				if err != nil && !(c.verdict != "" && (errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.EPERM))) {
					t.Errorf("send: %v", err)
				}
				m := moved(t, r, before)
				delete(m, "syn_in") // p3 answers what it did not ask for by a reset, for which there is no socket
				if c.verdict == "" && len(m) != 0 || c.verdict != "" && (m[c.verdict] != 1 || len(m) != 1) {
					t.Errorf("moved %v, want %q", m, c.verdict)
				}
			})
		}
	}
	if all := p.others(); len(all) != 0 {
		t.Errorf("captured: %v", all)
	}
	expectCaptured(t, p, Out, p1.ns, dst)
}

// TestGuardWithoutLinkHeader: the packets of a tun begin with the IP header, and the guard is told so.
func TestGuardWithoutLinkHeader(t *testing.T) {
	w, r, _ := captured(t)
	p1 := w.pods["p1"]
	src := [...]netip.Addr{p1.v4, p1.v6}
	far := [...]netip.AddrPort{netip.MustParseAddrPort("198.51.100.1:80"), netip.MustParseAddrPort("[2001:db8::1]:80")}
	tun := openTun(t, p1.ns, far[0].Addr(), far[1].Addr())
	send := func(i int, flags byte) {
		t.Helper()
		s := segment{src: src[i], dst: far[i], sport: 4321, flags: flags}
		err := asProcess(p1.ns, defaultCaps, func() error { return sendRaw(s.bytes(), far[i]) })
		if err != nil && !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.EPERM) {
			t.Errorf("send: %v", err)
		}
	}
	for i := range far {
		send(i, flagSYN)
		if next := tun.next(t); next.flags != flagSYN {
			t.Errorf("%v without the guard: %+v", far[i], next)
		}
	}

	guard(t, w, r)
	for i, dst := range far {
		t.Run(dst.String(), func(t *testing.T) {
			before := must[map[string]uint64](t)(r.Verdicts())
			send(i, flagSYN)
			if m := moved(t, r, before); m["guard_dropped"] != 1 || len(m) != 1 {
				t.Errorf("raw SYN: %v", m)
			}
			send(i, flagACK)
			if next := tun.next(t); next.flags != flagACK || next.dst != dst {
				t.Errorf("after the SYN: %+v", next)
			}
			fds := must[[]int](t)(r.Sockets("p1", []int{4, 6}[i], 1))
			defer unix.Close(fds[0])
			if err := unix.Connect(fds[0], sockaddr(dst)); !errors.Is(err, unix.EINPROGRESS) {
				t.Errorf("the proxy's connect: %v", err)
			}
			if next := tun.next(t); next.flags != flagSYN || next.sport == 4321 || next.dst != dst {
				t.Errorf("the proxy's SYN: %+v", next)
			}
			if m := moved(t, r, before); m["guard_passed"] != 1 {
				t.Errorf("the proxy's SYN: %v", m)
			}
		})
	}
}

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
func sendFrame(packet []byte, protocol uint16) error {
	eth0, err := net.InterfaceByName("eth0")
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	frame := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0x08, 0x00}
	if packet[0]>>4 == 6 {
		frame[12], frame[13] = 0x86, 0xdd
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
