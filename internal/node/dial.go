package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// hopCounter is told how often the client's address could be kept towards the app, and how often not.
type hopCounter interface {
	hopKept()
	hopFallback()
}

// hopTries bounds how many ports are tried before a connection to the app goes without the client's address.
const hopTries = 8

// Dialer makes connections from inside pods with sockets that the keeper has made, marked and tagged.
type Dialer struct {
	Keeper  Keeper
	Timeout time.Duration // of one connect; 5 s without
	sockets socketPool
	count   hopCounter
}

// Dial connects from the pod to an address, past the redirect.
func (d *Dialer) Dial(ctx context.Context, uid string, dst netip.AddrPort) (*net.TCPConn, error) {
	fd, err := d.sockets.take(ctx, d.Keeper, uid, family(dst.Addr()))
	if err != nil {
		return nil, fmt.Errorf("socket in pod %s: %w", uid, err)
	}
	return d.connect(ctx, fd, dst)
}

// DialApp connects to the pod's app as the client's address. Without a free port of the reserved range it connects
// as the pod itself.
func (d *Dialer) DialApp(ctx context.Context, uid string, client netip.Addr, dst netip.AddrPort) (*net.TCPConn, error) {
	if client.Is4() != dst.Addr().Is4() || client == dst.Addr() || client.IsLoopback() {
		return d.Dial(ctx, uid, dst)
	}
	for range hopTries {
		fd, err := d.Keeper.Hop(ctx, uid, client)
		if err != nil {
			break
		}
		c, err := d.connect(ctx, fd, dst)
		if err == nil {
			d.count.hopKept()
			return c, nil
		}
		if !errors.Is(err, unix.EADDRNOTAVAIL) && !errors.Is(err, unix.EADDRINUSE) {
			return nil, err
		}
	}
	c, err := d.Dial(ctx, uid, dst)
	if err == nil {
		d.count.hopFallback()
	}
	return c, err
}

func family(a netip.Addr) int {
	if a.Is4() {
		return 4
	}
	return 6
}

// connect takes the socket over, connects it and waits.
func (d *Dialer) connect(ctx context.Context, fd int, dst netip.AddrPort) (*net.TCPConn, error) {
	f := os.NewFile(uintptr(fd), "socket")
	defer f.Close()
	deadline := time.Now().Add(5 * time.Second)
	if d.Timeout > 0 {
		deadline = time.Now().Add(d.Timeout)
	}
	if t, ok := ctx.Deadline(); ok && t.Before(deadline) {
		deadline = t
	}
	err := unix.Connect(fd, sockaddr(dst))
	if err == unix.EINPROGRESS || err == unix.EINTR { // a signal stops the wait, not the connect
		err = waitConnected(ctx, f, deadline)
	}
	if err != nil {
		return nil, fmt.Errorf("connect %v: %w", dst, err)
	}
	if err := refuseSelf(fd, dst); err != nil {
		return nil, err
	}
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("connect %v: %w", dst, err)
	}
	return c.(*net.TCPConn), nil
}

func waitConnected(ctx context.Context, f *os.File, deadline time.Time) error {
	if err := f.SetWriteDeadline(deadline); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { f.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	rc, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var cerr error
	err = rc.Write(func(fd uintptr) bool {
		e, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		switch {
		case err != nil:
			cerr = err
		case e != 0:
			cerr = unix.Errno(e)
		default:
			_, err := unix.Getpeername(int(fd))
			return err == nil
		}
		return true
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return err
	}
	return cerr
}

// refuseSelf catches the TCP simultaneous open of a socket with itself, which would echo for ever.
func refuseSelf(fd int, dst netip.AddrPort) error {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return fmt.Errorf("getsockname: %w", err)
	}
	if local := addrPort(sa); local == dst {
		return fmt.Errorf("connect %v: the socket is connected to itself", dst)
	}
	return nil
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch s := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(s.Addr), uint16(s.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(s.Addr).Unmap(), uint16(s.Port))
	}
	return netip.AddrPort{}
}
