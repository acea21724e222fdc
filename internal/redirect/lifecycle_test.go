package redirect

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
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
			rules, err := ruleList(family)
			if err != nil {
				return err
			}
			for _, r := range rules {
				out = append(out, fmt.Sprintf("rule %d mark %#x", r.Priority, r.Mark))
			}
			routes, err := routeList(family, table)
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

// TestHostsProc: in a container the host's procfs is bound elsewhere, and its sysctls follow the thread's namespace there too.
func TestHostsProc(t *testing.T) {
	w := newWorld(t)
	cfg := w.config()
	cfg.Proc = t.TempDir()
	check(t, unix.Mount("/proc", cfg.Proc, "", unix.MS_BIND|unix.MS_REC, ""))
	t.Cleanup(func() {
		if err := unix.Unmount(cfg.Proc, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	before := state(t, w.pods["p1"].ns)
	r := w.open(cfg)
	must[Change](t)(r.Set([]Pod{w.pod("p1")}))
	p := newProxy(t, r, "p1")
	if got := state(t, w.pods["p1"].ns); got[0] != "net/ipv4/tcp_fwmark_accept=1" {
		t.Errorf("in the pod: %v", got)
	}
	if got := state(t, w.node); got[0] != before[0] {
		t.Errorf("in the node's namespace: %v", got)
	}
	dst := netip.AddrPortFrom(w.pods["p3"].v4, w.serve(w.pods["p3"].ns, "tcp", ":0"))
	expectCaptured(t, p, Out, w.pods["p1"].ns, dst)
	p.stop()
	check(t, r.Close())
	check(t, CleanUp(cfg))
	if diff := cmp.Diff(before, state(t, w.pods["p1"].ns)); diff != "" {
		t.Error(diff)
	}
}
