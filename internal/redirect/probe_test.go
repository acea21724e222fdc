package redirect

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// newCgroup makes a cgroup of the test's own, with others below it if named.
func newCgroup(t testing.TB, below ...string) string {
	t.Helper()
	root := must[string](t)(findCgroup2("/proc", ""))
	dir := filepath.Join(root, fmt.Sprintf("fl_test_%d_%d", os.Getpid(), time.Now().UnixNano()))
	for _, d := range append([]string{""}, below...) {
		path := filepath.Join(dir, d)
		check(t, os.Mkdir(path, 0o755))
		t.Cleanup(func() {
			eventually(t, 5*time.Second, "the cgroup is empty", func() bool { return os.Remove(path) == nil })
		})
	}
	return dir
}

func TestProbesByCgroup(t *testing.T) {
	w := newWorld(t)
	kubelet := newCgroup(t, "below")
	cfg := w.config()
	cfg.Probe = ProbeConfig{Cgroup: kubelet, HostNetNS: w.node, NodeAddrs: []netip.Addr{gateway4}}
	r := w.open(cfg)
	desired := w.pod("p1")
	port := w.serve(w.pods["p1"].ns, "tcp", ":0")
	desired.ProbePorts = []uint16{port}
	must[Change](t)(r.Set([]Pod{desired}))
	p := newProxy(t, r, "p1")
	p1 := w.pods["p1"]
	for _, c := range []struct {
		name   string
		cgroup string
		ns     *NetNS
		passes bool
	}{
		{"the kubelet", kubelet, w.node, true},
		{"a process of the node outside, which the node's address does not help", "", w.node, false},
		{"a process below the kubelet's cgroup", filepath.Join(kubelet, "below"), w.node, false},
		{"a process of the cgroup in a pod's namespace", kubelet, w.pods["p3"].ns, false},
	} {
		for _, a := range []netip.Addr{p1.v4, p1.v6} {
			t.Run(fmt.Sprintf("%s %v", c.name, a), func(t *testing.T) {
				before := must[map[string]uint64](t)(r.Verdicts())
				dst := netip.AddrPortFrom(a, port)
				if _, err := childAsk(t, c.cgroup, c.ns, dst); err != nil {
					t.Fatal(err)
				}
				m := moved(t, r, before)
				if n := len(p.took(In, dst)); (n == 0) != c.passes || (m["syn_probe"] == 1) != c.passes || (m["probe_seen"] == 1) != c.passes {
					t.Errorf("captured %d times, %v", n, m)
				}
			})
		}
	}

	t.Run("not with the proxy dead", func(t *testing.T) {
		check(t, r.Suspend())
		if _, err := childAsk(t, kubelet, w.node, netip.AddrPortFrom(p1.v4, port)); err != nil {
			t.Errorf("probe: %v", err)
		}
		check(t, r.Resume())
	})
	t.Run("expires, and is of one connection", func(t *testing.T) { testProbeTuple(t, w, r, port) })
}

// testProbeTuple writes the map as sockops does.
func testProbeTuple(t *testing.T, w *world, r *Redirect, port uint16) {
	p1, p3 := w.pods["p1"], w.pods["p3"]
	var now unix.Timespec
	check(t, unix.ClockGettime(unix.CLOCK_MONOTONIC, &now))
	dst := netip.AddrPortFrom(p1.v4, port)
	for _, c := range []struct {
		age    time.Duration
		dport  uint16
		passes uint64
	}{{time.Second, port, 1}, {4 * time.Second, port, 1}, {6 * time.Second, port, 0}, {0, port + 1, 0}} {
		before := must[map[string]uint64](t)(r.Verdicts())
		key := redirectFlTuple{Src: mapped(p3.v4), Dst: mapped(p1.v4), Sport: 3333, Dport: c.dport}
		check(t, r.objects.maps.FlProbes.Put(key, uint64(now.Nano())-uint64(c.age)))
		c1, err := dial(p3.ns, dst, func(fd int) error {
			return errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}),
				unix.Bind(fd, sockaddr(netip.AddrPortFrom(p3.v4, 3333))))
		})
		check(t, err)
		c1.Close()
		if m := moved(t, r, before); m["syn_probe"] != c.passes {
			t.Errorf("%v old, port %d: %v", c.age, c.dport, m)
		}
		check(t, ignoreNotFound(r.objects.maps.FlProbes.Delete(key)))
	}
}

