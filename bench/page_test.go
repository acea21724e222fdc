package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// measured is a report with something of everything.
func measured() *report {
	r := &report{commands: [][2]string{{"pair_h1/low", "h2load -n 1"}}, left: []left{{"pair_h2/low", "envoy", "round 1:\nit slept"}}, failed: []string{"cores: too\nfew"}}
	ours := samplesOf("fairlead", 30)
	ours[0].requests, ours[0].garbage = 1000, garbage{bytes: 64000, objects: 4000, collections: 2, paused: 0.0002, longest: 0.0003, collecting: 0.1, busy: 10}
	r.add(kind{name: "pair_h1"}, offer{name: "low"}, append(ours, append(samplesOf("haproxy", 50), samplesOf("<nginx>", 15)...)...))
	r.add(kind{name: "pair_h1"}, offer{name: "connect"}, append(samplesOf("fairlead", 200), samplesOf("haproxy", 100)...))
	r.note("pair_h1_two_cores_vs_one", "fairlead", times, 1.8)
	r.note("pair_h1_two_cores_vs_one", "haproxy", times, 1.9)
	for name, v := range map[string][2]float64{"p99_1000_rps": {900, 700}, "p99_added_1000_rps": {300, 100}, "bulk_cpu_per_mib": {400, 500}, "idle_conn_kib": {5, 1}, "neighbour_connections_p999": {2000, 4000},
		"pair_h1_cores_1_rps": {9000, 8000}} {
		r.note(name, "fairlead", "µs", v[0])
		r.note(name, "haproxy", "µs", v[1])
	}
	return r
}

func TestPage(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "performance")
	m := machine{Kernel: "6.1", Processors: 2, Processor: "a processor", Command: "make bench", Envoy: "not measured: it could not be installed"}
	for range 2 { // the second time into the page that is there
		if err := measured().write(dir, m, 7); err != nil {
			t.Fatal(err)
		}
	}
	for file, wants := range map[string][]string{
		"README.md": {"# What it costs\n", "| kernel | 6.1 |\n", "| command | `make bench` |\n", "| processor | 2 of a processor |\n", "its turn 7 times", "| Envoy | not measured: it could not be installed |\n", "    pair_h1/low              h2load -n 1\n",
			"| case | load | fairlead | haproxy | <nginx> |\n", "| pair_h1 | low | 30.0 | 50.0 | 15.0 |\n", "| pair_h1 | connect | 200.0 | 100.0 |  |\n",
			"| pair_h1 | low | haproxy | 50.0 | 50.0 | 50.0 | 25 % | 0.60 | 1000 | 300 | - | 2.0 |\n", "![Processor time for one request](cost.svg)",
			"| fairlead |  | 900.0 |  |  | 300.0 |  |\n", "| fairlead | 400.0 |\n", "- pair_h2/low, envoy: round 1: it slept\n", "- cores: too few\n", "| fairlead | 5.0 |  |\n", "share both with load and origins", "| fairlead | 1.80 | 9000.0 |  |  |  |\n",
			"| pair_h1 | low | 1000 | 4.00 | 64 | 2 | 1.00 | 100 | 300 |\n", "neighbour: connections, µs", "| CPU, pair_h1/low | <nginx> | 2.00 |\n"},
		"bench.json": {`"kernel": "6.1"`, `"rounds": 7`, `"low": 0.6`, `"figure": "pair_h1/low/cpu"`, `"figure": "idle_conn_kib"`},
	} {
		text, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range wants {
			if strings.Count(string(text), want) != 1 && file == "README.md" || !strings.Contains(string(text), want) {
				t.Errorf("%s: not once %q in\n%s", file, want, text)
			}
		}
	}
	var parsed struct{ Summary, Figures, Machine json.RawMessage }
	text, err := os.ReadFile(filepath.Join(dir, "bench.json"))
	if err == nil {
		err = json.Unmarshal(text, &parsed)
	}
	if err != nil || len(parsed.Summary) == 0 || len(parsed.Figures) == 0 || len(parsed.Machine) == 0 {
		t.Errorf("bench.json: %v\n%s", err, text)
	}
}

