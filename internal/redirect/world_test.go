package redirect

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// world is a node with pods, each a network namespace, joined by point-to-point veths as kindnet does it.
type world struct {
	t     testing.TB
	bpffs string
	dir   string // of the namespaces' names
	node  *NetNS
	pods  map[string]*testPod
}

type testPod struct {
	ns     *NetNS
	v4, v6 netip.Addr
}

// requireRoot skips without root, unless this is where a skip would hide a failure.
func requireRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") == "true" || os.Getenv("REQUIRE_ROOT") == "1" {
		t.Fatal("needs root")
	}
	t.Skip("needs root")
}

// supported skips the test if the kernel is older than what the error says is needed. A newer one that lacks it is a failure.
func supported(t testing.TB, err error) {
	t.Helper()
	lacks := new(UnsupportedFeature)
	if errors.As(err, &lacks) {
		if olderThan(t, lacks.Minimum) {
			t.Skip(err)
		}
		t.Fatalf("on a kernel that should have it: %v", err)
	}
	check(t, err)
}

// olderThan compares the running kernel.
func olderThan(t testing.TB, minimum string) bool {
	t.Helper()
	var uts unix.Utsname
	check(t, unix.Uname(&uts))
	return isOlder(t, unix.ByteSliceToString(uts.Release[:]), minimum)
}

func isOlder(t testing.TB, release, minimum string) bool {
	t.Helper()
	number := func(version string) (n int) {
		var major, minor int
		if k, err := fmt.Sscanf(version, "%d.%d", &major, &minor); k != 2 {
			t.Fatalf("version %q: %v", version, err)
		}
		return major<<16 + minor
	}
	return number(release) < number(minimum)
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newWorld has the pods p1, p2 and p3 with addresses 10.99.1.1x and fd99::1x.
func newWorld(t testing.TB) *world {
	t.Helper()
	requireRoot(t)
	w := &world{t: t, bpffs: mountBPFFS(t), dir: t.TempDir(), pods: map[string]*testPod{}}
	w.node = w.newNetNS("node")
	check(t, w.node.Do(func() error {
		return sysctl(map[string]string{"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1"})
	}))
	for i, name := range []string{"p1", "p2", "p3"} {
		w.addPod(name, 11+i)
	}
	return w
}

func mountBPFFS(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "bpf")
	check(t, os.Mkdir(dir, 0o700))
	check(t, unix.Mount("none", dir, "bpf", 0, "mode=0700"))
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func sysctl(values map[string]string) error {
	for name, value := range values {
		if err := os.WriteFile("/proc/sys/"+name, []byte(value), 0); err != nil {
			return err
		}
	}
	return nil
}

// newNetNS makes a namespace with a name that can be unmounted, as the runtime does.
func (w *world) newNetNS(name string) *NetNS {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	check(w.t, os.WriteFile(path, nil, 0o600))
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")
		}
		if err == nil {
			err = sysctl(map[string]string{"net/ipv6/conf/all/accept_dad": "0", "net/ipv6/conf/default/accept_dad": "0",
				"net/ipv4/conf/all/rp_filter": "1", "net/ipv4/conf/default/rp_filter": "1"})
		}
		if err == nil {
			err = setUp("lo")
		}
		done <- err
	}()
	check(w.t, <-done)
	w.t.Cleanup(func() {
		unix.Unmount(path, unix.MNT_DETACH) // a test may have done it
	})
	ns := must[*NetNS](w.t)(OpenNetNS(path))
	w.t.Cleanup(func() { ns.Close() })
	return ns
}

func setUp(name string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(l)
}

func (w *world) addPod(name string, n int) *testPod {
	w.t.Helper()
	p := &testPod{
		ns: w.newNetNS(name),
		v4: netip.AddrFrom4([4]byte{10, 99, 1, byte(n)}),
		v6: netip.MustParseAddr(fmt.Sprintf("fd99::%d", n)),
	}
	veth := "v" + name
	check(w.t, w.node.Do(func() error {
		peer := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: veth}, PeerName: "eth0", PeerNamespace: netlink.NsFd(p.ns.FD())}
		if err := netlink.LinkAdd(peer); err != nil {
			return fmt.Errorf("add veth: %w", err)
		}
		if err := joinUp(veth, gateway4, gateway6); err != nil {
			return err
		}
		return errors.Join(addRoute(veth, host(p.v4), nil, gateway4), addRoute(veth, host(p.v6), nil, gateway6))
	}))
	check(w.t, p.ns.Do(func() error {
		if err := joinUp("eth0", p.v4, p.v6); err != nil {
			return err
		}
		return errors.Join(
			addRoute("eth0", host(gateway4), nil, netip.Addr{}), addRoute("eth0", nil, gateway4.AsSlice(), netip.Addr{}),
			addRoute("eth0", host(gateway6), nil, netip.Addr{}), addRoute("eth0", &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}, gateway6.AsSlice(), netip.Addr{}))
	}))
	// a device takes packets only when the kernel has told itself, up to a second later, that its peer is up
	eventually(w.t, 5*time.Second, "the veth is up", func() bool { return isUp(w.node, veth) && isUp(p.ns, "eth0") })
	w.pods[name] = p
	return p
}

