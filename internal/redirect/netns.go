package redirect

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// NetNS is an open network namespace. It stays alive while it is open, even after its last process has gone.
type NetNS struct {
	file   *os.File
	path   string // where it was found; empty when it was handed over by descriptor
	cookie uint64
}

// OpenNetNS opens the namespace that a path such as /run/netns/x or /proc/1/ns/net stands for.
func OpenNetNS(path string) (*NetNS, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open network namespace: %w", &os.PathError{Op: "open", Path: path, Err: err})
	}
	return newNetNS(fd, path)
}

// NetNSFromFD takes the descriptor over: it is closed by Close, or here if it is not a network namespace.
func NetNSFromFD(fd int) (*NetNS, error) {
	unix.CloseOnExec(fd)
	return newNetNS(fd, "")
}

func newNetNS(fd int, path string) (*NetNS, error) {
	n := &NetNS{file: os.NewFile(uintptr(fd), "netns"), path: path}
	if n.file == nil {
		return nil, fmt.Errorf("network namespace: %w", unix.EBADF)
	}
	kind, err := unix.IoctlRetInt(fd, unix.NS_GET_NSTYPE)
	if err != nil || kind != unix.CLONE_NEWNET {
		return nil, errors.Join(fmt.Errorf("%s: not a network namespace", path), n.file.Close())
	}
	err = n.Do(func() (err error) {
		n.cookie, err = netnsCookie()
		return err
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cookie of network namespace %s: %w", path, err), n.file.Close())
	}
	return n, nil
}

// netnsCookie returns the cookie of the calling thread's network namespace.
func netnsCookie() (uint64, error) {
	s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	defer unix.Close(s)
	cookie, err := unix.GetsockoptUint64(s, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	return cookie, os.NewSyscallError("getsockopt SO_NETNS_COOKIE", err)
}

// Cookie is the kernel's number of the namespace, never used twice until the machine restarts.
func (n *NetNS) Cookie() uint64 { return n.cookie }

// Close releases the namespace.
func (n *NetNS) Close() error { return n.file.Close() }

// FD is the descriptor, valid until Close.
func (n *NetNS) FD() int { return int(n.file.Fd()) }

// Do runs f on a thread inside the namespace and waits for it. f must not start goroutines that count on the namespace.
// A thread that cannot return to its own namespace ends with its goroutine instead of serving others from the wrong one.
func (n *NetNS) Do(f func() error) error {
	result := make(chan error, 1)
	go n.doLocked(f, result)
	return <-result
}

func (n *NetNS) doLocked(f func() error, result chan<- error) {
	runtime.LockOSThread()
	err := errors.New("the function ended its goroutine")
	defer func() { result <- err }()

	home, e := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if e != nil {
		runtime.UnlockOSThread()
		err = fmt.Errorf("open own network namespace: %w", e)
		return
	}
	defer unix.Close(home)
	if e := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); e != nil {
		runtime.UnlockOSThread()
		err = fmt.Errorf("enter network namespace: %w", e)
		return
	}
	e = f()
	if back := unix.Setns(home, unix.CLONE_NEWNET); back != nil {
		err = errors.Join(e, fmt.Errorf("leave network namespace: %w", back))
		return // locked: the runtime ends this thread
	}
	runtime.UnlockOSThread()
	err = e
}

// dup returns a NetNS of its own to the same namespace.
func (n *NetNS) dup() (*NetNS, error) {
	fd, err := unix.FcntlInt(n.file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("duplicate network namespace: %w", err)
	}
	return &NetNS{file: os.NewFile(uintptr(fd), "netns"), path: n.path, cookie: n.cookie}, nil
}

// isAt tells whether the path still stands for this namespace.
func (n *NetNS) isAt(path string) bool {
	var ours, theirs unix.Stat_t
	if unix.Fstat(int(n.file.Fd()), &ours) != nil || unix.Stat(path, &theirs) != nil {
		return false
	}
	return ours.Dev == theirs.Dev && ours.Ino == theirs.Ino
}
