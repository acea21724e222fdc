package traffic

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"fairlead.io/fairlead/internal/fleet"
)

// Window is what passed between two moments, by pairs.
type Window struct {
	Pairs   map[Pair]*Counts
	Elapsed time.Duration // between the two; 0 if there was one, and what passed is everything since the proxies' start
	// Missed says which proxies are not in it, and why.
	Missed []string
}

// ErrNobody is returned by Watch if no proxy has answered.
var ErrNobody = errors.New("no proxy has answered")

// Watch scrapes the proxies of the pods, waits, and scrapes them again. With no time to wait it scrapes once.
func Watch(ctx context.Context, f *fleet.Fleet, pods []corev1.Pod, length time.Duration) (*Window, error) {
	if len(pods) == 0 {
		return nil, fmt.Errorf("%w: there is no pod of the DaemonSet %s", ErrNobody, fleet.NodeName)
	}
	var before []fleet.Told[fleet.Metrics]
	if length > 0 {
		before = fleet.Scrape(ctx, f, pods, fleet.ProxyName)
		if err := f.Clock.Wait(ctx, length); err != nil {
			return nil, err
		}
	}
	return between(before, fleet.Scrape(ctx, f, pods, fleet.ProxyName))
}

// between takes the two scrapes of the same proxies apart; before may be nil.
func between(before, after []fleet.Told[fleet.Metrics]) (*Window, error) {
	w := &Window{Pairs: map[Pair]*Counts{}}
	var last error
	for i, now := range after {
		if now.Err == nil && before != nil {
			now.Err = before[i].Err
		}
		if now.Err != nil {
			last = now.Err
			w.Missed = append(w.Missed, fmt.Sprintf("node %s: %v", now.Node(), now.Err))
			continue
		}
		counts := read(now.What)
		if before != nil {
			subtract(counts, read(before[i].What))
			w.Elapsed = max(w.Elapsed, now.At.Sub(before[i].At))
		}
		w.add(counts)
	}
	if len(w.Missed) == len(after) {
		return nil, fmt.Errorf("%w: %w", ErrNobody, last)
	}
	return w, nil
}

func subtract(now, before map[Pair]*Counts) {
	for p, c := range now {
		if then := before[p]; then != nil {
			now[p] = c.Since(then)
		}
	}
}

func (w *Window) add(counts map[Pair]*Counts) {
	for p, c := range counts {
		if w.Pairs[p] == nil {
			w.Pairs[p] = &Counts{}
		}
		w.Pairs[p].Add(c)
	}
}

// Sum adds up the pairs that are wanted.
func (w *Window) Sum(wanted func(Pair) bool) *Counts {
	sum := &Counts{Elapsed: w.Elapsed}
	for p, c := range w.Pairs {
		if wanted(p) {
			sum.Add(c)
		}
	}
	return sum
}

// Names are what get finds in the pairs, each once, in the order of compare.
func Names[K comparable](w *Window, get func(Pair) (K, bool), compare func(a, b K) int) []K {
	seen := map[K]bool{}
	for p := range w.Pairs {
		if k, ok := get(p); ok {
			seen[k] = true
		}
	}
	return slices.SortedFunc(maps.Keys(seen), compare)
}
