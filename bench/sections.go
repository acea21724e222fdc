package main

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// column is one figure of a table that has a line for each contender.
type column struct{ title, figure string }

// pivot is a table of figures' medians, of the contenders that have any of them; empty if there are none.
func (r *report) pivot(first string, columns ...column) string {
	titles := []string{first}
	var names []string
	for _, c := range columns {
		titles = append(titles, c.title)
		for _, f := range r.figures {
			if f.name == c.figure && !slices.Contains(names, f.contender) {
				names = append(names, f.contender)
			}
		}
	}
	var rows [][]string
	for _, name := range names {
		row := []string{name}
		for _, c := range columns {
			cell := ""
			if f := r.find(c.figure, name); f != nil {
				cell = f.text(f.median())
			}
			row = append(row, cell)
		}
		rows = append(rows, row)
	}
	if len(rows) == 0 {
		return ""
	}
	var b bytes.Buffer
	markdown(&b, titles, rows)
	return b.String()
}

// latencyBlock is what a pair adds, at each pace.
func (r *report) latencyBlock() string {
	var t strings.Builder
	for _, p := range paces {
		n := paceName(p)
		table := r.pivot("µs", column{"p50", "p50_" + n}, column{"p99", "p99_" + n}, column{"p99.9", "p999_" + n},
			column{"p50 added", "p50_added_" + n}, column{"p99 added", "p99_added_" + n}, column{"p99.9 added", "p999_added_" + n})
		if table != "" {
			fmt.Fprintf(&t, "%.0f requests a second on %d connections:\n\n%s\n", p.Rate, p.Connections, table)
		}
	}
	return strings.TrimSuffix(t.String(), "\n")
}

// memoryBlock is what is held where nothing happens, and what bulk costs.
func (r *report) memoryBlock() string {
	parts := []string{
		r.pivot("Bulk over opaque TCP", column{"CPU µs for a MiB", "bulk_cpu_per_mib"}),
		r.pivot("10,000 idle HTTP/1.1 connections", column{"KiB for each", "idle_conn_kib"}, column{"connections to the origin", "idle_conn_upstreams"}),
		r.pivot("110 idle pods", column{"MiB of keeper and proxy", "idle_node_mib"}, column{"keeper", "idle_keeper_mib"}, column{"proxy", "idle_proxy_mib"}),
	}
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), "\n")
}

// coresBlock says what two cores serve, and by which measure.
func (r *report) coresBlock(m machine) string {
	var t strings.Builder
	for _, k := range coreKinds(1) {
		t.WriteString(r.pivot(k.name, column{"two to one", k.name + "_two_cores_vs_one"},
			column{"requests/s, one", coreFigure(k.name, 1, "rps")}, column{"two", coreFigure(k.name, 2, "rps")},
			column{"CPU µs/request, one", coreFigure(k.name, 1, "cpu")}, column{"two", coreFigure(k.name, 2, "cpu")}))
		t.WriteString("\n")
	}
	table := strings.TrimSpace(t.String())
	if table == "" {
		return ""
	}
	how := "Load and origins have two processors that the proxies do not have: \"two to one\" is requests a second with two cores to those with one.\n\n"
	if _, isShared := spread(m.Processors, 2); isShared {
		how = fmt.Sprintf("The machine has %d processors, so with two cores the proxies share both with load and origins, and requests a second are those that all of "+
			"them reach together. \"Two to one\" is therefore what two whole cores would serve by the processor time that a request takes: twice the time with one core to that with two.\n\n", m.Processors)
	}
	return how + table + "\n"
}

// neighbourBlock is a pod's latency beside a neighbour that does nothing, or much.
func (r *report) neighbourBlock() string {
	var parts []string
	for _, n := range neighbours {
		columns := []column{}
		for _, c := range []column{{"p50", "p50"}, {"p99", "p99"}, {"p99.9", "p999"}, {"GC % of CPU", "gc_percent"}, {"collections", "collections"}, {"pause µs", "pause"}} {
			columns = append(columns, column{c.title, neighbourFigure(n, c.figure)})
		}
		if table := r.pivot("neighbour: "+n+", µs", columns...); table != "" {
			parts = append(parts, table)
		}
	}
	return strings.Join(parts, "\n")
}