// What is written by hand stays, and a page that lacks a block is not written at all.
func TestFill(t *testing.T) {
	page := "by hand\n<!-- bench:a -->\nold\n<!-- end -->\nalso\n<!-- bench:b -->\n<!-- end -->\n"
	got, err := fill(page, []block{{"b", "new\n"}, {"a", "newer\n"}})
	if want := "by hand\n<!-- bench:a -->\nnewer\n<!-- end -->\nalso\n<!-- bench:b -->\nnew\n<!-- end -->\n"; err != nil || got != want {
		t.Errorf("%v\n%s", err, got)
	}
	if got, err := fill(page, []block{{"c", ""}}); err == nil {
		t.Errorf("no block, and no error: %s", got)
	}
	if got, err := fill("<!-- bench:a -->\n", []block{{"a", ""}}); err == nil {
		t.Errorf("a block without an end, and no error: %s", got)
	}
}

// The page of the tree has every block.
func TestTheTreesPageHasAllBlocks(t *testing.T) {
	page, err := os.ReadFile("../docs/performance/README.md")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fill(string(page), measured().blocks(machine{}, 1)); err != nil {
		t.Error(err)
	}
}

// What was not measured is said, not left as it was.
func TestBlocksOfNothing(t *testing.T) {
	for _, b := range (&report{}).blocks(machine{}, 1) {
		if b.name != "run" && b.text != "It was not part of this run.\n" {
			t.Errorf("%s: %q", b.name, b.text)
		}
	}
}

func TestLosses(t *testing.T) {
	got := map[loss]bool{}
	for _, l := range measured().losses() {
		got[l] = true
	}
	for _, want := range []loss{{"CPU, pair_h1/low", "<nginx>", 2}, {"CPU, pair_h1/connect", "haproxy", 2}, {"p99_added_1000_rps", "haproxy", 3}, {"idle_conn_kib", "haproxy", 5}} {
		if !got[want] {
			t.Errorf("no %+v in %v", want, got)
		}
	}
	if len(got) != 4 {
		t.Errorf("more than is lost: %v", got)
	}
}

// The chart is XML, with a bar and a number for each value, none of them beyond its edge.
func TestChart(t *testing.T) {
	svg := measured().chart()
	bars, numbers := 0, 0
	for d := xml.NewDecoder(bytes.NewReader(svg)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, svg)
		}
		e, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		var of struct {
			class    string
			x, width float64
		}
		for _, a := range e.Attr {
			switch a.Name.Local {
			case "class":
				of.class = a.Value
			case "x":
				_ = json.Unmarshal([]byte(a.Value), &of.x) // else it is 0
			case "width":
				_ = json.Unmarshal([]byte(a.Value), &of.width)
			}
		}
		switch {
		case e.Name.Local == "rect" && of.x == chartLeft:
			bars++
			if of.width <= 0 || of.x+of.width > chartWidth-chartRight+0.1 {
				t.Errorf("a bar from %v, %v wide", of.x, of.width)
			}
		case of.class == "n":
			numbers++
		}
	}
	if bars != 3 || numbers != 3 {
		t.Errorf("%d bars, %d numbers, want 3", bars, numbers)
	}
	for _, want := range []string{"&lt;nginx&gt;", "prefers-color-scheme:dark", ">15.0<"} {
		if !strings.Contains(string(svg), want) {
			t.Errorf("no %q in\n%s", want, svg)
		}
	}
}

func TestCommand(t *testing.T) {
	for want, args := range map[string][]string{
		"make bench":                            {"--bin", "/x/bin"},
		"make bench ARGS=--write=docs":          {"--bin", "/x/bin", "--write=docs"},
		`make bench ARGS="--quick --write=out"`: {"--bin", "/x/bin", "--quick", "--write=out"},
	} {
		if got := command(args); got != want {
			t.Errorf("%q: %s, want %s", args, got, want)
		}
	}
}
