package redirect

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// state describes what a redirect changes in a pod's namespace.
func state(t testing.TB, ns *NetNS) (out []string) {
	t.Helper()
	check(t, ns.Do(func() error {
		for _, name := range sysctls {
			b, err := os.ReadFile("/proc/sys/" + name)
			if err != nil {
				return err
			}
			out = append(out, fmt.Sprintf("%s=%s", name, b[:1]))
		}
		for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
			rules, err := netlink.RuleList(family)
			if err != nil {
				return err
			}
			for _, r := range rules {
				out = append(out, fmt.Sprintf("rule %d mark %#x", r.Priority, r.Mark))
			}
			routes, err := netlink.RouteListFiltered(family, &netlink.Route{Table: table}, netlink.RT_FILTER_TABLE)
			if err != nil {
				return err
			}
			for _, r := range routes {
				out = append(out, fmt.Sprintf("route %v src %v", r.Dst, r.Src))
			}
		}
		return nil
	}))
	return out
}

// expectEcho sends a word over the connection and waits for it to come back.
func expectEcho(t testing.TB, c net.Conn, word string) {
	t.Helper()
	c.SetDeadline(time.Now().Add(3 * time.Second))
	if _, err := c.Write([]byte(word + "\n")); err != nil {
		t.Fatalf("write: %v", err)
	}
	if got, err := readLine(c); got != word {
		t.Fatalf("read %q, %v; want %q", got, err, word)
	}
}

func expectRefused(t testing.TB, ns *NetNS, dst netip.AddrPort) {
	t.Helper()
	if line, err := ask(ns, dst, nil); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("to %v: %q, %v; want ECONNREFUSED", dst, line, err)
	}
}

func expectCaptured(t testing.TB, p *proxy, dir Direction, ns *NetNS, dst netip.AddrPort) {
	t.Helper()
	if line, err := ask(ns, dst, nil); err != nil {
		t.Errorf("to %v: %q, %v", dst, line, err)
	}
	if n := len(p.took(dir, dst)); n != 1 {
		t.Errorf("to %v: captured %d times", dst, n)
	}
}

func TestSuspendRefusesBothWays(t *testing.T) {
	w, r, p := captured(t)
	p1, p3 := w.pods["p1"], w.pods["p3"]
	port1, port3 := w.serve(p1.ns, "tcp", ":0"), w.serve(p3.ns, "tcp", ":0")
	check(t, r.Suspend())
	for range 2 { // a failed connection leaves nothing on a later one
		for _, a := range []netip.Addr{p3.v4, p3.v6} {
			expectRefused(t, p1.ns, netip.AddrPortFrom(a, port3))
			// never to the app itself, which listens on every address
			expectRefused(t, p1.ns, netip.AddrPortFrom(a, port1))
		}
		for _, a := range []netip.Addr{p1.v4, p1.v6} {
			expectRefused(t, p3.ns, netip.AddrPortFrom(a, port1))
			if _, err := ask(p1.ns, netip.AddrPortFrom(a, port1), nil); err != nil {
				t.Errorf("to itself by %v: %v", a, err)
			}
		}
		if _, err := ask(p1.ns, netip.AddrPortFrom(netip.IPv6Loopback(), port1), nil); err != nil {
			t.Errorf("loopback: %v", err)
		}
	}
	if _, err := r.Listeners("p1"); !errors.Is(err, ErrSuspended) {
		t.Errorf("Listeners: %v", err)
	}

	check(t, r.Resume())
	p.take("p1")
	expectCaptured(t, p, Out, p1.ns, netip.AddrPortFrom(p3.v4, port3))
	expectCaptured(t, p, In, p3.ns, netip.AddrPortFrom(p1.v6, port1))
}

func TestRestartOverPins(t *testing.T) {
	w, r, p := captured(t)
	p1, p3 := w.pods["p1"], w.pods["p3"]
	port1, port3 := w.serve(p1.ns, "tcp", ":0"), w.serve(p3.ns, "tcp", ":0")
	out, in := netip.AddrPortFrom(p3.v4, port3), netip.AddrPortFrom(p1.v4, port1)

	check(t, r.Close()) // and the proxy dies too
	p.stop()
	expectRefused(t, p1.ns, out)
	expectRefused(t, p3.ns, in)
	if _, err := ask(p1.ns, netip.AddrPortFrom(netip.IPv6Loopback(), port1), nil); err != nil {
		t.Errorf("loopback: %v", err)
	}

	again := w.open(w.config())
	expectRefused(t, p1.ns, out) // still: nobody has said yet that p1 stays
	change := must[Change](t)(again.Set([]Pod{w.pod("p1"), w.pod("p2")}))
	if diff := cmp.Diff(Change{Enrolled: []string{"p1", "p2"}}, change); diff != "" {
		t.Error(diff)
	}
	q := newProxy(t, again, "p1", "p2")
	expectCaptured(t, q, Out, p1.ns, out)
	expectCaptured(t, q, In, p3.ns, in)
	if change := must[Change](t)(again.Set([]Pod{w.pod("p1"), w.pod("p2")})); !cmp.Equal(change, Change{}) {
		t.Errorf("the same again changes %v", change)
	}
}

