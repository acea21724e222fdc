package redirect

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// captured is a world whose pods p1 and p2 are enrolled and served; p3 is not.
func captured(t *testing.T) (*world, *Redirect, *proxy) {
	t.Helper()
	w := newWorld(t)
	r := w.open(w.config())
	change := must[Change](t)(r.Set([]Pod{w.pod("p1"), w.pod("p2")}))
	if len(change.Enrolled) != 2 {
		t.Fatalf("enrolled: %v", change)
	}
	return w, r, newProxy(t, r, "p1", "p2")
}

func TestCapture(t *testing.T) {
	w, _, proxy := captured(t)
	p1, p2, p3 := w.pods["p1"], w.pods["p2"], w.pods["p3"]
	port := func(name string, network, addr string) uint16 { return w.serve(w.pods[name].ns, network, addr) }
	p1Any, p2Any, p3Any := port("p1", "tcp", ":0"), port("p2", "tcp", ":0"), port("p3", "tcp", ":0")
	p2v4, p2v6 := port("p2", "tcp4", p2.v4.String()+":0"), port("p2", "tcp6", "["+p2.v6.String()+"]:0")
	p2Lo := port("p2", "tcp4", "127.0.0.1:0")
	at := netip.AddrPortFrom

	for _, c := range []struct {
		name    string
		from    *testPod
		to      netip.AddrPort
		out, in bool
		peer    netip.Addr // whom the app sees
		fails   bool
	}{
		{name: "out v4", from: p1, to: at(p3.v4, p3Any), out: true, peer: p1.v4},
		{name: "out v6", from: p1, to: at(p3.v6, p3Any), out: true, peer: p1.v6},
		{name: "in v4", from: p3, to: at(p2.v4, p2Any), in: true, peer: p3.v4},
		{name: "in v6", from: p3, to: at(p2.v6, p2Any), in: true, peer: p3.v6},
		{name: "out and in v4", from: p1, to: at(p2.v4, p2Any), out: true, in: true, peer: p1.v4},
		{name: "out and in v6", from: p1, to: at(p2.v6, p2Any), out: true, in: true, peer: p1.v6},
		{name: "in to an app on the pod's v4", from: p3, to: at(p2.v4, p2v4), in: true, peer: p3.v4},
		{name: "in to an app on the pod's v6", from: p3, to: at(p2.v6, p2v6), in: true, peer: p3.v6},
		{name: "in to an app on loopback only", from: p3, to: at(p2.v4, p2Lo), in: true, fails: true},
		{name: "own v4", from: p1, to: at(p1.v4, p1Any), peer: p1.v4},
		{name: "own v6", from: p1, to: at(p1.v6, p1Any), peer: p1.v6},
		{name: "loopback v4", from: p2, to: at(netip.MustParseAddr("127.0.0.1"), p2Lo), peer: netip.MustParseAddr("127.0.0.1")},
		{name: "loopback v6", from: p1, to: at(netip.IPv6Loopback(), p1Any), peer: netip.IPv6Loopback()},
		{name: "not enrolled", from: p3, to: at(p3.v4, p3Any), peer: p3.v4},
		{name: "closed port out v4", from: p1, to: at(p3.v4, 9), out: true, fails: true},
		{name: "closed port out v6", from: p1, to: at(p3.v6, 9), out: true, fails: true},
		{name: "closed port in v4", from: p3, to: at(p2.v4, 9), in: true, fails: true},
		{name: "closed port in v6", from: p3, to: at(p2.v6, 9), in: true, fails: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			start := time.Now()
			line, err := ask(c.from.ns, c.to, nil)
			if c.fails != (err != nil) {
				t.Fatalf("said %q, %v", line, err)
			}
			if c.fails && (errors.Is(err, unix.ETIMEDOUT) || time.Since(start) > 2*time.Second) {
				t.Errorf("not reset at once: %v after %v", err, time.Since(start))
			}
			if !c.fails {
				_, peer, _ := strings.Cut(line, "peer=")
				if got := addrPort(must[*net.TCPAddr](t)(net.ResolveTCPAddr("tcp", peer))).Addr(); got != c.peer {
					t.Errorf("the app sees %v, want %v", got, c.peer)
				}
			}
			if got := len(proxy.took(Out, c.to)); (got == 1) != c.out || got > 1 {
				t.Errorf("captured out %d times", got)
			}
			if got := len(proxy.took(In, c.to)); (got == 1) != c.in || got > 1 {
				t.Errorf("captured in %d times", got)
			}
		})
	}
}
