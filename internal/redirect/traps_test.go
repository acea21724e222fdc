package redirect

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// TestSYNCookies: with cookies the connection begins with the ACK, not with the SYN.
func TestSYNCookies(t *testing.T) {
	w, _, p := captured(t)
	p1, p2, p3 := w.pods["p1"], w.pods["p2"], w.pods["p3"]
	for _, pod := range []*testPod{p1, p2} {
		check(t, pod.ns.Do(func() error { return sysctl(map[string]string{"net/ipv4/tcp_syncookies": "2"}) }))
	}
	port2, port3 := w.serve(p2.ns, "tcp", ":0"), w.serve(p3.ns, "tcp", ":0")
	for _, a := range [][2]netip.Addr{{p3.v4, p2.v4}, {p3.v6, p2.v6}} {
		expectCaptured(t, p, Out, p1.ns, netip.AddrPortFrom(a[0], port3))
		expectCaptured(t, p, In, p3.ns, netip.AddrPortFrom(a[1], port2))
	}
}

func TestSeveralAddresses(t *testing.T) {
	w := newWorld(t)
	p1, p3 := w.pods["p1"], w.pods["p3"]
	more := []netip.Addr{netip.MustParseAddr("10.99.2.11"), netip.MustParseAddr("fd99::2:11")}
	check(t, p1.ns.Do(func() error { return joinUp("eth0", more...) }))
	check(t, w.node.Do(func() error {
		return errors.Join(addRoute("vp1", host(more[0]), nil, gateway4), addRoute("vp1", host(more[1]), nil, gateway6))
	}))
	r := w.open(w.config())
	desired := w.pod("p1")
	must[Change](t)(r.Set([]Pod{desired}))
	p := newProxy(t, r, "p1")
	port := w.serve(p1.ns, "tcp", ":0")
	for _, a := range more { // not known yet: foreign, so not the proxy's
		must[string](t)(ask(p3.ns, netip.AddrPortFrom(a, port), nil))
		if n := len(p.took(In, netip.AddrPortFrom(a, port))); n != 0 {
			t.Errorf("%v captured before it was named", a)
		}
	}
	desired.Addrs = append(desired.Addrs, more...)
	change := must[Change](t)(r.Set([]Pod{desired}))
	if len(change.Updated) != 1 {
		t.Errorf("change: %+v", change)
	}
	for _, a := range desired.Addrs {
		dst := netip.AddrPortFrom(a, port)
		expectCaptured(t, p, In, p3.ns, dst)
		must[string](t)(ask(p1.ns, dst, nil))
		if n := len(p.took(Out, dst)) + len(p.took(In, dst)); n != 0 {
			t.Errorf("to itself by %v: captured", a)
		}
	}
	desired.Addrs = desired.Addrs[:2]
	must[Change](t)(r.Set([]Pod{desired}))
	if is := must[map[redirectFlAddrKey]bool](t)(addrKeys(r)); len(is) != 2 {
		t.Errorf("addresses: %v", is)
	}
}

func addrKeys(r *Redirect) (map[redirectFlAddrKey]bool, error) {
	keys := map[redirectFlAddrKey]bool{}
	var key redirectFlAddrKey
	var value uint32
	entries := r.objects.maps.FlAddrs.Iterate()
	for entries.Next(&key, &value) {
		keys[key] = true
	}
	return keys, entries.Err()
}

