package redirect

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestVerdicts: every decision has a counter that moves when it is taken, and every counter a decision.
func TestVerdicts(t *testing.T) {
	w := newWorld(t)
	cfg := w.config()
	cfg.Probe.NodeAddrs = []netip.Addr{gateway4}
	r := w.open(cfg)
	p1, p3 := w.pods["p1"], w.pods["p3"]
	port1, port3 := w.serve(p1.ns, "tcp", ":0"), w.serve(p3.ns, "tcp", ":0")
	desired := w.pod("p1")
	desired.ProbePorts = []uint16{port1}
	must[Change](t)(r.Set([]Pod{desired}))
	newProxy(t, r, "p1")
	out, in := netip.AddrPortFrom(p3.v4, port3), netip.AddrPortFrom(p1.v4, port1)
	in6 := netip.AddrPortFrom(p1.v6, port1)
	slots := r.objects.maps.FlListeners
	refill := func() {
		check(t, r.Suspend())
		check(t, r.Resume())
	}

	for _, c := range []struct {
		verdicts []string
		do       func() error
		errno    error
	}{
		{verdicts: []string{"out_captured", "syn_out", "out_tagged"}, do: func() error { return second(ask(p1.ns, out, nil)) }},
		{verdicts: []string{"syn_in", "syn_lo_local", "out_tagged"}, do: func() error { return second(ask(p3.ns, in, nil)) }},
		{verdicts: []string{"out_local", "syn_self"}, do: func() error { return second(ask(p1.ns, in, nil)) }},
		{verdicts: []string{"syn_node_probe"}, do: func() error { return second(ask(w.node, in, nil)) }},
		{verdicts: []string{"syn_foreign"}, do: func() error {
			extra := netip.MustParseAddr("10.99.3.3")
			err := p1.ns.Do(func() error { return joinUp("eth0", extra) })
			err = errors.Join(err, w.node.Do(func() error { return addRoute("vp1", host(extra), nil, gateway4) }))
			return errors.Join(err, second(ask(p3.ns, netip.AddrPortFrom(extra, port1), nil)))
		}},
		{verdicts: []string{"out_refused"}, errno: unix.ECONNREFUSED, do: func() error {
			defer refill()
			check(t, r.Suspend())
			return second(ask(p1.ns, out, nil))
		}},
		{verdicts: []string{"syn_no_listener"}, errno: unix.ECONNREFUSED, do: func() error {
			defer refill()
			check(t, slots.Delete(slotKey(p1.ns.Cookie(), redirectFlSlotFL_SLOT_IN4)))
			return second(ask(p3.ns, in, nil))
		}},
		{verdicts: []string{"syn_assign_failed"}, errno: unix.ECONNREFUSED, do: func() error {
			defer refill()
			for _, l := range r.pods[p1.ns.Cookie()].listeners {
				if l.Direction == In && l.Family == 4 { // which cannot take IPv6
					check(t, slots.Put(slotKey(p1.ns.Cookie(), redirectFlSlotFL_SLOT_IN6), uint64(l.FD)))
				}
			}
			return second(ask(p3.ns, in6, nil))
		}},
	} {
		t.Run(strings.Join(c.verdicts, "+"), func(t *testing.T) {
			before := must[map[string]uint64](t)(r.Verdicts())
			if err := c.do(); !errors.Is(err, c.errno) {
				t.Errorf("%v, want %v", err, c.errno)
			}
			m := moved(t, r, before)
			for _, v := range c.verdicts {
				if m[v] == 0 {
					t.Errorf("%s did not move: %v", v, m)
				}
			}
			if len(m) != len(c.verdicts) {
				t.Errorf("moved: %v", m)
			}
		})
	}

	t.Run("out_leaving", func(t *testing.T) {
		must[Change](t)(r.Set(nil))
		before := must[map[string]uint64](t)(r.Verdicts())
		check(t, r.leave(p1.ns.Cookie(), nil, &leaver{})) // once more, as if something were open
		must[string](t)(ask(p1.ns, out, nil))
		if m := moved(t, r, before); m["out_leaving"] != 1 || len(m) != 1 {
			t.Errorf("moved: %v", m)
		}
		check(t, r.finish(p1.ns.Cookie(), &leaver{}))
	})

	// those of the other tests: TestNoWayOut, TestGuard, TestProbesByCgroup
	elsewhere := []string{"out_forged", "out_unbound", "out_denied", "probe_seen", "syn_probe", "guard_passed", "guard_dropped", "guard_malformed"}
	for name, n := range must[map[string]uint64](t)(r.Verdicts()) {
		if (n == 0) != slices.Contains(elsewhere, name) {
			t.Errorf("%s: %d", name, n)
		}
	}
}

func TestWaitsInTheQueueWhileTheProxyIsAway(t *testing.T) {
	w, r, p := captured(t)
	p1, p3 := w.pods["p1"], w.pods["p3"]
	p.stop() // the keeper still has the listeners
	dst := netip.AddrPortFrom(p3.v4, w.serve(p3.ns, "tcp", ":0"))
	c, err := dial(p1.ns, dst, nil)
	check(t, err)
	defer c.Close()
	next := newProxy(t, r, "p1")
	expectWelcome(t, c)
	eventually(t, time.Second, "the next proxy has it", func() bool { return len(next.took(Out, dst)) == 1 })
}