func TestHandover(t *testing.T) {
	w, _, old := captured(t)
	p1, p3 := w.pods["p1"], w.pods["p3"]
	port1, port3 := w.serve(p1.ns, "tcp", ":0"), w.serve(p3.ns, "tcp", ":0")
	out, in := netip.AddrPortFrom(p3.v4, port3), netip.AddrPortFrom(p1.v4, port1)
	asked := make(chan error, 2)
	stop := make(chan struct{})
	load := func(ns *NetNS, dst netip.AddrPort) {
		for n := 0; ; n++ {
			select {
			case <-stop:
				asked <- nil
				return
			default:
			}
			if _, err := ask(ns, dst, nil); err != nil {
				asked <- fmt.Errorf("connection %d to %v: %w", n, dst, err)
				return
			}
		}
	}
	go load(p1.ns, out)
	go load(p3.ns, in)

	successor := w.open(w.config())
	must[Change](t)(successor.Set([]Pod{w.pod("p1"), w.pod("p2")}))
	young := newProxy(t, successor, "p1", "p2")
	served := func() bool { return len(young.took(Out, out)) > 0 && len(young.took(In, in)) > 0 }
	eventually(t, 5*time.Second, "the successor serves", served)
	old.took(Out, out)
	old.took(In, in)
	eventually(t, 5*time.Second, "the successor goes on", served)
	if n := len(old.took(Out, out)) + len(old.took(In, in)); n > 0 {
		t.Errorf("the old process got %d connections after the handover", n)
	}
	close(stop)
	for range 2 {
		if err := <-asked; err != nil {
			t.Error(err)
		}
	}
}

func TestLeaveKeepsLiveConnections(t *testing.T) {
	w := newWorld(t)
	p1, p3 := w.pods["p1"], w.pods["p3"]
	check(t, p1.ns.Do(func() error { return sysctl(map[string]string{"net/ipv4/fwmark_reflect": "1"}) })) // not ours to reset
	before := state(t, p1.ns)
	r := w.open(w.config())
	must[Change](t)(r.Set([]Pod{w.pod("p1")}))
	during := state(t, p1.ns)
	if cmp.Equal(before, during) {
		t.Fatal("enrolment changed nothing")
	}
	p := newProxy(t, r, "p1")
	out := netip.AddrPortFrom(p3.v4, w.serve(p3.ns, "tcp", ":0"))
	in := netip.AddrPortFrom(p1.v6, w.serve(p1.ns, "tcp", ":0"))
	var conns []net.Conn
	for ns, dst := range map[*NetNS]netip.AddrPort{p1.ns: out, p3.ns: in} {
		c := must[net.Conn](t)(dial(ns, dst, nil))
		defer c.Close()
		must[string](t)(readLine(c))
		conns = append(conns, c)
	}
	if len(p.took(Out, out)) != 1 || len(p.took(In, in)) != 1 {
		t.Fatal("not captured")
	}

	change := must[Change](t)(r.Set(nil))
	if diff := cmp.Diff(Change{Leaving: []string{"p1"}}, change); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(during, state(t, p1.ns)); diff != "" {
		t.Errorf("rules of live connections: %s", diff)
	}
	p.closeListeners() // as a proxy does that is told that the pod has left
	if _, err := ask(p1.ns, out, nil); err != nil || len(p.took(Out, out)) != 0 {
		t.Errorf("new connection out: %v, captured %v", err, p.took(Out, out))
	}
	if _, err := ask(p3.ns, in, nil); err != nil || len(p.took(In, in)) != 0 {
		t.Errorf("new connection in: %v", err)
	}
	for _, c := range conns {
		expectEcho(t, c, "still here")
		if left := must[[]string](t)(r.Sweep()); len(left) != 0 {
			t.Fatal("left with a connection open")
		}
		c.Close()
	}
	var left []string
	eventually(t, 5*time.Second, "the pod leaves", func() bool {
		left = append(left, must[[]string](t)(r.Sweep())...)
		return len(left) > 0
	})
	if diff := cmp.Diff(before, state(t, p1.ns)); diff != "" {
		t.Errorf("the namespace is not what it was: %s", diff)
	}
}

