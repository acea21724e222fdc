package redirect

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// defaultCaps are what container runtimes give a root process: CAP_NET_RAW is among them, CAP_NET_ADMIN is not.
const defaultCaps = 0xa80425fb

// asProcess runs f in the pod with these capabilities, on a thread that ends afterwards.
func asProcess(ns *NetNS, caps uint64, f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := unix.Setns(ns.FD(), unix.CLONE_NEWNET)
		if err == nil {
			hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
			data := [2]unix.CapUserData{
				{Effective: uint32(caps), Permitted: uint32(caps)},
				{Effective: uint32(caps >> 32), Permitted: uint32(caps >> 32)},
			}
			err = unix.Capset(&hdr, &data[0])
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// tcpSocket makes a blocking socket with a time limit.
func tcpSocket(dst netip.AddrPort, proto int) (int, error) {
	dom := unix.AF_INET
	if dst.Addr().Is6() {
		dom = unix.AF_INET6
	}
	fd, err := unix.Socket(dom, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, proto)
	if err != nil {
		return -1, err
	}
	limit := unix.Timeval{Sec: 1}
	return fd, errors.Join(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit), unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit))
}

// TestNoWayOut has an app of the pod try each way past the connect programs; all are captured, or refused.
func TestNoWayOut(t *testing.T) {
	w, r, p := captured(t)
	p1, p3 := w.pods["p1"], w.pods["p3"]
	port := w.serve(p3.ns, "tcp", ":0")
	mark := func(m redirectFlMark) func(fd int) error {
		return func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, int(m)) }
	}
	device := func(fd int) error { return unix.BindToDevice(fd, "eth0") }
	plain := func(fd int, dst netip.AddrPort) error { return unix.Connect(fd, sockaddr(dst)) }

	for _, c := range []struct {
		name    string
		caps    uint64
		proto   int
		set     func(fd int) error
		connect func(fd int, dst netip.AddrPort) error
		verdict string  // that must move, apart from the capture
		errnos  []error // one of these; none: it connects
	}{
		{name: "PROXY mark", caps: defaultCaps, set: mark(redirectFlMarkFL_MARK_PROXY), verdict: "out_forged"},
		{name: "HOP mark", caps: defaultCaps, set: mark(redirectFlMarkFL_MARK_HOP), verdict: "out_forged"},
		{name: "foreign mark", caps: defaultCaps, set: mark(7)},
		{name: "bound to the device", caps: defaultCaps, set: device, verdict: "out_unbound"},
		{name: "bound to the device without privilege", set: device, verdict: "out_denied", errnos: []error{unix.EPERM}},
		{name: "multipath", caps: defaultCaps, proto: unix.IPPROTO_MPTCP},
		{name: "fast open by sendto", connect: fastOpen},
		{name: "fast open by connect", connect: fastOpenConnect},
		{name: "bound to the device after connect", connect: deviceAfterConnect, errnos: []error{unix.ENETUNREACH, unix.EHOSTUNREACH, unix.ECONNABORTED, unix.EAGAIN}},
		{name: "io_uring", connect: uringConnect},
		{name: "without a route", caps: defaultCaps, set: func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DONTROUTE, 1) }},
	} {
		for _, addr := range []netip.Addr{p3.v4, p3.v6} {
			t.Run(fmt.Sprintf("%s %v", c.name, addr), func(t *testing.T) {
				dst, before := netip.AddrPortFrom(addr, port), must[map[string]uint64](t)(r.Verdicts())
				connect := c.connect
				if connect == nil {
					connect = plain
				}
				err := asProcess(p1.ns, c.caps, func() error {
					fd, err := tcpSocket(dst, c.proto)
					if err != nil {
						return err
					}
					defer unix.Close(fd)
					if c.set != nil {
						if err := c.set(fd); err != nil {
							return fmt.Errorf("prepare: %w", err)
						}
					}
					if err := connect(fd, dst); err != nil {
						return err
					}
					buf := make([]byte, 100)
					if n, err := unix.Read(fd, buf); err != nil || n == 0 {
						return fmt.Errorf("read %d: %w", n, err)
					}
					return nil
				})
				if errors.Is(err, errNoUring) {
					t.Skip(err)
				}
				want := 1
				if c.errnos != nil {
					want = 0
				}
				is := func(e error) bool { return errors.Is(err, e) }
				if want == 1 && err != nil || want == 0 && !slices.ContainsFunc(c.errnos, is) {
					t.Errorf("connect: %v, want %v", err, c.errnos)
				}
				if n := len(p.took(Out, dst)); n != want {
					t.Errorf("captured %d times", n)
				}
				if c.verdict != "" && moved(t, r, before)[c.verdict] == 0 {
					t.Errorf("%s did not move", c.verdict)
				}
			})
		}
	}
}

