package balance

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/mesh"
)

// TestBreakerAgainstModel gives random outcomes to one endpoint and to a model of what the breaker promises.
func TestBreakerAgainstModel(t *testing.T) {
	for seed := range uint64(200) {
		dice := rand.New(rand.NewPCG(seed, 1))
		w := newWorld("")
		p := &mesh.Breaker{Consecutive: 1 + dice.IntN(5), Min: time.Second, Max: 8 * time.Second}
		w.SetPolicy(Policy{Breaker: p})
		w.Set(ready(1))
		row, wait, trips := 0, time.Duration(0), uint64(0)
		var until time.Time // zero is closed
		for step := range 300 {
			w.now = w.now.Add(time.Duration(dice.IntN(600)) * time.Millisecond)
			w.SetPolicy(Policy{Breaker: p}) // again: no harm
			e, err := w.Pick(Choice{})
			probe := !until.IsZero()
			if probe && w.now.Before(until) {
				if !errors.Is(err, ErrBroken) {
					t.Fatalf("seed %d step %d: picked on probation: %v", seed, step, err)
				}
				continue
			}
			if err != nil {
				t.Fatalf("seed %d step %d: %v", seed, step, err)
			}
			if probe {
				if _, err := w.Pick(Choice{}); !errors.Is(err, ErrBroken) || e.State() != Probing {
					t.Fatalf("seed %d step %d: a second probe: %v", seed, step, err)
				}
			}
			o := Outcome(dice.IntN(5))
			e.Start()
			e.Report(time.Millisecond, o)
			switch {
			case !o.breaks():
				row, wait, until = 0, 0, time.Time{}
			case probe:
				wait = min(2*wait, p.Max)
				until = w.now.Add(wait)
			default:
				if row++; row == p.Consecutive {
					trips++
					wait = p.Min
					until = w.now.Add(wait)
				}
			}
			if (e.State() == Closed) != until.IsZero() || e.Trips() != trips {
				t.Fatalf("seed %d step %d: %v with %d trips, model %v with %d", seed, step, e.State(), e.Trips(), until, trips)
			}
		}
	}
}

func TestBreakerSuccessRate(t *testing.T) {
	w := newWorld("")
	w.SetPolicy(Policy{Breaker: &mesh.Breaker{SuccessRate: 0.8, Requests: 10, Window: 10 * time.Second}})
	w.Set(ready(1))
	e := w.Endpoints()[0]
	give := func(o Outcome) {
		e.Start()
		e.Report(time.Millisecond, o)
	}
	for range 9 {
		give(Failed)
	}
	if e.State() != Closed {
		t.Fatal("open before there were enough requests")
	}
	w.now = w.now.Add(11 * time.Second) // what was is forgotten
	for range 8 {
		give(Succeeded)
	}
	give(Failed)
	give(Failed)
	if e.State() != Closed {
		t.Fatal("open at the rate that is allowed")
	}
	give(Failed)
	if e.State() != Open {
		t.Fatal("closed below the rate")
	}
	w.SetPolicy(Policy{})
	if e.State() != Closed {
		t.Error("open without a policy")
	}
}

func TestStragglersDecideNothing(t *testing.T) {
	w := newWorld("")
	w.SetPolicy(Policy{Breaker: &mesh.Breaker{Consecutive: 1, Jitter: 0.5}})
	w.Set(ready(1))
	e, _ := w.Pick(Choice{})
	e.Start()
	e.Start()
	e.Report(0, Failed)
	w.now = w.now.Add(2 * time.Second)
	if looked, err := w.Pick(Choice{Peek: true}); err != nil || looked.State() != Open {
		t.Fatal("a look took the probe's place", err)
	}
	probe, err := w.Pick(Choice{})
	if err != nil {
		t.Fatal(err)
	}
	e.Report(0, Succeeded) // sent before it opened
	if e.State() != Probing {
		t.Fatalf("%v after an old request's success", e.State())
	}
	// A probe that nobody hears of is given up, and another takes its place.
	w.now = w.now.Add(2 * time.Second)
	if probe, err = w.Pick(Choice{}); err != nil {
		t.Fatal(err)
	}
	probe.Start()
	w.Set(ready(2)) // the state survives
	probe.Report(0, Succeeded)
	if s := w.Endpoints()[0].State(); s != Closed {
		t.Errorf("%v after the probe's success", s)
	}
}

