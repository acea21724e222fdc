package limit

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/mesh"
)

func TestBudgetIsNeverExceeded(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	for range 100 {
		policy := &mesh.Retry{Ratio: rnd.Float64(), Floor: float64(rnd.IntN(20))}
		b := NewBudget(policy, start)
		const seconds = 60
		var requests, retries [seconds]float64
		rate := 1 + rnd.IntN(200)
		for s := range seconds {
			if rnd.IntN(10) == 0 {
				rate = 1 + rnd.IntN(200)
			}
			for i := range rate {
				now := start.Add(time.Duration(s)*time.Second + time.Duration(i)*time.Second/time.Duration(rate))
				b.Request(now)
				requests[s]++
				for range rnd.IntN(4) { // every endpoint fails
					if b.Retry(now) {
						retries[s]++
					}
				}
			}
			asked, sent := 0.0, 0.0
			first := max(s-window+1, 0)
			for k := first; k <= s; k++ {
				asked, sent = asked+requests[k], sent+retries[k]
			}
			// The floor is a rate, and may have one burst: a second's worth of it.
			if most := policy.Ratio*asked + policy.Floor*float64(s-first+2); sent > most {
				t.Fatalf("%+v, second %d: %v retries of %v requests, at most %v", policy, s, sent, asked, most)
			}
		}
	}
}

func TestBudgetIsThere(t *testing.T) {
	b := NewBudget(&mesh.Retry{Ratio: 0.2}, start)
	if b.Retry(start) {
		t.Error("a retry without a request, or a floor")
	}
	for range 100 {
		b.Request(start)
	}
	count := func(now time.Time) (n int) {
		for range 100 {
			if b.Retry(now) {
				n++
			}
		}
		return n
	}
	if n := count(start.Add(9 * time.Second)); n != 20 {
		t.Errorf("%d retries of 100 requests in the same ten seconds, not 20", n)
	}
	if n := count(start.Add(10 * time.Second)); n != 0 {
		t.Errorf("%d retries of requests that are longer ago", n)
	}
	b = NewBudget(&mesh.Retry{Floor: 10}, start)
	for s := range 5 {
		if n := count(start.Add(time.Duration(s) * time.Second)); n != 10 {
			t.Errorf("second %d: %d retries by a floor of 10", s, n)
		}
	}
	b = NewBudget(&mesh.Retry{Floor: 0.5}, start)
	if n := count(start) + count(start.Add(time.Second)) + count(start.Add(2*time.Second)); n != 2 {
		t.Errorf("%d retries in two seconds by a floor of one in two, not 2", n)
	}
}

func TestBudgetAtOnce(t *testing.T) {
	b := NewBudget(&mesh.Retry{Ratio: 0.1}, start)
	var sent atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 1000 {
				b.Request(start)
				if b.Retry(start) {
					sent.Add(1)
				}
			}
		})
	}
	all.Wait()
	if n := sent.Load(); n > 800 || n == 0 {
		t.Errorf("%d retries of 8000 requests by a tenth", n)
	}
}
