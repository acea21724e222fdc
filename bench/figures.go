package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// figure is something that was measured of one contender, a value for each round.
type figure struct {
	name, contender, unit string
	values                []float64
}

// extra is a measurement that is no CPU per request, in a lab of its own: what was there before would be seen in the memory.
type extra struct {
	name string // for --case
	slow bool   // takes long
	run  func(*stage, context.Context, *report) error
	// labs is in the place of run for what makes its labs itself.
	labs func(context.Context, options, *report) error
}

// idleNode is what besideIdlePods is called for --case.
const idleNode = "idle_node"

var extras = []extra{
	{name: "p99_added", run: (*stage).measureLatency},
	{name: "bulk", run: (*stage).measureBulk},
	{name: "idle_conn", run: (*stage).measureConns},
	{name: "neighbour", slow: true, run: (*stage).measureNeighbour},
	{name: "cores", slow: true, labs: measureCores},
}

func (e extra) play(ctx context.Context, o options, r *report) error {
	if e.labs != nil {
		return e.labs(ctx, o, r)
	}
	return onStage(ctx, o, func(s *stage) error { return e.run(s, ctx, r) })
}

func extraNames() string {
	names := []string{idleNode}
	for _, e := range extras {
		names = append(names, e.name)
	}
	return strings.Join(names, ", ")
}

// times is the unit of what is a proportion.
const times = "times"

// text is a value of that figure.
func (f figure) text(v float64) string {
	switch f.unit {
	case times:
		return fmt.Sprintf("%.2f", v)
	case "": // a number of things
		return fmt.Sprintf("%.0f", v)
	}
	return decimal(v)
}

// note adds a value to a figure.
func (r *report) note(name, contender, unit string, value float64) {
	if f := r.find(name, contender); f != nil {
		f.values = append(f.values, value)
		return
	}
	r.figures = append(r.figures, figure{name, contender, unit, []float64{value}})
}

func (f figure) median() float64 { return median(f.values, func(v float64) float64 { return v }, mean) }

// figure is the median, if it was measured.
func (r *report) figure(name, contender string) (float64, bool) {
	if f := r.find(name, contender); f != nil {
		return f.median(), true
	}
	return 0, false
}

// find is a figure, or nil.
func (r *report) find(name, contender string) *figure {
	for i := range r.figures {
		if f := &r.figures[i]; f.name == name && f.contender == contender {
			return f
		}
	}
	return nil
}

var figureTitles = []string{"figure", "contender", "median", "min", "max", "unit"}

// figureCells are the figures as text.
func (r *report) figureCells() [][]string {
	var all [][]string
	for _, f := range r.figures {
		all = append(all, []string{f.name, f.contender, f.text(f.median()), f.text(slices.Min(f.values)), f.text(slices.Max(f.values)), f.unit})
	}
	return all
}
