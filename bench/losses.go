package main

import (
	"fmt"
	"slices"
	"strings"
)

// loss is something that costs more with Fairlead than with another, so many times.
type loss struct {
	what, other string
	times       float64
}

// costly are the figures of which less is better, and that can be set in proportion.
func costly(name string) bool {
	return slices.ContainsFunc([]string{"bulk_cpu", "idle_conn_kib", "p50_", "p99_", "p999_", "neighbour_"}, func(p string) bool { return strings.HasPrefix(name, p) })
}

// losses are all, the worst first. Latencies are compared as what is added, and with nobody in between they are not compared.
func (r *report) losses() []loss {
	var all []loss
	for _, w := range r.rows {
		if ratio, ok := r.ratio(w.kind, w.load, w.contender); ok && ratio > 1 && w.contender != fairlead {
			all = append(all, loss{"CPU, " + w.kind + "/" + w.load, w.contender, ratio})
		}
		if ours, ok := r.resident(w.kind, w.load); ok && w.contender != fairlead && ours > w.mib() {
			all = append(all, loss{"RSS, " + w.kind + "/" + w.load, w.contender, ours / w.mib()})
		}
	}
	for _, f := range r.figures {
		ours, ok := r.figure(f.name, fairlead)
		isWhole := (strings.HasPrefix(f.name, "p50_") || strings.HasPrefix(f.name, "p99")) && !strings.Contains(f.name, "_added_")
		if !ok || f.contender == fairlead || f.contender == direct || !costly(f.name) || isWhole || f.median() <= 0 || ours <= f.median() {
			continue
		}
		all = append(all, loss{f.name, f.contender, ours / f.median()})
	}
	slices.SortStableFunc(all, func(a, b loss) int {
		if a.times > b.times {
			return -1
		}
		return 1
	})
	return all
}

// lossesBlock says where Fairlead loses.
func (r *report) lossesBlock() string {
	if len(r.rows)+len(r.figures) == 0 {
		return ""
	}
	all := r.losses()
	if len(all) == 0 {
		return "In this run Fairlead was nowhere above another.\n"
	}
	var t strings.Builder
	t.WriteString("Everything in which the median of Fairlead is above that of another, whatever the spread between rounds:\n\n| what | than | times |\n|---|---|---|\n")
	for _, l := range all {
		fmt.Fprintf(&t, "| %s | %s | %.2f |\n", l.what, l.other, l.times)
	}
	return t.String()
}
