package redirect

import (
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

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

func TestDrainDeadline(t *testing.T) {
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

	must[Change](t)(r.Set(nil))
	eventually(t, 5*time.Second, "the drain ends", func() bool {
		must[[]string](t)(r.Sweep())
		return cmp.Equal(before, state(t, p1.ns))
	})
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