func TestWithoutIPv6(t *testing.T) {
	w := newWorld(t)
	p1, p3 := w.pods["p1"], w.pods["p3"]
	check(t, p1.ns.Do(func() error { return sysctl(map[string]string{"net/ipv6/conf/all/disable_ipv6": "1"}) }))
	r := w.open(w.config())
	must[Change](t)(r.Set([]Pod{w.pod("p1")})) // with its IPv6 address, as the runtime names it
	if l := must[[]Listener](t)(r.Listeners("p1")); len(l) != 2 || l[0].Family != 4 || l[1].Family != 4 {
		t.Errorf("listeners: %v", l)
	} else {
		unix.Close(l[0].FD)
		unix.Close(l[1].FD)
	}
	p := newProxy(t, r, "p1")
	expectCaptured(t, p, Out, p1.ns, netip.AddrPortFrom(p3.v4, w.serve(p3.ns, "tcp", ":0")))
	if _, err := r.Sockets("p1", 6, 1); !errors.Is(err, ErrNoFamily) {
		t.Errorf("Sockets: %v", err)
	}
	if _, err := r.HopSocket("p1", p3.v6); !errors.Is(err, ErrNoFamily) {
		t.Errorf("HopSocket: %v", err)
	}
	expectRefused(t, p1.ns, netip.AddrPortFrom(p3.v6, 1))
}

// TestResetStaysOnLo: when the app's socket has gone, the kernel answers the proxy's FIN with a reset that reflects the
// mark of the FIN. Were that PROXY, the reset would leave by eth0, the proxy's socket would stay in LAST-ACK for minutes,
// and the app's next connect from the same port would hang.
func TestResetStaysOnLo(t *testing.T) {
	w := newWorld(t)
	r := w.open(w.config())
	p1, p3 := w.pods["p1"], w.pods["p3"]
	check(t, p1.ns.Do(func() error { return sysctl(map[string]string{"net/ipv4/tcp_fin_timeout": "1"}) }))
	must[Change](t)(r.Set([]Pod{w.pod("p1")}))
	listeners := must[[]Listener](t)(r.Listeners("p1")) // the first is for outbound IPv4
	for _, l := range listeners[1:] {
		unix.Close(l.FD)
	}
	f := os.NewFile(uintptr(listeners[0].FD), "listener")
	defer f.Close()
	l := must[net.Listener](t)(net.FileListener(f))
	defer l.Close()
	dst := netip.AddrPortFrom(p3.v4, 80)
	connect := func() net.Conn {
		return must[net.Conn](t)(dial(p1.ns, dst, func(fd int) error {
			return errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), unix.Bind(fd, sockaddr(netip.AddrPortFrom(p1.v4, 5000))))
		}))
	}
	sockets := func(from uint16) (n int) { // those that have this port on their own side
		check(t, p1.ns.Do(func() error {
			all, err := netlink.SocketDiagTCP(unix.AF_INET)
			for _, s := range all {
				if s.ID.SourcePort == from && s.State != unix.BPF_TCP_LISTEN {
					n++
				}
			}
			return err
		}))
		return n
	}
	for range 2 {
		app := connect()
		accepted := must[net.Conn](t)(l.Accept())
		app.Close()
		eventually(t, 5*time.Second, "the app's socket has gone", func() bool { return sockets(5000) == 0 })
		accepted.Close()
		eventually(t, 2*time.Second, "the proxy's socket has gone", func() bool { return sockets(80) == 0 })
	}
}

// TestHopPorts: the app sees the client's address, and a port that the client itself would not take.
func TestHopPorts(t *testing.T) {
	w, r, p := captured(t)
	p2, p3 := w.pods["p2"], w.pods["p3"]
	port := w.serve(p2.ns, "tcp", ":0")
	seen := map[uint16]bool{}
	for range 20 {
		line := must[string](t)(ask(p3.ns, netip.AddrPortFrom(p2.v4, port), nil))
		_, peer, _ := strings.Cut(line, "peer=")
		ap := netip.MustParseAddrPort(peer)
		if ap.Addr().Unmap() != p3.v4 || ap.Port() < 512 || ap.Port() > 1023 {
			t.Errorf("the app sees %v", ap)
		}
		seen[ap.Port()] = true
	}
	if len(seen) != 20 {
		t.Errorf("ports not in turn: %v", seen)
	}
	for _, a := range []string{"::", "127.0.0.1", "224.0.0.1", "fe80::1"} {
		if fd, err := r.HopSocket("p2", netip.MustParseAddr(a)); err == nil {
			unix.Close(fd)
			t.Errorf("hop from %s", a)
		}
	}
	if _, err := r.HopSocket("p9", p3.v4); !errors.Is(err, ErrUnknownPod) {
		t.Errorf("hop in an unknown pod: %v", err)
	}

	p.own.Store(true)
	line := must[string](t)(ask(p3.ns, netip.AddrPortFrom(p2.v4, port), nil))
	if !strings.Contains(line, "peer="+p2.v4.String()) {
		t.Errorf("without the hop: %s", line)
	}
}

