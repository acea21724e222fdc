package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// garbage is what Go's runtime says of a mesh's proxies since they began, or between two moments; all sums are of both.
type garbage struct {
	bytes, objects float64 // allocated on the heap
	collections    float64
	paused         float64 // seconds in which nothing else ran
	longest        float64 // the longest of the last 256 pauses, of the proxy where it was longer
	collecting     float64 // seconds of processor time that the collector took, as the runtime estimates
	busy           float64 // seconds in which the runtime did anything, by the same estimate
}

// The names of the proxies' metrics; the last three are written anew by the runtime whenever a collection ends.
const (
	goBytes       = "go_memstats_alloc_bytes_total"
	goObjects     = "go_memstats_mallocs_total"
	goCollections = "go_gc_duration_seconds_count"
	goPaused      = "go_gc_duration_seconds_sum"
	goLongest     = `go_gc_duration_seconds{quantile="1"}`
	goCollecting  = "go_cpu_classes_gc_total_cpu_seconds_total"
	goAll         = "go_cpu_classes_total_cpu_seconds_total"
	goIdle        = "go_cpu_classes_idle_cpu_seconds_total"
)

// parseGarbage reads the page of one proxy.
func parseGarbage(page string) (garbage, error) {
	values := map[string]float64{}
	for line := range strings.Lines(page) {
		name, number, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok || !strings.HasPrefix(name, "go_") {
			continue
		}
		v, err := strconv.ParseFloat(number, 64)
		if err != nil {
			return garbage{}, fmt.Errorf("parse %s: %w", name, err)
		}
		values[name] = v
	}
	for _, name := range []string{goBytes, goObjects, goCollections, goPaused, goLongest, goCollecting, goAll, goIdle} {
		if _, ok := values[name]; !ok {
			return garbage{}, fmt.Errorf("the proxy has no metric %s", name)
		}
	}
	return garbage{bytes: values[goBytes], objects: values[goObjects], collections: values[goCollections], paused: values[goPaused],
		longest: values[goLongest], collecting: values[goCollecting], busy: values[goAll] - values[goIdle]}, nil
}

func (g garbage) plus(o garbage) garbage {
	return garbage{g.bytes + o.bytes, g.objects + o.objects, g.collections + o.collections, g.paused + o.paused,
		max(g.longest, o.longest), g.collecting + o.collecting, g.busy + o.busy}
}

// minus is what came since o. The longest pause stays: it cannot be told when it was.
func (g garbage) minus(o garbage) garbage {
	return garbage{g.bytes - o.bytes, g.objects - o.objects, g.collections - o.collections, g.paused - o.paused,
		g.longest, g.collecting - o.collecting, g.busy - o.busy}
}

// share is the collector's part of what the proxies did. There is none as long as nothing was collected.
func (g garbage) share() float64 {
	if g.busy <= 0 {
		return 0
	}
	return g.collecting / g.busy
}

// pause is how long one was on average.
func (g garbage) pause() time.Duration {
	if g.collections == 0 {
		return 0
	}
	return time.Duration(g.paused / g.collections * float64(time.Second))
}

// garbageNow is that of all proxies of the mesh.
func (s *stage) garbageNow(ctx context.Context) (garbage, error) {
	var all garbage
	for _, n := range s.mesh.Nodes {
		page, err := n.Admin(ctx, "/metrics")
		if err != nil {
			return all, err
		}
		g, err := parseGarbage(string(page))
		if err != nil {
			return all, fmt.Errorf("%s: %w", n.Name, err)
		}
		all = all.plus(g)
	}
	return all, nil
}

// littering begins to look at what a contender's proxies throw away; what it returns says what it was. Of a contender that is not the
// mesh nothing can be said. A look allocates too: so there is one more before, and what that took is taken off.
func (s *stage) littering(ctx context.Context, c contender) (func() (garbage, error), error) {
	if !c.mesh {
		return func() (garbage, error) { return garbage{}, nil }, nil
	}
	first, err := s.garbageNow(ctx)
	if err != nil {
		return nil, err
	}
	before, err := s.garbageNow(ctx)
	if err != nil {
		return nil, err
	}
	return func() (garbage, error) {
		after, err := s.garbageNow(ctx)
		if err != nil {
			return after, err
		}
		g, look := after.minus(before), before.minus(first)
		g.bytes, g.objects = max(0, g.bytes-look.bytes), max(0, g.objects-look.objects)
		return g, nil
	}, nil
}