func TestDrainDeadlineAndRun(t *testing.T) {
	w := newWorld(t)
	cfg := w.config()
	cfg.Drain = 100 * time.Millisecond
	r := w.open(cfg)
	p1, p3 := w.pods["p1"], w.pods["p3"]
	before := state(t, p1.ns)
	must[Change](t)(r.Set([]Pod{w.pod("p1")}))
	newProxy(t, r, "p1")
	c := must[net.Conn](t)(dial(p1.ns, netip.AddrPortFrom(p3.v4, w.serve(p3.ns, "tcp", ":0")), nil))
	defer c.Close()
	expectWelcome(t, c)

	ctx, cancel := testContext(t)
	ran := make(chan error, 1)
	go func() { ran <- r.Run(ctx) }()
	must[Change](t)(r.Set(nil))
	eventually(t, 5*time.Second, "Run ends the drain", func() bool { return cmp.Equal(before, state(t, p1.ns)) })
	cancel()
	check(t, <-ran)
}

func TestEnrolAgainWhileLeaving(t *testing.T) {
	w, r, p := captured(t)
	p1, p3 := w.pods["p1"], w.pods["p3"]
	out := netip.AddrPortFrom(p3.v4, w.serve(p3.ns, "tcp", ":0"))
	c := must[net.Conn](t)(dial(p1.ns, out, nil))
	defer c.Close()
	expectWelcome(t, c)
	must[Change](t)(r.Set([]Pod{w.pod("p2")}))
	change := must[Change](t)(r.Set([]Pod{w.pod("p1"), w.pod("p2")}))
	if diff := cmp.Diff(Change{Enrolled: []string{"p1"}}, change); diff != "" {
		t.Error(diff)
	}
	p.take("p1")
	p.took(Out, out)
	expectCaptured(t, p, Out, p1.ns, out)
	expectEcho(t, c, "the old one")

	c.Close()
	p.stop()
	must[Change](t)(r.Set(nil))
	eventually(t, 5*time.Second, "both leave", func() bool {
		must[[]string](t)(r.Sweep())
		return len(r.leaving) == 0
	})
	if diff := cmp.Diff(state(t, p3.ns), state(t, p1.ns)); diff != "" {
		t.Errorf("the first values are lost: %s", diff)
	}
}

func TestVanishedNamespace(t *testing.T) {
	w, r, _ := captured(t)
	// one goes while the process lives, one while it does not
	for _, name := range []string{"p1", "p2"} {
		check(t, unix.Unmount(filepath.Join(w.dir, name), unix.MNT_DETACH))
		check(t, w.pods[name].ns.Close())
	}
	r.mu.Lock()
	delete(r.pods, w.pods["p2"].ns.Cookie())
	r.mu.Unlock()
	change := must[Change](t)(r.Set(nil))
	slices.Sort(change.Left)
	if len(change.Left) != 2 {
		t.Errorf("change: %+v", change)
	}
	if have := must[map[uint64]bool](t)(r.cookies()); len(have) != 0 {
		t.Errorf("remembered: %v", have)
	}
	if pins := must[[]uint64](t)(pinnedCookies(r.dir)); len(pins) != 0 {
		t.Errorf("pinned: %v", pins)
	}
}