// TestReuseport: a listener of a group is chosen itself, not another of its group.
func TestReuseport(t *testing.T) {
	w, r, p := captured(t)
	p1, p3 := w.pods["p1"], w.pods["p3"]
	p.stop()
	var group [2]net.Listener
	addr := "127.0.0.1:0"
	for i := range group {
		var lc net.ListenConfig
		lc.SetMultipathTCP(false)
		set := controlWith(func(fd int) error {
			return errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1), unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, int(redirectFlMarkFL_MARK_CAPTURE)),
				unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_TRANSPARENT, 1))
		})
		lc.Control = func(n, a string, c syscall.RawConn) error { return set(t.Context(), n, a, c) }
		check(t, p1.ns.Do(func() (err error) {
			group[i], err = lc.Listen(t.Context(), "tcp4", addr)
			return err
		}))
		defer group[i].Close()
		addr = group[i].Addr().String()
	}
	raw := must[syscall.RawConn](t)(group[0].(*net.TCPListener).SyscallConn())
	check(t, raw.Control(func(fd uintptr) {
		check(t, r.objects.maps.FlListeners.Put(slotKey(p1.ns.Cookie(), redirectFlSlotFL_SLOT_OUT4), uint64(fd)))
	}))
	for range 20 {
		c := must[net.Conn](t)(dial(p1.ns, netip.AddrPortFrom(p3.v4, 80), nil))
		c.Close()
	}
	for range 20 {
		group[0].(*net.TCPListener).SetDeadline(time.Now().Add(3 * time.Second))
		c := must[net.Conn](t)(group[0].Accept())
		c.Close()
	}
}

// TestListenerItself: a direct connection to the listener's own port is told by its loopback address, and refused.
func TestListenerItself(t *testing.T) {
	w, r, _ := captured(t)
	for _, l := range must[[]Listener](t)(r.Listeners("p1")) {
		sa := must[unix.Sockaddr](t)(unix.Getsockname(l.FD))
		unix.Close(l.FD)
		addr, port := netip.MustParseAddr("127.0.0.1"), 0
		switch sa := sa.(type) {
		case *unix.SockaddrInet4:
			port = sa.Port
		case *unix.SockaddrInet6:
			addr, port = netip.IPv6Loopback(), sa.Port
		}
		if line, err := ask(w.pods["p1"].ns, netip.AddrPortFrom(addr, uint16(port)), nil); !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("%v: %q, %v", addr, line, err)
		}
	}
}

// TestNothingPacesALocalLeg: sockets whose segments stay in the pod do without the machine's congestion control; those towards other
// nodes have it.
func TestNothingPacesALocalLeg(t *testing.T) {
	w, r, _ := captured(t)
	control := func(fd int) string {
		return must[string](t)(unix.GetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION))
	}
	theirs := strings.TrimSpace(string(must[[]byte](t)(os.ReadFile("/proc/sys/net/ipv4/tcp_congestion_control"))))
	for _, l := range must[[]Listener](t)(r.Listeners("p1")) {
		want := theirs
		if l.Direction == Out {
			want = "reno"
		}
		if got := control(l.FD); got != want {
			t.Errorf("%v%d: %s, want %s", l.Direction, l.Family, got, want)
		}
		unix.Close(l.FD)
	}
	fds := must[[]int](t)(r.Sockets("p1", 4, 1))
	hop := must[int](t)(r.HopSocket("p1", w.pods["p3"].v4))
	if out, in := control(fds[0]), control(hop); out != theirs || in != "reno" {
		t.Errorf("a socket of ours has %s, a hop %s", out, in)
	}
	unix.Close(fds[0])
	unix.Close(hop)
}

