package main

import (
	"bytes"
	"fmt"
)

// litter is the garbage of all samples of a row, and how many requests they served.
func (w row) litter() (all garbage, requests int) {
	for _, s := range w.samples {
		all = all.plus(s.garbage)
		requests += s.requests
	}
	return all, requests
}

var litterTitles = []string{"case", "load", "requests", "allocations/request", "bytes/request", "collections", "GC % of CPU", "mean pause µs", "longest pause µs"}

// litterCells are what Fairlead's proxies throw away, as text: the sums of all rounds.
func (r *report) litterCells() [][]string {
	var all [][]string
	for _, w := range r.rows {
		g, requests := w.litter()
		if w.contender != fairlead || requests == 0 || g.busy == 0 && g.longest == 0 && g.objects == 0 {
			continue
		}
		share, mean := "-", "-" // not known as long as nothing was collected
		if g.collections > 0 {
			share, mean = fmt.Sprintf("%.2f", 100*g.share()), fmt.Sprintf("%.0f", micros(g.pause()))
		}
		all = append(all, []string{w.kind, w.load, fmt.Sprint(requests), fmt.Sprintf("%.2f", g.objects/float64(requests)), fmt.Sprintf("%.0f", g.bytes/float64(requests)),
			fmt.Sprintf("%.0f", g.collections), share, mean, fmt.Sprintf("%.0f", g.longest*1e6)})
	}
	return all
}

// collectorBlock is that as a table.
func (r *report) collectorBlock() string {
	rows := r.litterCells()
	if len(rows) == 0 {
		return ""
	}
	var b bytes.Buffer
	b.WriteString("Both proxies together, all rounds; the longest pause is that of the last 256 before the end of the load.\n\n")
	markdown(&b, litterTitles, rows)
	return b.String()
}