func TestProbesByNodeAddress(t *testing.T) {
	w := newWorld(t)
	cfg := w.config()
	cfg.Probe.NodeAddrs = []netip.Addr{gateway4, gateway6}
	r := w.open(cfg)
	p1 := w.pods["p1"]
	desired := w.pod("p1")
	probed, other := w.serve(p1.ns, "tcp", ":0"), w.serve(p1.ns, "tcp", ":0")
	desired.ProbePorts = []uint16{probed}
	must[Change](t)(r.Set([]Pod{desired}))
	p := newProxy(t, r, "p1")
	for _, a := range []netip.Addr{p1.v4, p1.v6} {
		before := must[map[string]uint64](t)(r.Verdicts())
		must[string](t)(ask(w.node, netip.AddrPortFrom(a, probed), nil))
		if m := moved(t, r, before); m["syn_node_probe"] != 1 || len(p.took(In, netip.AddrPortFrom(a, probed))) != 0 {
			t.Errorf("probe of %v: %v", a, m)
		}
		expectCaptured(t, p, In, w.node, netip.AddrPortFrom(a, other))
		expectCaptured(t, p, In, w.pods["p3"].ns, netip.AddrPortFrom(a, probed))
	}
}

func TestKubeletsCgroup(t *testing.T) {
	w := newWorld(t)
	cfg := w.config()
	cfg.Probe.HostNetNS = w.node
	cfg.Probe.Cgroup = must[string](t)(findCgroup2("/proc", ""))
	if _, err := Open(cfg); !errors.Is(err, ErrSharedCgroup) {
		t.Errorf("the root: %v", err)
	}
	cfg.Probe.Cgroup = newCgroup(t, "pod")
	check(t, childIn(t, filepath.Join(cfg.Probe.Cgroup, "pod"), func() {
		if _, err := Open(cfg); !errors.Is(err, ErrSharedCgroup) {
			t.Errorf("one with pods below it: %v", err)
		}
	}))

	// made anew, as when the kubelet's unit restarts
	r := w.open(cfg)
	p1 := w.pods["p1"]
	must[Change](t)(r.Set([]Pod{w.pod("p1")}))
	p := newProxy(t, r, "p1")
	dst := netip.AddrPortFrom(p1.v4, w.serve(p1.ns, "tcp", ":0"))
	must[string](t)(childAsk(t, cfg.Probe.Cgroup, w.node, dst))
	eventually(t, 5*time.Second, "the cgroup is empty", func() bool {
		return os.Remove(filepath.Join(cfg.Probe.Cgroup, "pod")) == nil && os.Remove(cfg.Probe.Cgroup) == nil
	})
	check(t, os.Mkdir(cfg.Probe.Cgroup, 0o755))
	check(t, os.Mkdir(filepath.Join(cfg.Probe.Cgroup, "pod"), 0o755))
	must[[]string](t)(r.Sweep())
	must[string](t)(childAsk(t, cfg.Probe.Cgroup, w.node, dst))
	if n := len(p.took(In, dst)); n != 0 {
		t.Errorf("captured %d probes", n)
	}
}

// TestNodesAddressesAreFollowed: a bridge that comes later, as with a node's first pod, and goes again.
func TestNodesAddressesAreFollowed(t *testing.T) {
	w := newWorld(t)
	cfg := w.config()
	cfg.Probe = ProbeConfig{HostNetNS: w.node, FollowAddrs: true, NodeAddrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}
	r := w.open(cfg)
	nodes := func() (addrs []string) {
		var a redirectFlAddr
		var one uint32
		entries := r.objects.maps.FlNodes.Iterate()
		for entries.Next(&a, &one) {
			for _, known := range []string{"192.0.2.1", gateway4.String(), gateway6.String(), "10.98.0.1", "10.97.0.1"} {
				if mapped(netip.MustParseAddr(known)) == a {
					addrs = append(addrs, known)
				}
			}
		}
		check(t, entries.Err())
		slices.Sort(addrs)
		return addrs
	}
	late := func() error {
		r.objects.nodesAt = time.Time{}
		_, err := r.Sweep()
		return err
	}
	atFirst := []string{gateway4.String(), "192.0.2.1", gateway6.String()}
	slices.Sort(atFirst)
	if got := nodes(); !slices.Equal(got, atFirst) {
		t.Errorf("at first: %v", got)
	}
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "cni0"}}
	add := func(l netlink.Link, a string) error {
		addr, err := netlink.ParseAddr(a)
		return errors.Join(err, netlink.AddrAdd(l, addr))
	}
	check(t, w.node.Do(func() error {
		down := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "ipvs"}}
		return errors.Join(netlink.LinkAdd(bridge), joinUp("cni0", netip.MustParseAddr("10.98.0.1")), netlink.LinkAdd(down), add(down, "10.97.0.1/32"))
	}))
	check(t, late())
	with := append([]string{"10.98.0.1"}, atFirst...)
	slices.Sort(with)
	if got := nodes(); !slices.Equal(got, with) {
		t.Errorf("with the bridge: %v", got)
	}
	check(t, w.node.Do(func() error { return netlink.LinkDel(bridge) }))
	check(t, late())
	if got := nodes(); !slices.Equal(got, atFirst) {
		t.Errorf("without it again: %v", got)
	}
}
