package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
)

// figure is something that was measured of one contender, a value for each round.
type figure struct {
	name, contender, unit string
	values                []float64
}

// extra is a measurement that is no CPU per request. Each is a name for --case, and what does it.
type extra struct {
	name string
	run  func(context.Context, *report) error
}

func (s *stage) extras() []extra {
	return []extra{{"p99_added", s.measureLatency}, {"bulk", s.measureBulk}, {"idle_conn", s.measureConns}, {"idle_node", s.measureNode}}
}

// note adds a value to a figure.
func (r *report) note(name, contender, unit string, value float64) {
	for i := range r.figures {
		if f := &r.figures[i]; f.name == name && f.contender == contender {
			f.values = append(f.values, value)
			return
		}
	}
	r.figures = append(r.figures, figure{name, contender, unit, []float64{value}})
}

func (f figure) median() float64 { return median(f.values, func(v float64) float64 { return v }, mean) }

// figure is the median, if it was measured.
func (r *report) figure(name, contender string) (float64, bool) {
	for _, f := range r.figures {
		if f.name == name && f.contender == contender {
			return f.median(), true
		}
	}
	return 0, false
}

func (r *report) figureTable(out io.Writer) error {
	if len(r.figures) == 0 {
		return nil
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "figure\tcontender\tmedian\tmin\tmax\tunit\t")
	for _, f := range r.figures {
		low, high := f.values[0], f.values[0]
		for _, v := range f.values {
			low, high = min(low, v), max(high, v)
		}
		fmt.Fprintf(t, "%s\t%s\t%.1f\t%.1f\t%.1f\t%s\t\n", f.name, f.contender, f.median(), low, high, f.unit)
	}
	return t.Flush()
}
