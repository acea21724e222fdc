package redirect

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"fairlead.io/fairlead/internal/testnet/rewrite"
)

// TestOthers names programs of others at the same cgroup and above it, and none of our own, whichever instance's.
func TestOthers(t *testing.T) {
	w := newWorld(t)
	outer := newCgroup(t, "inner")
	cfg := w.config()
	cfg.Cgroup = outer + "/inner"
	r := w.open(cfg)
	neighbour := w.config()
	neighbour.Instance, neighbour.Cgroup = "b", cfg.Cgroup
	w.open(neighbour)
	want := func(when string, names ...string) {
		t.Helper()
		if got, err := r.Others(); err != nil || !slices.Equal(got, names) {
			t.Errorf("%s: %q, %v, want %q", when, got, err, names)
		}
	}
	want("alone")
	for _, at := range []string{cfg.Cgroup, outer} {
		other := must[*rewrite.Rewriter](t)(rewrite.Attach(at))
		want("with another at "+at, rewrite.Name)
		check(t, other.Close())
		want("alone again")
	}
}

// TestRewrittenBeforeOrAfter has another program put a pod's address in place of a Service's, before our program has seen
// the connect or after it. The proxy sees the pod's address either way, and the pod's own stays its own affair.
func TestRewrittenBeforeOrAfter(t *testing.T) {
	vips := []netip.Addr{netip.MustParseAddr("10.96.0.9"), netip.MustParseAddr("fd96::9")}
	for _, order := range []string{"before", "after"} {
		t.Run(order, func(t *testing.T) {
			w := newWorld(t)
			cgroup := newCgroup(t)
			p1, p3 := w.pods["p1"], w.pods["p3"]
			app, own := w.serve(p3.ns, "tcp", ":0"), w.serve(p1.ns, "tcp", ":0")
			backends := []netip.AddrPort{netip.AddrPortFrom(p3.v4, app), netip.AddrPortFrom(p3.v6, app)}
			self := []netip.AddrPort{netip.AddrPortFrom(p1.v4, own), netip.AddrPortFrom(p1.v6, own)}
			var rules []rewrite.Rule
			for i, vip := range vips {
				rules = append(rules, rewrite.Rule{From: netip.AddrPortFrom(vip, 80), To: backends[i]}, rewrite.Rule{From: netip.AddrPortFrom(vip, 81), To: self[i]})
			}
			attach := func() {
				other := must[*rewrite.Rewriter](t)(rewrite.Attach(cgroup, rules...))
				t.Cleanup(func() { check(t, other.Close()) })
			}
			if order == "before" {
				attach()
			}
			cfg := w.config()
			cfg.Cgroup = cgroup
			r := w.open(cfg)
			if order == "after" {
				attach()
			}
			must[Change](t)(r.Set([]Pod{w.pod("p1")}))
			p := newProxy(t, r, "p1")
			for i, vip := range vips {
				if _, err := childAsk(t, cgroup, p1.ns, netip.AddrPortFrom(vip, 80)); err != nil {
					t.Fatal(err)
				}
				if got := p.took(Out, backends[i]); len(got) != 1 {
					t.Errorf("%v: the proxy was given %v", vip, fmt.Sprint(p.all))
				}
				if _, err := childAsk(t, cgroup, p1.ns, netip.AddrPortFrom(vip, 81)); err != nil {
					t.Errorf("%v, the pod itself: %v", vip, err)
				}
				if got := p.took(Out, self[i]); len(got) != 0 {
					t.Errorf("%v: the pod's connection to itself went to the proxy", vip)
				}
			}
		})
	}
}