// TestCrash abandons the process before each step of an enrolment and of a leave, and has another one go on.
func TestCrash(t *testing.T) {
	w := newWorld(t)
	p1, p3 := w.pods["p1"], w.pods["p3"]
	before := state(t, p1.ns)
	out := netip.AddrPortFrom(p3.v4, w.serve(p3.ns, "tcp", ":0"))
	in := netip.AddrPortFrom(p1.v4, w.serve(p1.ns, "tcp", ":0"))
	crash := errors.New("crash")
	cfg := w.config()

	// dying opens the instance, lets Set die before the step, and leaves all as it is
	dying := func(step string, desired []Pod) (reached bool) {
		r := must[*Redirect](t)(Open(cfg))
		r.step = func(name string) error {
			if name != step {
				return nil
			}
			reached = true
			return crash
		}
		if _, err := r.Set(desired); reached && !errors.Is(err, crash) {
			t.Fatalf("%s: %v", step, err)
		}
		check(t, r.Close())
		return reached
	}
	steps := []string{"families", "remember sysctls", "route", "addresses", "listen", "attach sk_lookup", "capture", "guard"}
	for _, step := range steps {
		t.Run("enrol/"+step, func(t *testing.T) {
			if !dying(step, []Pod{w.pod("p1")}) {
				t.Fatal("no such step")
			}
			r := w.open(cfg)
			must[Change](t)(r.Set([]Pod{w.pod("p1")}))
			p := newProxy(t, r, "p1")
			expectCaptured(t, p, Out, p1.ns, out)
			expectCaptured(t, p, In, p3.ns, in)
			p.stop()
			expectQuiet(t, p1.ns) // CleanUp cuts connections off, and what is cut stays for a while
			check(t, r.Close())
			check(t, CleanUp(cfg))
			if diff := cmp.Diff(before, state(t, p1.ns)); diff != "" {
				t.Errorf("the first values are lost: %s", diff)
			}
		})
	}
	for _, step := range []string{"let connections pass", "detach", "empty slots", "close listeners", "forget addresses", "restore", "forget state", "forget pod"} {
		t.Run("leave/"+step, func(t *testing.T) {
			r := must[*Redirect](t)(Open(cfg))
			must[Change](t)(r.Set([]Pod{w.pod("p1")}))
			check(t, r.Close())
			if !dying(step, nil) {
				t.Fatal("no such step")
			}
			r = w.open(cfg)
			change := must[Change](t)(r.Set(nil))
			if len(change.Left) != 1 {
				t.Errorf("change: %+v", change)
			}
			if diff := cmp.Diff(before, state(t, p1.ns)); diff != "" {
				t.Errorf("the first values are lost: %s", diff)
			}
			for _, err := range []error{second(ask(p1.ns, out, nil)), second(ask(p3.ns, in, nil))} {
				check(t, err)
			}
		})
	}
}

// expectQuiet waits until no proxied connection is left.
func expectQuiet(t testing.TB, ns *NetNS) {
	t.Helper()
	eventually(t, 5*time.Second, "proxied connections end", func() bool {
		var n int
		check(t, ns.Do(func() (err error) {
			n, err = proxied()
			return err
		}))
		return n == 0
	})
}

func second[T any](_ T, err error) error { return err }

func TestSetGoesOnAfterAnError(t *testing.T) {
	w := newWorld(t)
	r := w.open(w.config())
	crash := errors.New("no")
	r.step = func(name string) error {
		if name == "capture" {
			return crash
		}
		return nil
	}
	if _, err := r.Set([]Pod{w.pod("p1")}); !errors.Is(err, crash) {
		t.Fatalf("Set: %v", err)
	}
	if _, err := r.Listeners("p1"); !errors.Is(err, ErrUnknownPod) {
		t.Errorf("Listeners of a half enrolled pod: %v", err)
	}
	r.step = func(name string) error { return crash } // at once
	if _, err := r.Set([]Pod{w.pod("p1"), w.pod("p2")}); !errors.Is(err, crash) {
		t.Fatalf("Set: %v", err)
	}
	r.step = nil
	change := must[Change](t)(r.Set([]Pod{w.pod("p1")}))
	if diff := cmp.Diff([]string{"p2"}, change.Left); diff != "" {
		t.Error(diff)
	}
	change.Left, change.Leaving = nil, nil
	if diff := cmp.Diff(Change{Enrolled: []string{"p1"}}, change); diff != "" {
		t.Error(diff)
	}
}

// TestFailedUpdateKeepsThePod: it is captured as before, so its connections must go on.
func TestFailedUpdateKeepsThePod(t *testing.T) {
	w, r, p := captured(t)
	p1, p3 := w.pods["p1"], w.pods["p3"]
	crash := errors.New("no")
	r.step = func(name string) error {
		if name == "guard" {
			return crash
		}
		return nil
	}
	d := w.pod("p1")
	d.ProbePorts = []uint16{80}
	for range 2 { // and again
		if _, err := r.Set([]Pod{d, w.pod("p2")}); !errors.Is(err, crash) {
			t.Fatalf("Set: %v", err)
		}
	}
	expectCaptured(t, p, Out, p1.ns, netip.AddrPortFrom(p3.v4, w.serve(p3.ns, "tcp", ":0")))
}

