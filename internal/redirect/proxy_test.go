package redirect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// seen is a connection that a proxy was given.
type seen struct {
	uid   string
	dir   Direction
	local netip.AddrPort // outbound: the original destination
	peer  netip.AddrPort
}

func (s seen) String() string { return fmt.Sprintf("%s %v %v from %v", s.uid, s.dir, s.local, s.peer) }

// proxy stands for the unprivileged process: it accepts, dials on with ready-made sockets, and copies.
type proxy struct {
	t    testing.TB
	r    *Redirect
	own  atomic.Bool // towards the app: the pod's own address; else the client's
	work sync.WaitGroup

	mu        sync.Mutex // protects what follows
	all       []seen
	listeners []net.Listener
	conns     map[net.Conn]bool
}

// newProxy serves the pods' listeners until the end of the test.
func newProxy(t testing.TB, r *Redirect, uids ...string) *proxy {
	t.Helper()
	p := &proxy{t: t, r: r, conns: map[net.Conn]bool{}}
	for _, uid := range uids {
		p.take(uid)
	}
	t.Cleanup(p.stop)
	return p
}

// take starts to accept on a pod's listeners.
func (p *proxy) take(uid string) {
	p.t.Helper()
	for _, l := range must[[]Listener](p.t)(p.r.Listeners(uid)) {
		f := os.NewFile(uintptr(l.FD), "listener")
		nl := must[net.Listener](p.t)(net.FileListener(f))
		f.Close()
		p.mu.Lock()
		p.listeners = append(p.listeners, nl)
		p.mu.Unlock()
		p.work.Go(func() { p.accept(uid, l.Direction, nl) })
	}
}

// stop ends the proxy as if it were killed: everything is closed at once.
func (p *proxy) stop() {
	p.closeListeners()
	p.mu.Lock()
	for c := range p.conns {
		c.Close()
	}
	p.mu.Unlock()
	p.work.Wait()
}

func (p *proxy) closeListeners() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.listeners {
		l.Close()
	}
	p.listeners = nil
}

func (p *proxy) accept(uid string, dir Direction, l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		s := seen{uid, dir, addrPort(c.LocalAddr()), addrPort(c.RemoteAddr())}
		p.mu.Lock()
		p.all = append(p.all, s)
		p.conns[c] = true
		p.mu.Unlock()
		p.work.Go(func() { p.serve(s, c.(*net.TCPConn)) })
	}
}

func (p *proxy) serve(s seen, c *net.TCPConn) {
	up, err := p.dialOn(s)
	if err != nil {
		c.SetLinger(0) // a reset is the nearest to a refusal after the handshake
		c.Close()
		return
	}
	p.mu.Lock()
	p.conns[up] = true
	p.mu.Unlock()
	defer c.Close()
	defer up.Close()
	p.work.Go(func() {
		io.Copy(up, c)
		up.CloseWrite()
	})
	io.Copy(c, up)
	c.CloseWrite()
}

func (p *proxy) dialOn(s seen) (*net.TCPConn, error) {
	if s.local.Addr().IsLoopback() {
		return nil, errors.New("somebody asked for the listener itself")
	}
	if s.dir == In && !p.own.Load() {
		var c *net.TCPConn
		err := error(unix.EADDRNOTAVAIL)
		for try := 0; try < 8 && errors.Is(err, unix.EADDRNOTAVAIL); try++ {
			var fd int
			if fd, err = p.r.HopSocket(s.uid, s.peer.Addr()); err == nil {
				c, err = connectFD(fd, s.local)
			}
		}
		return c, err
	}
	family := 4
	if s.local.Addr().Is6() {
		family = 6
	}
	fds, err := p.r.Sockets(s.uid, family, 1)
	if err != nil {
		return nil, err
	}
	return connectFD(fds[0], s.local)
}

// took returns the connections to a destination that the proxy was given, and forgets them.
func (p *proxy) took(dir Direction, local netip.AddrPort) (out []seen) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var rest []seen
	for _, s := range p.all {
		if s.dir == dir && s.local == local {
			out = append(out, s)
		} else {
			rest = append(rest, s)
		}
	}
	p.all = rest
	return out
}

// others returns all that nobody took.
func (p *proxy) others() []seen {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.all)
}

func addrPort(a net.Addr) netip.AddrPort {
	ap := a.(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// connectFD takes a non-blocking socket over and connects it.
func connectFD(fd int, dst netip.AddrPort) (*net.TCPConn, error) {
	err := unix.Connect(fd, sockaddr(dst))
	if err != nil && err != unix.EINPROGRESS {
		unix.Close(fd)
		return nil, fmt.Errorf("connect %v: %w", dst, err)
	}
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	n, err := unix.Poll(poll, 3000)
	for err == unix.EINTR {
		n, err = unix.Poll(poll, 3000)
	}
	soerr, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if n == 0 {
		soerr = int(unix.ETIMEDOUT)
	}
	if err != nil || soerr != 0 {
		unix.Close(fd)
		return nil, fmt.Errorf("connect %v: %w", dst, errors.Join(err, syscall.Errno(soerr)))
	}
	f := os.NewFile(uintptr(fd), "socket")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return c.(*net.TCPConn), nil
}

func controlWith(set func(fd int) error) func(context.Context, string, string, syscall.RawConn) error {
	return func(_ context.Context, _, _ string, rc syscall.RawConn) (err error) {
		if set == nil {
			return nil
		}
		if e := rc.Control(func(fd uintptr) { err = set(int(fd)) }); e != nil {
			return e
		}
		return err
	}
}

// moved returns what moved since before.
func moved(t testing.TB, r *Redirect, before map[string]uint64) map[string]uint64 {
	t.Helper()
	after := must[map[string]uint64](t)(r.Verdicts())
	out := map[string]uint64{}
	for name, n := range after {
		if n > before[name] {
			out[name] = n - before[name]
		}
	}
	return out
}
