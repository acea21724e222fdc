package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// The files that are written, beside the page.
const (
	pageFile  = "README.md"
	jsonFile  = "bench.json"
	chartFile = "cost.svg"
)

// block is a part of the page that a run writes; what stands around it is written by hand.
type block struct{ name, text string }

// blocks are all parts. One that nothing was measured for says so, for figures of different runs must not stand beside each other.
func (r *report) blocks(m machine, rounds int) []block {
	all := []block{{"run", r.runBlock(m, rounds)}, {"cost", r.costBlock()}, {"latency", r.latencyBlock()}, {"memory", r.memoryBlock()},
		{"cores", r.coresBlock(m)}, {"collector", r.collectorBlock()}, {"neighbour", r.neighbourBlock()}, {"losses", r.lossesBlock()}}
	for i := range all {
		if all[i].text == "" {
			all[i].text = "It was not part of this run.\n"
		}
	}
	return all
}

func opening(name string) string { return "<!-- bench:" + name + " -->\n" }

const closing = "<!-- end -->\n"

// fill puts blocks into a page, in the place of what was in them before.
func fill(page string, blocks []block) (string, error) {
	for _, b := range blocks {
		before, rest, ok := strings.Cut(page, opening(b.name))
		_, after, ended := strings.Cut(rest, closing)
		if !ok || !ended {
			return "", fmt.Errorf("the page has no block %q", b.name)
		}
		page = before + opening(b.name) + b.text + closing + after
	}
	return page, nil
}

// empty is a page for a directory that has none: headings and blocks.
func empty(blocks []block) string {
	var t strings.Builder
	t.WriteString("# What it costs\n")
	for _, b := range blocks {
		fmt.Fprintf(&t, "\n## %s\n\n%s%s", b.name, opening(b.name), closing)
	}
	return t.String()
}

// runBlock is what, where and how.
func (r *report) runBlock(m machine, rounds int) string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "Each contender had its turn %d times under each load; nginx, ReverseProxy and Envoy had it %[2]d times, and so had everybody with bodies of 64 B to 64 KiB, "+
		"beside neighbours and with two cores. All of it, with every round: [%[3]s](%[3]s).\n\n", rounds, min(rounds, fewRounds), jsonFile)
	markdown(&b, []string{"Of", ""}, [][]string{{"command", "`" + strings.ReplaceAll(m.Command, "|", `\|`) + "`"}, {"date", m.Date}, {"processor", fmt.Sprintf("%d of %s", m.Processors, m.Processor)},
		{"kernel", m.Kernel}, {"Fairlead", m.Fairlead + ", " + m.Go}, {"HAProxy", m.HAProxy}, {"nginx, and the origin", m.Nginx},
		{"ReverseProxy", m.Go}, {"Envoy", m.Envoy}, {"load", m.H2load}, {"load average before", m.LoadAvg}})
	if len(r.failed) > 0 {
		b.WriteString("\nWhat follows is not whole. In this run these failed, and have no figures:\n\n")
		for _, f := range r.failed {
			fmt.Fprintf(&b, "- %s\n", strings.Join(strings.Fields(f), " "))
		}
	}
	if len(r.commands) > 0 {
		b.WriteString("\nThe loads, without the fields of the requests:\n\n")
		for _, c := range r.commands {
			fmt.Fprintf(&b, "    %-24s %s\n", c[0], c[1])
		}
	}
	return b.String()
}

// costBlock is the chart, the medians beside each other, and everything.
func (r *report) costBlock() string {
	if len(r.rows) == 0 {
		return ""
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "![Processor time for one request](%s)\n\nµs of processor time for one request, medians:\n\n", chartFile)
	titles, rows := r.beside()
	markdown(&b, titles, rows)
	if len(r.left) > 0 {
		b.WriteString("\nWho did not answer every request of a load was left out of it:\n\n")
		for _, l := range r.left {
			fmt.Fprintf(&b, "- %s, %s: %s\n", l.load, l.contender, strings.Join(strings.Fields(l.why), " "))
		}
	}
	b.WriteString("\n<details><summary>Everything that was measured under these loads</summary>\n\nThe ratio is Fairlead's median to the other's: below 1 Fairlead is cheaper. " +
		"RSS is that of all proxy processes of a contender at the end of a run.\n\n")
	markdown(&b, rowTitles, r.cells())
	b.WriteString("\n</details>\n")
	return b.String()
}

// beside are the medians with a column for each contender.
func (r *report) beside() (titles []string, rows [][]string) {
	names := r.contenders()
	titles = append([]string{"case", "load"}, names...)
	for _, w := range r.rows {
		at := len(rows) - 1
		if at < 0 || rows[at][0] != w.kind || rows[at][1] != w.load {
			rows = append(rows, append([]string{w.kind, w.load}, slices.Repeat([]string{""}, len(names))...))
			at++
		}
		rows[at][2+slices.Index(names, w.contender)] = decimal(micros(w.cpu()))
	}
	return titles, rows
}

// contenders are all of the rows, in their order.
func (r *report) contenders() []string {
	var names []string
	for _, w := range r.rows {
		if !slices.Contains(names, w.contender) {
			names = append(names, w.contender)
		}
	}
	return names
}

func markdown(b *bytes.Buffer, titles []string, rows [][]string) {
	fmt.Fprintf(b, "| %s |\n|%s\n", strings.Join(titles, " | "), strings.Repeat("---|", len(titles)))
	for _, row := range rows {
		fmt.Fprintf(b, "| %s |\n", strings.Join(row, " | "))
	}
}

// write puts page, figures and chart into a directory.
func (r *report) write(dir string, m machine, rounds int) error {
	figures, err := r.json(m, rounds)
	if err != nil {
		return err
	}
	blocks := r.blocks(m, rounds)
	page, err := os.ReadFile(filepath.Join(dir, pageFile))
	if errors.Is(err, fs.ErrNotExist) {
		page, err = []byte(empty(blocks)), os.MkdirAll(dir, 0o755)
	}
	if err != nil {
		return err
	}
	filled, err := fill(string(page), blocks)
	if err != nil {
		return err
	}
	errs := []error{os.WriteFile(filepath.Join(dir, pageFile), []byte(filled), 0o644), os.WriteFile(filepath.Join(dir, jsonFile), figures, 0o644)}
	if len(r.rows) > 0 {
		errs = append(errs, os.WriteFile(filepath.Join(dir, chartFile), r.chart(), 0o644))
	}
	return errors.Join(errs...)
}

// json is everything, with each round's value.
func (r *report) json(m machine, rounds int) ([]byte, error) {
	line, err := r.line()
	if err != nil {
		return nil, err
	}
	type entry struct {
		Figure    string    `json:"figure"`
		Contender string    `json:"contender"`
		Unit      string    `json:"unit,omitempty"`
		Values    []float64 `json:"values"`
	}
	var entries []entry
	for _, f := range append(r.rowFigures(), r.figures...) {
		entries = append(entries, entry{f.name, f.contender, f.unit, f.values})
	}
	text, err := json.MarshalIndent(struct {
		Machine machine         `json:"machine"`
		Rounds  int             `json:"rounds"`
		Summary json.RawMessage `json:"summary"`
		Figures []entry         `json:"figures"`
	}{m, rounds, line, entries}, "", " ")
	return append(text, '\n'), err
}
