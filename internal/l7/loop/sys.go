package loop

import (
	"math"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The system calls of a turn. None of them waits, so they do without the scheduler's entry: a thread that goes through it
// may be taken its processor away, and has to find one again. A stop of the world waits for them as it does for any code.

// recv reads from a non-blocking socket. buf is not empty.
func recv(fd int, buf []byte) (int, error) {
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)))
	return result(n, errno)
}

// send writes to a non-blocking socket. b is not empty.
func send(fd int, b []byte) (int, error) {
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_NOSIGNAL, 0, 0)
	return result(n, errno)
}

// ready asks epoll what there is, and does not wait for it.
func ready(epoll int, events []unix.EpollEvent) (int, error) {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epoll), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), 0, 0, 0)
	return result(n, errno)
}

func result(n uintptr, errno unix.Errno) (int, error) {
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}

// doze keeps the thread still for a moment: too short for the scheduler's timers, which know milliseconds.
func doze(d time.Duration) {
	// By default the kernel may let 50 us more pass. It is a property of the thread, which may be another one each time.
	_, _, _ = unix.RawSyscall(unix.SYS_PRCTL, unix.PR_SET_TIMERSLACK, 1, 0)
	ts := unix.NsecToTimespec(int64(d))
	_, _, _ = unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&ts)), 0, 0) // a signal ends it early
}

// askAgain is how long the kernel's word on a path is believed.
const askAgain = 10 * time.Second

// Trip asks the kernel (TCP_INFO's tcpi_min_rtt), now and then.
func (c *conn) Trip() time.Duration {
	if now := c.l.now; c.asked.IsZero() || now.Sub(c.asked) > askAgain {
		c.asked = now
		if info, err := unix.GetsockoptTCPInfo(c.fd, unix.IPPROTO_TCP, unix.TCP_INFO); err == nil && info.Min_rtt < math.MaxUint32 {
			c.trip = time.Duration(info.Min_rtt) * time.Microsecond
		}
	}
	return c.trip
}