func TestDescriptors(t *testing.T) {
	w := newWorld(t)
	count := func() int { return len(must[[]os.DirEntry](t)(os.ReadDir("/proc/self/fd"))) }
	runtime.GC() // closes what earlier tests forgot
	runtime.GC()
	before := count()
	r := must[*Redirect](t)(Open(w.config()))
	must[Change](t)(r.Set([]Pod{w.pod("p1"), w.pod("p2")}))
	held := count()
	must[Change](t)(r.Set([]Pod{w.pod("p1")}))
	must[Change](t)(r.Set([]Pod{w.pod("p1"), w.pod("p2")}))
	check(t, errors.Join(r.Suspend(), r.Resume()))
	if n := count(); n != held {
		t.Errorf("%d descriptors, then %d", held, n)
	}
	check(t, errors.Join(r.Close(), CleanUp(w.config())))
	if n := count(); n > before {
		t.Errorf("%d descriptors before, %d after", before, n)
	}
}

func TestCleanUpLeavesNothing(t *testing.T) {
	w := newWorld(t)
	p1, p2 := w.pods["p1"], w.pods["p2"]
	before := [][]string{state(t, p1.ns), state(t, p2.ns)}
	cfg := w.config()
	r := w.open(cfg)
	guarded := w.pod("p2")
	guarded.Guard = true
	must[Change](t)(r.Set([]Pod{w.pod("p1"), guarded}))
	ids := map[ebpf.MapID]bool{}
	for _, m := range r.objects.byName() {
		id, _ := must[*ebpf.MapInfo](t)(m.Info()).ID()
		ids[id] = true
	}
	if n := programsOf(t, ids); n < 5 { // two connects, two sk_lookups, a guard
		t.Fatalf("%d programs", n)
	}
	check(t, r.Close())
	check(t, CleanUp(cfg))
	check(t, CleanUp(cfg)) // twice is no error
	eventually(t, 5*time.Second, "programs and maps go", func() bool { return programsOf(t, ids) == 0 && !anyLeft(ids) })
	if diff := cmp.Diff(before, [][]string{state(t, p1.ns), state(t, p2.ns)}); diff != "" {
		t.Error(diff)
	}
	if _, err := os.Stat(rootDir(cfg.BPFFS)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("pins: %v", err)
	}
}

// programsOf counts the programs of the machine that use one of the maps. Others may run tests of their own.
func programsOf(t testing.TB, maps map[ebpf.MapID]bool) (n int) {
	t.Helper()
	for id := ebpf.ProgramID(0); ; {
		next, err := ebpf.ProgramGetNextID(id)
		if err != nil {
			return n
		}
		id = next
		prog, err := ebpf.NewProgramFromID(id)
		if err != nil {
			continue
		}
		info, err := prog.Info()
		prog.Close()
		if err != nil {
			continue
		}
		used, _ := info.MapIDs()
		if slices.ContainsFunc(used, func(m ebpf.MapID) bool { return maps[m] }) {
			n++
		}
	}
}

func anyLeft(maps map[ebpf.MapID]bool) bool {
	for id := range maps {
		if m, err := ebpf.NewMapFromID(id); err == nil {
			m.Close()
			return true
		}
	}
	return false
}

func TestInstancesDoNotSeeEachOther(t *testing.T) {
	w := newWorld(t)
	cfgA, cfgB := w.config(), w.config()
	cfgB.Instance = "b.example.org"
	a, b := w.open(cfgA), w.open(cfgB)
	must[Change](t)(a.Set([]Pod{w.pod("p1")}))
	must[Change](t)(b.Set([]Pod{w.pod("p2")}))
	pa, pb := newProxy(t, a, "p1"), newProxy(t, b, "p2")
	p1, p2 := w.pods["p1"], w.pods["p2"]
	dst := netip.AddrPortFrom(p2.v4, w.serve(p2.ns, "tcp", ":0"))
	must[string](t)(ask(p1.ns, dst, nil))
	if len(pa.took(Out, dst)) != 1 || len(pb.took(In, dst)) != 1 {
		t.Error("not captured by both")
	}
	if len(pa.all) != 0 || len(pb.all) != 0 {
		t.Errorf("more: %v %v", pa.all, pb.all)
	}
	pa.stop()
	check(t, a.Close())
	check(t, CleanUp(cfgA))
	must[string](t)(ask(p1.ns, dst, nil))
	if len(pb.took(In, dst)) != 1 {
		t.Error("cleanup of the one took the other's")
	}
}
