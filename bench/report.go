package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// row is what is known of one contender under one load.
type row struct {
	kind, load, contender string
	samples               []sample
}

// report is all that was measured, in order.
type report struct {
	rows     []row
	figures  []figure
	commands [][2]string // of each load: its name, and h2load's command
	left     []left
	failed   []string // what was not measured, and why
}

// fail notes that, and says it.
func (r *report) fail(err error) error {
	fmt.Fprintln(os.Stderr, "bench: not measured:", err)
	r.failed = append(r.failed, err.Error())
	return err
}

// leave notes who was left out, and says it.
func (r *report) leave(gone []left) {
	for _, l := range gone {
		fmt.Fprintf(os.Stderr, "bench: %s without %s: %s\n", l.load, l.contender, l.why)
	}
	r.left = append(r.left, gone...)
}

// add takes the samples of one load.
func (r *report) add(k kind, l offer, samples []sample) {
	for _, s := range samples {
		at := slices.IndexFunc(r.rows, func(w row) bool { return w.kind == k.name && w.load == l.name && w.contender == s.contender })
		if at < 0 {
			at = len(r.rows)
			r.rows = append(r.rows, row{kind: k.name, load: l.name, contender: s.contender})
		}
		r.rows[at].samples = append(r.rows[at].samples, s)
	}
}

// median is the one in the middle, or between the two.
func median[T cmp.Ordered, S any](of []S, by func(S) T, between func(a, b T) T) T {
	values := make([]T, len(of))
	for i, s := range of {
		values[i] = by(s)
	}
	slices.Sort(values)
	if n := len(values); n%2 == 0 {
		return between(values[n/2-1], values[n/2])
	}
	return values[len(values)/2]
}

func mean[T time.Duration | float64](a, b T) T { return (a + b) / 2 }

func cpuOf(s sample) time.Duration { return s.cpu }

func (w row) cpu() time.Duration { return median(w.samples, cpuOf, mean) }

// mib is the resident memory of all proxies.
func (w row) mib() float64 {
	return median(w.samples, func(s sample) float64 { return float64(s.kib) / 1024 }, mean)
}

// resident is what Fairlead's take under a load.
func (r *report) resident(kind, load string) (float64, bool) {
	for _, w := range r.rows {
		if w.kind == kind && w.load == load && w.contender == fairlead {
			return w.mib(), true
		}
	}
	return 0, false
}

// rowFigures are the rows as figures, of each round.
func (r *report) rowFigures() []figure {
	var all []figure
	for _, w := range r.rows {
		name := w.kind + "/" + w.load + "/"
		f := []figure{{name: name + "cpu", unit: "µs"}, {name: name + "rps", unit: "requests/s"}, {name: name + "rss", unit: "MiB"}}
		for _, s := range w.samples {
			for i, v := range []float64{micros(s.cpu), s.rps, float64(s.kib) / 1024} {
				f[i].values = append(f[i].values, v)
			}
		}
		for i := range f {
			f[i].contender = w.contender
		}
		all = append(all, f...)
	}
	return all
}

var rowTitles = []string{"case", "load", "contender", "CPU µs/request", "min", "max", "user", "ratio", "requests/s", "p50 µs", "p99 µs", "RSS MiB"}

// cells are the rows as text.
func (r *report) cells() [][]string {
	var all [][]string
	for _, w := range r.rows {
		low, high := slices.MinFunc(w.samples, byCPU), slices.MaxFunc(w.samples, byCPU)
		all = append(all, []string{w.kind, w.load, w.contender, decimal(micros(w.cpu())), decimal(micros(low.cpu)), decimal(micros(high.cpu)),
			fmt.Sprintf("%.0f %%", 100*median(w.samples, func(s sample) float64 { return s.user }, mean)), r.against(w),
			fmt.Sprintf("%.0f", median(w.samples, func(s sample) float64 { return s.rps }, mean)),
			latency(w, func(s sample) time.Duration { return s.p50 }), latency(w, func(s sample) time.Duration { return s.p99 }), decimal(w.mib())})
	}
	return all
}