// TestAppBindsWhatIsProxied: a connection that the proxy has accepted bears, in the pod, the port that was dialled. An app
// that starts while such a connection lives, of its own port or of another's, can bind that port as servers do.
func TestAppBindsWhatIsProxied(t *testing.T) {
	w := newWorld(t)
	r := w.open(w.config())
	must[Change](t)(r.Set([]Pod{w.pod("p1")})) // nobody accepts: the connections are there all the same
	p1, p3 := w.pods["p1"], w.pods["p3"]
	const in, out = 7071, 7072
	for _, way := range []struct {
		from *NetNS
		dst  netip.AddrPort
	}{{p3.ns, netip.AddrPortFrom(p1.v4, in)}, {p3.ns, netip.AddrPortFrom(p1.v6, in)}, {p1.ns, netip.AddrPortFrom(p3.v4, out)}, {p1.ns, netip.AddrPortFrom(p3.v6, out)}} {
		c := must[net.Conn](t)(dial(way.from, way.dst, nil))
		defer c.Close()
	}
	for _, port := range []string{":7071", ":7072"} {
		var l net.Listener
		check(t, p1.ns.Do(func() (err error) {
			l, err = net.Listen("tcp", port)
			return err
		}))
		l.Close()
	}
}

// TestPassing: what is not to be captured goes on, and takes no mark of ours along.
func TestPassing(t *testing.T) {
	w, r, p := captured(t)
	p1 := w.pods["p1"]
	linkLocal4 := netip.MustParseAddr("169.254.169.254")
	var linkLocal6 netip.Addr
	check(t, w.node.Do(func() error {
		if err := joinUp("vp1", linkLocal4); err != nil {
			return err
		}
		l, err := netlink.LinkByName("vp1")
		if err != nil {
			return err
		}
		addrs, err := addrList6(l)
		for _, a := range addrs {
			if a.IP.IsLinkLocalUnicast() {
				linkLocal6 = netip.AddrFrom16([16]byte(a.IP.To16())).WithZone("eth0")
			}
		}
		return err
	}))
	nodePort, ownPort := w.serve(w.node, "tcp", ":0"), w.serve(p1.ns, "tcp", ":0")
	for _, dst := range []netip.AddrPort{
		netip.AddrPortFrom(linkLocal4, nodePort),
		netip.AddrPortFrom(linkLocal6, nodePort),
		netip.AddrPortFrom(netip.IPv4Unspecified(), ownPort),
		netip.AddrPortFrom(netip.IPv6Unspecified(), ownPort),
		netip.AddrPortFrom(netip.MustParseAddr("::ffff:127.0.0.1"), ownPort),
		netip.AddrPortFrom(p1.v4, ownPort),
	} {
		before := must[map[string]uint64](t)(r.Verdicts())
		if _, err := askScoped(p1.ns, dst); err != nil {
			t.Errorf("to %v: %v", dst, err)
		}
		if m := moved(t, r, before); m["out_local"] == 0 || m["out_captured"] != 0 {
			t.Errorf("to %v: %v", dst, m)
		}
	}
	if all := p.others(); len(all) != 0 {
		t.Errorf("captured: %v", all)
	}
}

