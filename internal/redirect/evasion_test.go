package redirect

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// defaultCaps are what container runtimes give a root process: CAP_NET_RAW is among them, CAP_NET_ADMIN is not.
const defaultCaps = 0xa80425fb

// asProcess runs f in the pod with these capabilities, on a thread that ends afterwards. The signal by which Go's
// scheduler preempts is blocked: a system call on a socket with a time limit is not taken up again after one.
func asProcess(ns *NetNS, caps uint64, f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		var preempt unix.Sigset_t
		preempt.Val[0] = 1 << (unix.SIGURG - 1)
		err := errors.Join(unix.PthreadSigmask(unix.SIG_BLOCK, &preempt, nil), unix.Setns(ns.FD(), unix.CLONE_NEWNET))
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
	allowIOUring(t)
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
					if os.Getenv("CI") == "true" {
						t.Fatal(err)
					}
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

// allowIOUring switches io_uring on for the test where the machine has it switched off (Linux 6.6 has the sysctl).
func allowIOUring(t *testing.T) {
	t.Helper()
	const path = "/proc/sys/kernel/io_uring_disabled"
	was, err := os.ReadFile(path)
	if err != nil || string(was) == "0\n" {
		return
	}
	check(t, os.WriteFile(path, []byte("0"), 0o644))
	t.Cleanup(func() { check(t, os.WriteFile(path, was, 0o644)) })
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
