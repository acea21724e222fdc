package limit

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/mesh"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// within checks that no stretch of time has more of what was let through than its rate and one burst.
func within(t *testing.T, what string, at []time.Duration, r mesh.Rate) {
	t.Helper()
	for i := range at {
		for j := i; j < len(at); j++ {
			if most := r.PerSecond*(at[j]-at[i]).Seconds() + float64(max(r.Burst, 1)); float64(j-i+1) > most+1e-6 {
				t.Fatalf("%s: %d in %v at %v, at most %v", what, j-i+1, at[j]-at[i], r, most)
			}
		}
	}
}

func TestNeverBeyondRateAndBurst(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		r := mesh.Rate{PerSecond: math.Exp(rnd.Float64()*8 - 1), Burst: rnd.IntN(30)}
		l := New(&mesh.Limit{Total: r}, start)
		var at []time.Duration
		now := time.Duration(0)
		for range 400 {
			if rnd.IntN(3) > 0 {
				now += time.Duration(rnd.ExpFloat64() / r.PerSecond * 0.7 * float64(time.Second))
			}
			wait := l.Take("", start.Add(now))
			if wait == 0 {
				at = append(at, now)
				continue
			}
			if rnd.IntN(4) == 0 { // who waits as long as it was told to is let through, and no sooner
				if l.Take("", start.Add(now+wait-1)) == 0 {
					t.Fatal("the wait was too long")
				}
				if now += wait; l.Take("", start.Add(now)) != 0 {
					t.Fatal("the wait was too short")
				}
				at = append(at, now)
			}
		}
		within(t, "total", at, r)
		if len(at) < max(r.Burst, 1) {
			t.Fatalf("%d were let through, fewer than the burst of %v", len(at), r)
		}
	}
}

// More identities than the table has room for, some of them greedy: none gets more than its own.
func TestEachIdentityHasItsRate(t *testing.T) {
	for _, identities := range []int{5, 300, 3 * sets * ways} {
		rnd := rand.New(rand.NewPCG(3, uint64(identities)))
		each, own := mesh.Rate{PerSecond: 2, Burst: 3}, mesh.Rate{PerSecond: 20, Burst: 5}
		l := New(&mesh.Limit{Each: each, Except: map[string]mesh.Rate{"id0": own, "id1": {}}}, start)
		at := map[int][]time.Duration{}
		free := 0
		for now := time.Duration(0); now < 20*time.Second; now += time.Duration(rnd.IntN(int(2 * time.Millisecond))) {
			id := rnd.IntN(identities)
			if rnd.IntN(2) == 0 {
				id = rnd.IntN(5)
			}
			if wait := l.Take(fmt.Sprint("id", id), start.Add(now)); wait == 0 {
				at[id] = append(at[id], now)
			} else if id == 1 {
				free++
			}
		}
		if free > 0 {
			t.Errorf("%d identities: one without a limit was refused %d times", identities, free)
		}
		for id, when := range at {
			switch id {
			case 0:
				within(t, "its own", when, own)
			case 1:
			default:
				within(t, fmt.Sprintf("id%d of %d", id, identities), when, each)
			}
		}
		if identities == 5 {
			for id := 2; id < 5; id++ {
				if n := len(at[id]); n < 40 {
					t.Errorf("id%d, which always asks, got %d of 43", id, n)
				}
			}
		}
	}
}

// One that asks a hundred times as often leaves those alone that keep to their rate.
func TestGreedDoesNotStarveOthers(t *testing.T) {
	l := New(&mesh.Limit{Total: mesh.Rate{PerSecond: 40, Burst: 10}, Each: mesh.Rate{PerSecond: 10, Burst: 2}}, start)
	refused, greedy := 0, 0
	for ms := range 20_000 {
		now := start.Add(time.Duration(ms) * time.Millisecond)
		if l.Take("greedy", now) == 0 {
			greedy++
		}
		if ms%110 == 0 {
			for _, id := range []string{"a", "b"} {
				if l.Take(id, now) != 0 {
					refused++
				}
			}
		}
	}
	if refused > 0 {
		t.Errorf("%d requests refused of clients that kept to their rate", refused)
	}
	if greedy < 195 || greedy > 203 {
		t.Errorf("the greedy one got %d of 20 s at 10 a second", greedy)
	}
}