func fastOpen(fd int, dst netip.AddrPort) error {
	return unix.Sendto(fd, []byte("x\n"), unix.MSG_FASTOPEN, sockaddr(dst))
}

// fastOpenConnect sends the SYN at the first write.
func fastOpenConnect(fd int, dst netip.AddrPort) error {
	if err := deferredConnect(fd, dst); err != nil {
		return err
	}
	_, err := unix.Write(fd, []byte("x\n"))
	return err
}

func deferredConnect(fd int, dst netip.AddrPort) error {
	return errors.Join(
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_FASTOPEN_CONNECT, 1),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_FASTOPEN_NO_COOKIE, 1),
		unix.Connect(fd, sockaddr(dst)))
}

// deviceAfterConnect takes the socket to another device between connect() and the SYN. No privilege is needed for it.
func deviceAfterConnect(fd int, dst netip.AddrPort) error {
	if err := errors.Join(deferredConnect(fd, dst), unix.BindToDevice(fd, "eth0")); err != nil {
		return err
	}
	_, err := unix.Write(fd, []byte("x\n"))
	return err
}

var errNoUring = errors.New("io_uring is switched off on this machine")

// uringConnect connects by a queue entry instead of a system call.
func uringConnect(fd int, dst netip.AddrPort) error {
	const (
		offSQEs   = 0x10000000
		opConnect = 16
		getEvents = 1
	)
	type sqOffsets struct{ head, tail, mask, entries, flags, dropped, array, resv1, user1, user2 uint32 }
	type cqOffsets struct{ head, tail, mask, entries, overflow, cqes, flags, resv1, user1, user2 uint32 }
	var params struct {
		sqEntries, cqEntries, flags, cpu, idle, features, wq uint32
		resv                                                 [3]uint32
		sq                                                   sqOffsets
		cq                                                   cqOffsets
	}
	ring, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&params)), 0)
	if errno == unix.ENOSYS || errno == unix.EPERM {
		return errNoUring
	}
	if errno != 0 {
		return fmt.Errorf("io_uring_setup: %w", errno)
	}
	defer unix.Close(int(ring))
	rings, err := unix.Mmap(int(ring), 0, int(max(params.sq.array+4*params.sqEntries, params.cq.cqes+16*params.cqEntries)), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map rings: %w", err)
	}
	defer unix.Munmap(rings)
	sqes, err := unix.Mmap(int(ring), offSQEs, 64, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map entries: %w", err)
	}
	defer unix.Munmap(sqes)

	var sa struct {
		family, port uint16
		rest         [24]byte
	}
	sa.port = dst.Port()<<8 | dst.Port()>>8
	length := uint64(unix.SizeofSockaddrInet4)
	if dst.Addr().Is4() {
		sa.family = unix.AF_INET
		copy(sa.rest[:], dst.Addr().AsSlice())
	} else {
		sa.family, length = unix.AF_INET6, unix.SizeofSockaddrInet6
		copy(sa.rest[4:], dst.Addr().AsSlice())
	}
	sqes[0] = opConnect
	*(*int32)(unsafe.Pointer(&sqes[4])) = int32(fd)
	*(*uint64)(unsafe.Pointer(&sqes[8])) = length
	*(*uint64)(unsafe.Pointer(&sqes[16])) = uint64(uintptr(unsafe.Pointer(&sa)))
	*(*uint32)(unsafe.Pointer(&rings[params.sq.array])) = 0
	*(*uint32)(unsafe.Pointer(&rings[params.sq.tail])) = 1
	_, _, errno = unix.Syscall6(unix.SYS_IO_URING_ENTER, ring, 1, 1, getEvents, 0, 0)
	runtime.KeepAlive(&sa)
	if errno != 0 {
		return fmt.Errorf("io_uring_enter: %w", errno)
	}
	if res := *(*int32)(unsafe.Pointer(&rings[params.cq.cqes+8])); res < 0 {
		return unix.Errno(-res)
	}
	return nil
}

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
	send := func() error { return asProcess(p1.ns, defaultCaps, func() error { return rawSYN(p1.v4, dst, port) }) }

	check(t, send())
	eventually(t, 3*time.Second, "a raw SYN is out without the guard", arrived)

	guarded := w.pod("p1")
	guarded.Guard = true
	change, err := r.Set([]Pod{guarded, w.pod("p2")})
	if errors.As(err, new(*UnsupportedFeature)) {
		t.Skip(err)
	}
	check(t, err)
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
	check(t, asProcess(p1.ns, defaultCaps, func() error { return packetSYN(p1.v4, dst, port, unix.ETH_P_IP) }))
	check(t, asProcess(p1.ns, defaultCaps, func() error { return packetSYN(p1.v4, dst, port, 0x88b5) })) // lies about its type
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