func isUp(ns *NetNS, device string) (up bool) {
	return ns.Do(func() error {
		l, err := netlink.LinkByName(device)
		up = err == nil && l.Attrs().OperState == netlink.OperUp
		return err
	}) == nil && up
}

var gateway4, gateway6 = netip.MustParseAddr("10.99.0.1"), netip.MustParseAddr("fd99:0:0:1::1")

func host(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
}

func joinUp(device string, addrs ...netip.Addr) error {
	l, err := netlink.LinkByName(device)
	if err != nil {
		return err
	}
	for _, a := range addrs {
		flags := 0
		if a.Is6() {
			flags = unix.IFA_F_NODAD
		}
		if err := netlink.AddrAdd(l, &netlink.Addr{IPNet: host(a), Flags: flags}); err != nil {
			return fmt.Errorf("add %v to %s: %w", a, device, err)
		}
	}
	return netlink.LinkSetUp(l)
}

func addRoute(device string, dst *net.IPNet, gw net.IP, src netip.Addr) error {
	l, err := netlink.LinkByName(device)
	if err != nil {
		return err
	}
	r := &netlink.Route{LinkIndex: l.Attrs().Index, Dst: dst, Gw: gw}
	if gw == nil {
		r.Scope = unix.RT_SCOPE_LINK
	}
	if src.IsValid() {
		r.Src = src.AsSlice()
	}
	if err := netlink.RouteAdd(r); err != nil {
		return fmt.Errorf("add route to %v by %s: %w", dst, device, err)
	}
	return nil
}

func (w *world) config() Config {
	return Config{BPFFS: w.bpffs, Instance: "a", NetNSDir: w.dir, Drain: 20 * time.Second}
}

func (w *world) pod(name string) Pod {
	p := w.pods[name]
	return Pod{UID: name, NetNS: p.ns, Addrs: []netip.Addr{p.v4, p.v6}}
}

// open opens the instance and takes it back at the end.
func (w *world) open(cfg Config) *Redirect {
	w.t.Helper()
	r := must[*Redirect](w.t)(Open(cfg))
	w.t.Cleanup(func() {
		r.Close()
		if err := CleanUp(cfg); err != nil {
			w.t.Error(err)
		}
	})
	return r
}

// serve is an app: it says who it is and whom it sees, then echoes. It returns its port.
func (w *world) serve(ns *NetNS, network, addr string) uint16 {
	w.t.Helper()
	var l net.Listener
	check(w.t, ns.Do(func() (err error) {
		l, err = net.Listen(network, addr)
		return err
	}))
	var conns sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	conns.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
			conns.Go(func() {
				defer c.Close()
				c.SetDeadline(time.Now().Add(20 * time.Second))
				fmt.Fprintf(c, "app local=%v peer=%v\n", c.LocalAddr(), c.RemoteAddr())
				io.Copy(c, c)
			})
		}
	})
	w.t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range open {
			c.Close()
		}
		mu.Unlock()
		conns.Wait()
	})
	return l.Addr().(*net.TCPAddr).AddrPort().Port()
}

// dial connects from a namespace. set may change the socket before.
func dial(ns *NetNS, dst netip.AddrPort, set func(fd int) error) (net.Conn, error) {
	d := net.Dialer{Timeout: 3 * time.Second}
	d.ControlContext = controlWith(set)
	var c net.Conn
	err := ns.Do(func() (err error) {
		c, err = d.Dial("tcp", dst.String())
		return err
	})
	return c, err
}

// ask connects and returns the first line that it is told.
func ask(ns *NetNS, dst netip.AddrPort, set func(fd int) error) (string, error) {
	c, err := dial(ns, dst, set)
	if err != nil {
		return "", err
	}
	defer c.Close()
	return readLine(c)
}

func readLine(c net.Conn) (string, error) {
	c.SetReadDeadline(time.Now().Add(3 * time.Second))
	line, err := bufio.NewReader(io.LimitReader(c, 512)).ReadString('\n')
	return strings.TrimSpace(line), err
}

// eventually polls until ok, for at most d.
func eventually(t testing.TB, d time.Duration, what string, ok func() bool) {
	t.Helper()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for end := time.Now().Add(d); !ok(); <-poll.C {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", d, what)
		}
	}
}

// expectWelcome reads the app's first line.
func expectWelcome(t testing.TB, c net.Conn) {
	t.Helper()
	if line, err := readLine(c); err != nil {
		t.Fatalf("welcome: %q, %v", line, err)
	}
}
