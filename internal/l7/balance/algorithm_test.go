package balance

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/mesh"
)

func using(a mesh.Algorithm) Policy { return Policy{Balance: &mesh.Balance{Algorithm: a}} }

func mustPick(t *testing.T, w *world, ch Choice) *Endpoint {
	t.Helper()
	e, err := w.Pick(ch)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestRoundRobinIsSmooth(t *testing.T) {
	w := newWorld("")
	w.SetPolicy(using(mesh.RoundRobin))
	w.Set(ready(7))
	var last [7]netip.AddrPort
	for i := range 700 {
		e := mustPick(t, w, Choice{})
		if i >= 7 && last[i%7] != e.Addr {
			t.Fatalf("turn %d: %v, a round before %v", i, e.Addr, last[i%7])
		}
		last[i%7] = e.Addr
	}
}

func TestLeastRequestLevels(t *testing.T) {
	w := newWorld("")
	w.SetPolicy(using(mesh.LeastRequest))
	w.Set(ready(10))
	for range 1000 {
		mustPick(t, w, Choice{}).Start()
	}
	for _, e := range w.Endpoints() {
		if n := e.InFlight(); n < 90 || n > 110 {
			t.Errorf("%v has %d in flight of 1000", e.Addr, n)
		}
	}
}

func TestHashMovesLittle(t *testing.T) {
	const keys = 20_000
	w := newWorld("")
	w.SetPolicy(using(mesh.ConsistentHash))
	where := func() (at []netip.AddrPort, count map[netip.AddrPort]int) {
		count = map[netip.AddrPort]int{}
		for i := range keys {
			e := mustPick(t, w, Choice{Hashed: true, Hash: HashOf(fmt.Sprint("key ", i))})
			at = append(at, e.Addr)
			count[e.Addr]++
		}
		return at, count
	}
	for _, n := range []int{2, 5, 10, 50} {
		w.Set(ready(n))
		before, count := where()
		for a, c := range count {
			if share := float64(c) * float64(n) / keys; share < 0.6 || share > 1.4 {
				t.Errorf("%d endpoints: %v has %.2f of its part", n, a, share)
			}
		}
		w.Set(ready(n + 1))
		after, _ := where()
		moved := 0
		for i := range before {
			if before[i] == after[i] {
				continue
			}
			moved++
			if after[i] != addr(n+1) {
				t.Fatalf("%d endpoints: a key moved between two that stayed", n)
			}
		}
		if limit := 1.4 * keys / float64(n+1); float64(moved) > limit {
			t.Errorf("%d endpoints and one more: %d of %d keys moved, at most %.0f should", n, moved, keys, limit)
		}
	}
}

func TestSlowStartGrows(t *testing.T) {
	for _, a := range []mesh.Algorithm{mesh.PeakEWMA, mesh.LeastRequest, mesh.RoundRobin} {
		w := newWorld("")
		w.SetPolicy(Policy{Balance: &mesh.Balance{Algorithm: a, SlowStart: 10 * time.Second}})
		w.Set(ready(4))
		w.Set(ready(5))
		share := func() float64 {
			n := 0
			for range 10_000 {
				if mustPick(t, w, Choice{}).Addr == addr(5) {
					n++
				}
			}
			return float64(n) * 5 / 10_000
		}
		// Nothing is in flight: who of two equals wins is a matter of the dice alone.
		first := share()
		w.now = w.now.Add(5 * time.Second)
		half := share()
		w.now = w.now.Add(5 * time.Second)
		whole := share()
		t.Logf("algorithm %d: %.2f, %.2f, %.2f of its part", a, first, half, whole)
		if first > 0.25 || half < first || half > 0.8 || whole < 0.8 || whole > 1.2 {
			t.Errorf("algorithm %d: %.2f, %.2f, %.2f of its part", a, first, half, whole)
		}
	}
}

func TestZones(t *testing.T) {
	in := func(zone string, hints ...string) func(*Endpoint) {
		return func(e *Endpoint) { e.Zone, e.Zones = zone, hints }
	}
	notReady := func(e *Endpoint) { e.Zone, e.Ready, e.Serving = "a", false, false }
	prefer := Policy{Zone: "a", Prefer: PreferZone}
	for _, tc := range []struct {
		name   string
		policy Policy
		in     []func(*Endpoint)
		want   []int
	}{
		{"no preference", Policy{Zone: "a"}, []func(*Endpoint){in("a"), in("b")}, []int{1, 2}},
		{"zone", prefer, []func(*Endpoint){in("a"), in("b"), in("a")}, []int{1, 3}},
		{"by policy", Policy{Zone: "a", Balance: &mesh.Balance{Zone: true}}, []func(*Endpoint){in("a"), in("b")}, []int{1}},
		{"hints", Policy{Zone: "a"}, []func(*Endpoint){in("a", "b"), in("b", "a")}, []int{2}},
		{"hints not of all", Policy{Zone: "a"}, []func(*Endpoint){in("a", "b"), in("b")}, []int{1, 2}},
		{"none there", prefer, []func(*Endpoint){in("b"), in("c")}, []int{1, 2}},
		{"too few", prefer, []func(*Endpoint){in("a"), notReady, notReady, in("b")}, []int{1, 4}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld("n")
			w.SetPolicy(tc.policy)
			es := ready(len(tc.in))
			for i, f := range tc.in {
				f(&es[i])
			}
			w.Set(es)
			got := map[netip.AddrPort]bool{}
			for range 200 {
				got[mustPick(t, w, Choice{}).Addr] = true
			}
			for _, i := range tc.want {
				if !got[addr(i)] {
					t.Errorf("%v was never picked", addr(i))
				}
			}
			if len(got) != len(tc.want) {
				t.Errorf("picked %v, want %v", got, tc.want)
			}
		})
	}
}

func TestZoneSpills(t *testing.T) {
	w := newWorld("n")
	w.SetPolicy(Policy{Zone: "a", Prefer: PreferZone, Breaker: &mesh.Breaker{Consecutive: 1}})
	es := ready(4)
	es[0].Zone, es[1].Zone = "a", "a"
	w.Set(es)
	for _, e := range w.Endpoints()[:2] {
		for range 4*busy + 1 {
			e.Start()
		}
	}
	left := 0
	for range 200 {
		if mustPick(t, w, Choice{}).Zone != "a" {
			left++
		}
	}
	if left < 150 {
		t.Errorf("%d of 200 left a zone that is overloaded", left)
	}
	for _, e := range w.Endpoints()[:2] {
		for range 4 * busy {
			e.Drop()
		}
		e.Report(0, Unreachable)
	}
	for range 50 {
		if e := mustPick(t, w, Choice{}); e.Zone == "a" {
			t.Fatal("stayed in a zone that fails")
		}
	}
}

func BenchmarkPick(b *testing.B) {
	for a := mesh.PeakEWMA; a <= mesh.ConsistentHash; a++ {
		for _, n := range []int{2, 10, 1000} {
			b.Run(fmt.Sprintf("algorithm=%d/endpoints=%d", a, n), func(b *testing.B) {
				c := New(Config{})
				c.SetPolicy(using(a))
				es := make([]Endpoint, n)
				for i := range es {
					es[i] = Endpoint{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 80), Ready: true}
				}
				c.Set(es)
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					if _, err := c.Pick(Choice{Hashed: true, Hash: uint64(i) * 0x9e3779b97f4a7c15}); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
