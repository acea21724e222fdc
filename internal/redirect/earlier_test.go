package redirect

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestEarlier counts what was open before the capture, at both ends, and nothing else.
func TestEarlier(t *testing.T) {
	w := newWorld(t)
	p1, p2, p3 := w.pods["p1"], w.pods["p2"], w.pods["p3"]
	port1, port3, lo := w.serve(p1.ns, "tcp", ":0"), w.serve(p3.ns, "tcp", ":0"), w.serve(p1.ns, "tcp4", "127.0.0.1:0")
	at := netip.AddrPortFrom
	open := func(from *NetNS, to netip.AddrPort) net.Conn {
		t.Helper()
		c := must[net.Conn](t)(dial(from, to, nil))
		t.Cleanup(func() { c.Close() })
		expectWelcome(t, c)
		return c
	}
	counted := []net.Conn{
		open(p1.ns, at(p3.v4, port3)), open(p1.ns, at(p3.v6, port3)), open(p3.ns, at(p1.v4, port1)),
		open(p2.ns, at(p1.v4, port1)), // whose client is never captured
	}
	open(p1.ns, at(p1.v4, port1))
	open(p1.ns, at(p1.v6, port1))
	open(p1.ns, at(netip.MustParseAddr("127.0.0.1"), lo))
	open(w.node, at(p1.v4, port1)) // as a probe of the kubelet
	open(w.node, at(p1.v6, port1))

	cfg := w.config()
	cfg.Probe = ProbeConfig{HostNetNS: w.node, FollowAddrs: true}
	r := w.open(cfg)
	must[Change](t)(r.Set([]Pod{w.pod("p1"), w.pod("p3")}))
	expect := func(when string, want map[string]Earlier) {
		t.Helper()
		if diff := cmp.Diff(want, must[map[string]Earlier](t)(r.Earlier(t.Context(), []string{"p1", "p2", "p3"}))); diff != "" {
			t.Errorf("%s: %s", when, diff)
		}
	}
	before := map[string]Earlier{"p1": {N: 4}, "p3": {N: 3}}
	expect("at the capture", before)

	newProxy(t, r, "p1", "p3")
	for _, c := range []net.Conn{
		open(p1.ns, at(p3.v4, port3)), open(p1.ns, at(p3.v6, port3)), open(p3.ns, at(p1.v6, port1)), open(p2.ns, at(p1.v4, port1)),
		open(p1.ns, at(p1.v4, port1)), open(w.node, at(p1.v4, port1)),
	} {
		expectEcho(t, c, "new")
		expect("with a new connection", before)
	}
	for _, c := range counted {
		expectEcho(t, c, "as it was")
		c.Close()
	}
	eventually(t, 5*time.Second, "the last has ended", func() bool {
		return cmp.Equal(map[string]Earlier{"p1": {}, "p3": {}}, must[map[string]Earlier](t)(r.Earlier(t.Context(), []string{"p1", "p3"})))
	})
}

// TestEarlierIsBounded stops at a number of connections, and says so.
func TestEarlierIsBounded(t *testing.T) {
	w := newWorld(t)
	p1, p3 := w.pods["p1"], w.pods["p3"]
	to := netip.AddrPortFrom(p3.v4, w.serve(p3.ns, "tcp", ":0"))
	check(t, p1.ns.Do(func() error {
		for range earlierCounted + 1 {
			c, err := net.DialTimeout("tcp", to.String(), 5*time.Second)
			if err != nil {
				return err
			}
			t.Cleanup(func() { c.Close() })
		}
		return nil
	}))
	r := w.open(w.config())
	must[Change](t)(r.Set([]Pod{w.pod("p1")}))
	began := time.Now()
	got := must[map[string]Earlier](t)(r.Earlier(t.Context(), []string{"p1"}))
	t.Logf("counted in %v", time.Since(began))
	if want := (Earlier{N: earlierCounted, More: true}); got["p1"] != want {
		t.Errorf("%+v, want %+v", got["p1"], want)
	}
	l := earlierLook{own: []netip.Addr{p1.v4}, until: time.Now().Add(earlierTime), looked: earlierLooked}
	check(t, p1.ns.Do(l.look))
	if want := (Earlier{More: true}); l.found != want {
		t.Errorf("with too many sockets: %+v, want %+v", l.found, want)
	}
}
