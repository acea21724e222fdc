package balance

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/mesh"
)

// world is a cluster with a clock and dice of its own.
type world struct {
	*Cluster
	now time.Time
}

func newWorld(node string) *world {
	w := &world{now: time.Unix(1e9, 0)}
	dice := rand.New(rand.NewPCG(1, 2))
	w.Cluster = New(Config{Node: node, Now: func() time.Time { return w.now }, Rand: dice.IntN})
	return w
}

func addr(i int) netip.AddrPort { return netip.MustParseAddrPort(fmt.Sprintf("10.0.0.%d:80", i)) }

func ready(n int) (es []Endpoint) {
	for i := range n {
		es = append(es, Endpoint{Addr: addr(i + 1), Ready: true, Serving: true})
	}
	return es
}

// drive sends n requests, one a millisecond, that take as long as latency says, and counts where they went.
func (w *world) drive(t *testing.T, n int, latency func(netip.AddrPort) time.Duration) map[netip.AddrPort]int {
	t.Helper()
	type flight struct {
		e    *Endpoint
		ends time.Time
		took time.Duration
	}
	got := map[netip.AddrPort]int{}
	var air []flight
	for range n {
		w.now = w.now.Add(time.Millisecond)
		keep := air[:0]
		for _, f := range air {
			if f.ends.After(w.now) {
				keep = append(keep, f)
				continue
			}
			f.e.Observe(f.took, nil)
		}
		air = keep
		e, err := w.Pick(Choice{})
		if err != nil {
			t.Fatal(err)
		}
		e.Start()
		d := latency(e.Addr)
		got[e.Addr]++
		air = append(air, flight{e, w.now.Add(d), d})
	}
	return got
}

func TestFairWhenEqual(t *testing.T) {
	w := newWorld("")
	w.Set(ready(4))
	got := w.drive(t, 8000, func(netip.AddrPort) time.Duration { return 5 * time.Millisecond })
	for i := range 4 {
		if n := got[addr(i+1)]; n < 1600 || n > 2400 {
			t.Errorf("endpoint %d got %d of 8000", i+1, n)
		}
	}
}

func TestSlowGetsMuchLess(t *testing.T) {
	w := newWorld("")
	w.Set(ready(3))
	slow := addr(2)
	got := w.drive(t, 6000, func(a netip.AddrPort) time.Duration {
		if a == slow {
			return 200 * time.Millisecond
		}
		return 5 * time.Millisecond
	})
	if got[slow] > 300 || got[slow] == 0 {
		t.Errorf("slow endpoint got %d of 6000, want few, not none", got[slow])
	}
}

func TestNewOneIsNotFlooded(t *testing.T) {
	w := newWorld("")
	w.Set(ready(3))
	same := func(netip.AddrPort) time.Duration { return 20 * time.Millisecond }
	w.drive(t, 1000, same)
	w.Set(ready(4))
	got := w.drive(t, 400, same)
	if n := got[addr(4)]; n < 50 || n > 180 {
		t.Errorf("new endpoint got %d of its first 400, want about 100", n)
	}
}

func TestStateStaysAcrossSet(t *testing.T) {
	w := newWorld("")
	w.Set(ready(2))
	e, _ := w.Pick(Choice{Exclude: []netip.AddrPort{addr(2)}})
	e.Start()
	w.Set(ready(3))
	again, _ := w.Pick(Choice{Exclude: []netip.AddrPort{addr(2), addr(3)}})
	if again == e {
		t.Fatal("Set kept the Endpoint value itself")
	}
	if again.InFlight() != 1 {
		t.Errorf("in flight %d after Set, want 1", again.InFlight())
	}
	e.Observe(time.Millisecond, nil)
	if again.InFlight() != 0 {
		t.Errorf("in flight %d after Observe on the old value, want 0", again.InFlight())
	}
	// The same address with another account is another server.
	moved := ready(3)
	moved[0].Account = mesh.Account{Namespace: "other", Name: "other"}
	again.Start()
	w.Set(moved)
	e, _ = w.Pick(Choice{Exclude: []netip.AddrPort{addr(2), addr(3)}})
	if e.InFlight() != 0 {
		t.Errorf("another account inherited %d in flight", e.InFlight())
	}
}