func TestRefusalCostsNothing(t *testing.T) {
	l := New(&mesh.Limit{Total: mesh.Rate{PerSecond: 1, Burst: 1}, Each: mesh.Rate{PerSecond: 0.1, Burst: 2}}, start)
	if l.Take("a", start) != 0 {
		t.Fatal("the first was refused")
	}
	for range 1000 {
		if l.Take("b", start) == 0 {
			t.Fatal("beyond the total")
		}
	}
	if l.Take("b", start.Add(time.Second)) != 0 || l.Take("b", start.Add(2*time.Second)) != 0 {
		t.Error("what the total had refused was taken from the identity")
	}
}

func TestAtOnce(t *testing.T) {
	l := New(&mesh.Limit{Total: mesh.Rate{PerSecond: 1, Burst: 100}}, start)
	var through atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 100 {
				if l.Take("", start) == 0 {
					through.Add(1)
				}
			}
		})
	}
	all.Wait()
	if through.Load() != 100 {
		t.Errorf("%d let through at once of a burst of 100", through.Load())
	}
}

func TestRenew(t *testing.T) {
	slow := &mesh.Limit{Total: mesh.Rate{PerSecond: 0.001, Burst: 5}}
	l := New(slow, start)
	for range 5 {
		l.Take("", start)
	}
	if l = l.Renew(slow); l.Take("", start) == 0 {
		t.Error("the same limit again gave a new burst")
	}
	l = l.Renew(&mesh.Limit{Total: mesh.Rate{PerSecond: 10, Burst: 1}, Each: mesh.Rate{PerSecond: 100, Burst: 9}})
	if wait := l.Take("a", start); wait != 100*time.Millisecond {
		t.Errorf("the new rate has %v to wait, with what an older one had left", wait)
	}
	if l.Take("a", start.Add(100*time.Millisecond)) != 0 {
		t.Error("the new rate does not count")
	}
}

func TestExtremes(t *testing.T) {
	for _, r := range []mesh.Rate{
		{PerSecond: 1e300, Burst: math.MaxInt}, {PerSecond: 1e-300, Burst: math.MaxInt}, {PerSecond: 1e-300},
		{PerSecond: math.Inf(1), Burst: -1}, {PerSecond: 1, Burst: math.MaxInt},
	} {
		l := New(&mesh.Limit{Total: r, Each: r}, start)
		if wait := l.Take("a", start.Add(-time.Hour)); wait != 0 {
			t.Errorf("%v: the first waits %v", r, wait)
		}
		if wait := l.Take("a", start.Add(200*365*24*time.Hour)); wait < 0 {
			t.Errorf("%v: waits %v", r, wait)
		}
	}
	for _, r := range []mesh.Rate{{}, {PerSecond: -1, Burst: 1}, {PerSecond: math.NaN()}} {
		l := New(&mesh.Limit{Total: r}, start)
		for range 100 {
			if l.Take("", start) != 0 {
				t.Fatalf("%v limits", r)
			}
		}
	}
}

func TestRetryAfter(t *testing.T) {
	for wait, want := range map[time.Duration]string{-1: "1", 0: "1", 1: "1", time.Second: "1", time.Second + 1: "2", time.Minute: "60"} {
		if got := RetryAfter(wait); got != want {
			t.Errorf("%v: %s, not %s", wait, got, want)
		}
	}
}

func TestNoMemory(t *testing.T) {
	r := mesh.Rate{PerSecond: 1000, Burst: 10}
	l := New(&mesh.Limit{Total: r, Each: r, Except: map[string]mesh.Rate{"x": r}}, start)
	b := NewBudget(&mesh.Retry{Ratio: 0.2, Floor: 10}, start)
	ids := make([]string, 4096)
	for i := range ids {
		ids[i] = fmt.Sprint("spiffe://td/ns/", i)
	}
	i := 0
	n := testing.AllocsPerRun(10_000, func() {
		now := start.Add(time.Duration(i) * time.Millisecond)
		l.Take(ids[i%len(ids)], now)
		b.Request(now)
		b.Retry(now)
		i++
	})
	if n != 0 {
		t.Errorf("%v allocations for each request", n)
	}
}