// askScoped resolves the zone within the namespace.
func askScoped(ns *NetNS, dst netip.AddrPort) (line string, err error) {
	err = asProcess(ns, defaultCaps, func() error {
		sa := sockaddr(netip.AddrPortFrom(dst.Addr().WithZone(""), dst.Port()))
		if zone := dst.Addr().Zone(); zone != "" {
			dev, err := net.InterfaceByName(zone)
			if err != nil {
				return err
			}
			sa.(*unix.SockaddrInet6).ZoneId = uint32(dev.Index)
		}
		fd, err := tcpSocket(dst, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.Connect(fd, sa); err != nil {
			return fmt.Errorf("connect: %w", err)
		}
		buf := make([]byte, 200)
		n, err := unix.Read(fd, buf)
		line = string(buf[:max(n, 0)])
		return err
	})
	return line, err
}

// TestLinkLocalFromOutside: the app passes to link-local addresses, but a neighbour does not come in by one.
func TestLinkLocalFromOutside(t *testing.T) {
	w, _, p := captured(t)
	p1 := w.pods["p1"]
	var linkLocal netip.Addr
	check(t, p1.ns.Do(func() error {
		l, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		addrs, err := addrList6(l)
		for _, a := range addrs {
			if a.IP.IsLinkLocalUnicast() {
				linkLocal = netip.AddrFrom16([16]byte(a.IP.To16()))
			}
		}
		return err
	}))
	dst := netip.AddrPortFrom(linkLocal, w.serve(p1.ns, "tcp", ":0"))
	if line, err := askScoped(w.node, netip.AddrPortFrom(linkLocal.WithZone("vp1"), dst.Port())); err == nil && line != "" {
		t.Errorf("from outside: %q", line)
	}
	if all := p.others(); len(all) != 1 || all[0].dir != In {
		t.Errorf("captured: %v", all)
	}
	if line, err := askScoped(p1.ns, netip.AddrPortFrom(linkLocal.WithZone("eth0"), dst.Port())); err != nil || line == "" {
		t.Errorf("to itself: %q, %v", line, err)
	}
}

// TestStaleMark: a socket may be connected again after a failure; the capture mark of the first time must not stay.
func TestStaleMark(t *testing.T) {
	w, _, _ := captured(t)
	p1, p3 := w.pods["p1"], w.pods["p3"]
	port := w.serve(p1.ns, "tcp", ":0")
	check(t, asProcess(p1.ns, defaultCaps, func() error {
		fd, err := tcpSocket(netip.AddrPortFrom(p3.v4, 9), 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		unix.Connect(fd, sockaddr(netip.AddrPortFrom(p3.v4, 9)))
		if mark, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK); mark != int(redirectFlMarkFL_MARK_CAPTURE) {
			return fmt.Errorf("mark %#x, %v", mark, err)
		}
		unspec := make([]byte, unix.SizeofSockaddrInet4) // family 0 takes the socket back to its beginning
		if _, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&unspec[0])), uintptr(len(unspec))); errno != 0 && errno != unix.ECONNRESET {
			return fmt.Errorf("disconnect: %w", errno)
		}
		if err := unix.Connect(fd, sockaddr(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port))); err != nil {
			return fmt.Errorf("connect to loopback: %w", err)
		}
		if mark, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK); mark != 0 {
			return fmt.Errorf("mark after %#x, %v", mark, err)
		}
		return nil
	}))
}

func TestUDPIsUntouched(t *testing.T) {
	w, r, _ := captured(t)
	p1, p3 := w.pods["p1"], w.pods["p3"]
	before := must[map[string]uint64](t)(r.Verdicts())
	var server net.PacketConn
	check(t, p3.ns.Do(func() (err error) {
		server, err = net.ListenPacket("udp", ":0")
		return err
	}))
	defer server.Close()
	for _, a := range []netip.Addr{p3.v4, p3.v6} {
		var c net.Conn
		check(t, p1.ns.Do(func() (err error) {
			c, err = net.Dial("udp", netip.AddrPortFrom(a, server.LocalAddr().(*net.UDPAddr).AddrPort().Port()).String())
			return err
		}))
		defer c.Close()
		must[int](t)(c.Write([]byte("ping")))
		buf := make([]byte, 10)
		server.SetReadDeadline(time.Now().Add(3 * time.Second))
		n, _, err := server.ReadFrom(buf)
		if err != nil || !bytes.Equal(buf[:n], []byte("ping")) {
			t.Errorf("by %v: %q, %v", a, buf[:n], err)
		}
	}
	if m := moved(t, r, before); len(m) != 0 {
		t.Errorf("counted: %v", m)
	}
}