func TestFailureCountsAsSlow(t *testing.T) {
	w := newWorld("")
	w.Set(ready(2))
	for _, e := range w.Endpoints() {
		e.Start()
		e.Observe(time.Millisecond, nil)
	}
	bad := w.Endpoints()[0]
	bad.Start()
	bad.Observe(0, errors.New("refused"))
	for range 20 {
		if e, _ := w.Pick(Choice{}); e == bad {
			t.Fatal("picked the endpoint that had just failed")
		}
	}
	// It gets another chance when the failure has faded.
	w.now = w.now.Add(2 * time.Minute)
	tried := false
	for range 50 {
		e, _ := w.Pick(Choice{})
		tried = tried || e == bad
	}
	if !tried {
		t.Error("never tried again")
	}
}

func TestUsable(t *testing.T) {
	terminating := Endpoint{Addr: addr(9), Node: "a", Serving: true}
	local := Endpoint{Addr: addr(1), Node: "a", Ready: true, Serving: true}
	far := Endpoint{Addr: addr(2), Node: "b", Ready: true, Serving: true}
	dead := Endpoint{Addr: addr(3), Node: "a"}
	for _, tc := range []struct {
		name   string
		policy Policy
		in     []Endpoint
		ch     Choice
		want   netip.AddrPort
		err    error
	}{
		{name: "none", err: ErrNone},
		{name: "dead", in: []Endpoint{dead}, err: ErrNone},
		{name: "ready before serving", in: []Endpoint{terminating, far}, want: far.Addr},
		{name: "serving when nothing is ready", in: []Endpoint{terminating, dead}, want: terminating.Addr},
		{name: "local only", policy: Policy{LocalOnly: true}, in: []Endpoint{far, local}, want: local.Addr},
		{name: "local terminating before far", policy: Policy{LocalOnly: true}, in: []Endpoint{far, terminating}, want: terminating.Addr},
		{name: "no local one", policy: Policy{LocalOnly: true}, in: []Endpoint{far}, err: ErrNoneLocal},
		{name: "excluded", in: []Endpoint{far, local}, ch: Choice{Exclude: []netip.AddrPort{far.Addr}}, want: local.Addr},
		{name: "all excluded", in: []Endpoint{far}, ch: Choice{Exclude: []netip.AddrPort{far.Addr}}, err: ErrTried},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld("a")
			w.Set(tc.in)
			w.SetPolicy(tc.policy)
			e, err := w.Pick(tc.ch)
			if !errors.Is(err, tc.err) {
				t.Fatalf("error %v, want %v", err, tc.err)
			}
			if err == nil && e.Addr != tc.want {
				t.Errorf("picked %v, want %v", e.Addr, tc.want)
			}
		})
	}
}

func TestAffinity(t *testing.T) {
	w := newWorld("")
	w.SetPolicy(Policy{Affinity: time.Minute})
	w.Set(ready(8))
	ch := Choice{Client: netip.MustParseAddr("10.9.9.9")}
	first, err := w.Pick(ch)
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		w.now = w.now.Add(30 * time.Second) // each use renews it
		if e, _ := w.Pick(ch); e.Addr != first.Addr {
			t.Fatalf("moved from %v to %v", first.Addr, e.Addr)
		}
	}
	ch.Exclude = []netip.AddrPort{first.Addr}
	second, _ := w.Pick(ch)
	if second.Addr == first.Addr {
		t.Fatal("picked an excluded endpoint")
	}
	ch.Exclude = nil
	if e, _ := w.Pick(ch); e.Addr != second.Addr {
		t.Errorf("did not stay with the endpoint that worked: %v, want %v", e.Addr, second.Addr)
	}
	w.now = w.now.Add(2 * time.Minute)
	seen := map[netip.AddrPort]bool{}
	for range 50 {
		e, _ := w.Pick(ch)
		seen[e.Addr] = true
		w.now = w.now.Add(2 * time.Minute)
	}
	if len(seen) < 2 {
		t.Error("affinity did not end with its time")
	}
}

func TestAffinityIsBounded(t *testing.T) {
	w := newWorld("")
	w.SetPolicy(Policy{Affinity: time.Minute})
	w.Set(ready(2))
	for i := range maxSticky + 100 {
		var b [4]byte
		b[0], b[1], b[2], b[3] = 10, byte(i>>16), byte(i>>8), byte(i)
		if _, err := w.Pick(Choice{Client: netip.AddrFrom4(b)}); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(w.sticky.seat); n > maxSticky {
		t.Errorf("remembers %d clients, limit %d", n, maxSticky)
	}
}