func TestLimitIsOverloaded(t *testing.T) {
	w := newWorld("")
	w.SetPolicy(Policy{Breaker: &mesh.Breaker{Connections: 2, Pending: 1}})
	w.Set(ready(2))
	for range 6 {
		e, err := w.Pick(Choice{})
		if err != nil {
			t.Fatal(err)
		}
		e.Start()
	}
	if _, err := w.Pick(Choice{}); !errors.Is(err, ErrOverloaded) {
		t.Fatalf("error %v", err)
	}
	w.Endpoints()[1].Drop()
	if e, err := w.Pick(Choice{}); err != nil || e.Addr != addr(2) {
		t.Fatal(e, err)
	}
}

// hang is the p99 of requests of which one in five endpoints answers none; each is given up after a second.
func hang(t *testing.T, p Policy) (p99 time.Duration) {
	w := newWorld("")
	w.SetPolicy(p)
	w.Set(ready(5))
	type flight struct {
		e    *Endpoint
		ends time.Time
	}
	var air []flight
	var took []time.Duration
	for range 20_000 {
		w.now = w.now.Add(2 * time.Millisecond)
		air = slices.DeleteFunc(air, func(f flight) bool {
			switch {
			case f.ends.After(w.now):
				return false
			case f.e.Addr == addr(3):
				f.e.Report(time.Second, TimedOut)
			default:
				f.e.Report(10*time.Millisecond, Succeeded)
			}
			return true
		})
		e, err := w.Pick(Choice{})
		if err != nil {
			t.Fatal(err)
		}
		d := 10 * time.Millisecond
		if e.Addr == addr(3) {
			d = time.Second
		}
		e.Start()
		took = append(took, d)
		air = append(air, flight{e, w.now.Add(d)})
	}
	slices.Sort(took)
	return took[len(took)*99/100]
}

func TestBreakerSavesTheTail(t *testing.T) {
	b := &mesh.Breaker{Consecutive: 7, Min: time.Second, Max: time.Minute, Jitter: 0.5}
	for _, a := range []mesh.Algorithm{mesh.RoundRobin, mesh.LeastRequest, mesh.PeakEWMA} {
		before := hang(t, Policy{Balance: &mesh.Balance{Algorithm: a}})
		after := hang(t, Policy{Balance: &mesh.Balance{Algorithm: a}, Breaker: b})
		t.Logf("algorithm %d, one of five hangs: p99 %v without, %v with a breaker", a, before, after)
		if after > 10*time.Millisecond || a == mesh.RoundRobin && before < time.Second {
			t.Errorf("algorithm %d: p99 %v without, %v with a breaker", a, before, after)
		}
	}
}

func TestPickAllocatesNothing(t *testing.T) {
	for a := mesh.PeakEWMA; a <= mesh.ConsistentHash; a++ {
		w := newWorld("")
		w.SetPolicy(Policy{Balance: &mesh.Balance{Algorithm: a, SlowStart: time.Second}, Breaker: &mesh.Breaker{Consecutive: 3}})
		w.Set(ready(20))
		ch := Choice{Client: netip.MustParseAddr("10.9.9.9"), Exclude: []netip.AddrPort{addr(1), addr(2)}}
		if n := testing.AllocsPerRun(500, func() {
			e, err := w.Pick(ch)
			if err != nil {
				t.Fatal(err)
			}
			e.Start()
			e.Report(time.Millisecond, Succeeded)
		}); n != 0 {
			t.Errorf("algorithm %d: %v allocations", a, n)
		}
	}
}
