package redirect

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

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
		{"behind an authentication header", with(authentication, destination).bytes(), "guard_dropped"},
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
				if err != nil && (c.verdict == "" || !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.EPERM)) {
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

// TestGuardFrames sends IPv4 packets in frames and fragments that an honest app does not.
func TestGuardFrames(t *testing.T) {
	w, r, _ := captured(t)
	guard(t, w, r)
	p1 := w.pods["p1"]
	dst := netip.AddrPortFrom(w.pods["p3"].v4, 80)
	syn := func(fragment byte) []byte {
		b := segment{src: p1.v4, dst: dst, sport: 4321, flags: flagSYN}.bytes()
		b[7] = fragment
		return b
	}
	options := make([]byte, 40)
	for i := range options {
		options[i] = 1 // no operation
	}
	behind := func(n int) []byte { // that many bytes of options
		b := syn(0)
		b[0], b[3] = 0x45+byte(n/4), 40+byte(n)
		return slices.Concat(b[:20], options[:n], b[20:])
	}
	linkLocal := syn(0)
	copy(linkLocal[16:], []byte{169, 254, 169, 254})
	const q, ad = unix.ETH_P_8021Q, unix.ETH_P_8021AD
	for _, c := range []struct {
		name    string
		packet  []byte
		tags    []uint16
		verdict string
	}{
		{"one tag", syn(0), []uint16{q}, "guard_dropped"},
		{"two tags", syn(0), []uint16{ad, q}, "guard_dropped"},
		{"three tags", syn(0), []uint16{ad, q, q}, "guard_malformed"},
		{"a fragment over the flags of another", syn(1), nil, "guard_malformed"},
		{"a later fragment", syn(2), nil, ""},
		{"behind options", behind(4), nil, "guard_dropped"},
		{"behind as many options as there can be", behind(40), nil, "guard_dropped"},
		{"to a link-local address", linkLocal, nil, "guard_passed"},
		{"a header of no version", append([]byte{0x55}, syn(0)[1:]...), nil, "guard_malformed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := must[map[string]uint64](t)(r.Verdicts())
			check(t, asProcess(p1.ns, defaultCaps, func() error { return sendFrame(c.packet, unix.ETH_P_IP, c.tags...) }))
			m := moved(t, r, before)
			if c.verdict == "" && len(m) != 0 || c.verdict != "" && (m[c.verdict] != 1 || len(m) != 1) {
				t.Errorf("moved %v, want %q", m, c.verdict)
			}
		})
	}
}