func decimal(v float64) string { return fmt.Sprintf("%.1f", v) }

// table writes all for people.
func (r *report) table(out io.Writer) error {
	return errors.Join(tabulate(out, rowTitles, r.cells()), tabulate(out, litterTitles, r.litterCells()), tabulate(out, figureTitles, r.figureCells()))
}

func tabulate(out io.Writer, titles []string, rows [][]string) error {
	if len(rows) == 0 {
		return nil
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, row := range append([][]string{titles}, rows...) {
		fmt.Fprintln(t, strings.Join(row, "\t")+"\t")
	}
	return t.Flush()
}

func byCPU(a, b sample) int { return cmp.Compare(a.cpu, b.cpu) }

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

func latency(w row, by func(sample) time.Duration) string {
	if d := median(w.samples, by, mean); d > 0 {
		return fmt.Sprintf("%.0f", micros(d))
	}
	return "-"
}

// against is what Fairlead costs in proportion to that contender.
func (r *report) against(w row) string {
	if ratio, ok := r.ratio(w.kind, w.load, w.contender); ok && w.contender != fairlead {
		return fmt.Sprintf("%.2f", ratio)
	}
	return ""
}

// ratio is the median of Fairlead divided by that of another.
func (r *report) ratio(kind, load, other string) (float64, bool) {
	var ours, theirs time.Duration
	for _, w := range r.rows {
		switch {
		case w.kind != kind || w.load != load:
		case w.contender == fairlead:
			ours = w.cpu()
		case w.contender == other:
			theirs = w.cpu()
		}
	}
	if ours == 0 || theirs == 0 {
		return 0, false
	}
	return math.Round(1000*float64(ours)/float64(theirs)) / 1000, true
}

// line is the last line of the output: what was run, as ratios.
func (r *report) line() ([]byte, error) {
	all := map[string]any{}
	for _, w := range r.rows {
		ratio, ok := r.ratio(w.kind, w.load, w.contender)
		if !ok || w.contender == fairlead {
			continue
		}
		switch w.contender {
		case haproxy:
			if w.load == "connect" {
				all["new_connection"] = ratio
				continue
			}
			loads, _ := all[w.kind].(map[string]float64)
			if loads == nil {
				loads = map[string]float64{}
				all[w.kind] = loads
			}
			loads[w.load] = ratio
		case "tcp-forwarder":
			put(all, "one_node_vs_tcp", w.load, ratio)
		case "haproxy-tcp":
			put(all, "one_node_vs_haproxy_tcp", w.load, ratio)
		}
	}
	r.putFigures(all)
	return json.Marshal(all)
}

// putFigures writes Fairlead's figures under their names, those of others with theirs behind it, and bulk and p99 as ratios.
func (r *report) putFigures(all map[string]any) {
	for _, f := range r.figures {
		name := f.name
		if f.contender != fairlead {
			name += "_" + strings.ReplaceAll(f.contender, "-", "_")
		}
		all[name] = math.Round(10*f.median()) / 10
		if f.unit == times {
			all[name] = math.Round(1000*f.median()) / 1000
		}
	}
	added := "p99_added_" + paceName(paces[0])
	if ours, ok := r.figure(added, fairlead); ok {
		all["p99_added_vs_haproxy"] = nil // where HAProxy seems to add nothing, which the machine's noise can do, there is no ratio
		if theirs, _ := r.figure(added, haproxy); theirs > 0 {
			all["p99_added_vs_haproxy"] = math.Round(1000*ours/theirs) / 1000
		}
	}
	ours, ok := r.figure("bulk_cpu_per_mib", fairlead)
	if theirs, both := r.figure("bulk_cpu_per_mib", tlsCopy); ok && both {
		all["bulk_vs_tls_copy"] = math.Round(1000*ours/theirs) / 1000
	}
}

// put writes the saturated load under the plain name, the others with theirs behind it.
func put(all map[string]any, name, load string, ratio float64) {
	if load != saturated {
		name += "_" + load
	}
	all[name] = ratio
}
