package node

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

type hopCount struct{ kept, fallback int }

func (c *hopCount) hopKept()     { c.kept++ }
func (c *hopCount) hopFallback() { c.fallback++ }

// The client of the mesh, and the loopback address that the fake keeper's hop sockets bear in its place.
var (
	client = netip.MustParseAddr("192.0.2.9")
	stand  = netip.MustParseAddr("127.0.0.9")
)

func testDialer(t *testing.T, k *fakeKeeper) (*Dialer, *hopCount) {
	k.t = t
	count := &hopCount{}
	d := &Dialer{Keeper: k, count: count}
	t.Cleanup(func() {
		d.sockets.drop("a")
		if n := k.open(); n != 0 {
			t.Errorf("%d sockets are left", n)
		}
	})
	d.sockets.keep("a")
	return d, count
}

// freePort is one that was free a moment ago.
func freePort(t *testing.T, a netip.Addr) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", netip.AddrPortFrom(a, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

func TestDialAppKeepsTheClientAndFallsBack(t *testing.T) {
	app := listenTCP(t)
	k := &fakeKeeper{hop: freePort(t, stand)}
	d, count := testDialer(t, k)
	first, err := d.DialApp(t.Context(), "a", client, app)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if got := first.LocalAddr().(*net.TCPAddr).AddrPort(); got != k.hop || *count != (hopCount{kept: 1}) {
		t.Errorf("the app sees %v, %+v; want %v", got, *count, k.hop)
	}
	second, err := d.DialApp(t.Context(), "a", client, app) // the one port is taken: EADDRNOTAVAIL
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if got := second.LocalAddr().(*net.TCPAddr).AddrPort(); got.Addr() == stand || *count != (hopCount{1, 1}) || k.hops != 1+hopTries {
		t.Errorf("the app sees %v, %+v after %d hop sockets", got, *count, k.hops)
	}
}

func TestDialAppOfWhatCannotBeKept(t *testing.T) {
	app := listenTCP(t)
	k := &fakeKeeper{}
	d, count := testDialer(t, k)
	for _, from := range []netip.Addr{app.Addr(), netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("fd00::1")} {
		c, err := d.DialApp(t.Context(), "a", from, app)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	if k.hops != 0 || *count != (hopCount{}) {
		t.Errorf("%d hop sockets, %+v", k.hops, *count)
	}
}

func TestDialAppFails(t *testing.T) {
	k := &fakeKeeper{hop: netip.AddrPortFrom(stand, 0)}
	d, count := testDialer(t, k)
	nobody := freePort(t, netip.MustParseAddr("127.0.0.1"))
	if _, err := d.DialApp(t.Context(), "a", client, nobody); !errors.Is(err, unix.ECONNREFUSED) || k.hops != 1 {
		t.Errorf("nobody listens: %v after %d hop sockets", err, k.hops)
	}
	k.err = errors.New("no such pod")
	if _, err := d.DialApp(t.Context(), "a", client, nobody); !errors.Is(err, k.err) {
		t.Errorf("the keeper refuses: %v", err)
	}
	if *count != (hopCount{}) {
		t.Errorf("what failed is counted: %+v", *count)
	}
}

func TestASocketIsNotConnectedToItself(t *testing.T) {
	self := freePort(t, stand)
	k := &fakeKeeper{hop: self, t: t}
	d, _ := testDialer(t, k)
	fd, err := k.Hop(t.Context(), "a", client)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := d.connect(t.Context(), fd, self); err == nil {
		c.Close()
		t.Error("connected to itself")
	}
}

// deaf listens with a queue that is full: a SYN to it gets no answer.
func deaf(t *testing.T) netip.AddrPort {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeFD(fd) })
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", addrPort(sa).String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return addrPort(sa)
}

func TestDialEnds(t *testing.T) {
	dst := deaf(t)
	d, _ := testDialer(t, &fakeKeeper{})
	d.Timeout = 50 * time.Millisecond
	if _, err := d.Dial(t.Context(), "a", dst); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("by its own limit: %v", err)
	}
	d.Timeout = time.Minute
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := d.Dial(ctx, "a", dst); !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("by the context's deadline: %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	stop := time.AfterFunc(50*time.Millisecond, cancel)
	defer stop.Stop()
	if _, err := d.Dial(ctx, "a", dst); !errors.Is(err, context.Canceled) {
		t.Errorf("by the context's end: %v", err)
	}
}