// synPacket is an IPv4 packet with a SYN and right checksums.
func synPacket(src netip.Addr, dst netip.AddrPort, port int) []byte {
	b := make([]byte, 40)
	b[0], b[3], b[8], b[9] = 0x45, 40, 64, unix.IPPROTO_TCP
	copy(b[12:], src.AsSlice())
	copy(b[16:], dst.Addr().AsSlice())
	b[20], b[21], b[22], b[23] = byte(port>>8), byte(port), byte(dst.Port()>>8), byte(dst.Port())
	b[32], b[33], b[34] = 5<<4, 2, 0x20
	put := func(at int, sum uint32) {
		for sum>>16 != 0 {
			sum = sum&0xffff + sum>>16
		}
		b[at], b[at+1] = ^byte(sum>>8), ^byte(sum)
	}
	add := func(from, to int) (sum uint32) {
		for i := from; i < to; i += 2 {
			sum += uint32(b[i])<<8 | uint32(b[i+1])
		}
		return sum
	}
	put(36, add(12, 40)+unix.IPPROTO_TCP+20)
	put(10, add(0, 20))
	return b
}

func rawSYN(src netip.Addr, dst netip.AddrPort, port int) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Sendto(fd, synPacket(src, dst, port), 0, &unix.SockaddrInet4{Addr: dst.Addr().As4()})
}

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
	frame := append(make([]byte, 12), 0x08, 0x00)
	copy(frame, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	err = unix.Sendto(fd, append(frame, packet...), 0, &unix.SockaddrLinklayer{Ifindex: eth0.Index, Protocol: protocol<<8 | protocol>>8})
	if errors.Is(err, unix.ENOBUFS) {
		return nil // dropped by the guard
	}
	return err
}

func packetSYN(src netip.Addr, dst netip.AddrPort, port int, protocol uint16) error {
	return sendFrame(synPacket(src, dst, port), protocol)
}

// packetShort is a first fragment that ends before the flags.
func packetShort(dst netip.AddrPort) error {
	b := synPacket(netip.IPv4Unspecified(), dst, 1)[:28]
	b[3], b[6] = 28, 0x20
	return sendFrame(b, unix.ETH_P_IP)
}
