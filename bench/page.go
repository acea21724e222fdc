package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// machine is what the figures are of.
type machine struct {
	Date      string `json:"date"`
	Processor string `json:"processor"`
	Kernel    string `json:"kernel"`
	HAProxy   string `json:"haproxy"`
	Nginx     string `json:"nginx"`
	H2load    string `json:"h2load"`
	LoadAvg   string `json:"load_average"` // before the first run
}

// look finds out about the machine.
func look(ctx context.Context) machine {
	var u unix.Utsname
	_ = unix.Uname(&u) // it cannot fail
	return machine{Date: time.Now().UTC().Format(time.DateOnly), Processor: processor(), Kernel: unix.ByteSliceToString(u.Release[:]),
		HAProxy: firstLine(ctx, "haproxy", "-v"), Nginx: firstLine(ctx, "nginx", "-v"), H2load: firstLine(ctx, "h2load", "--version"), LoadAvg: loadAverage()}
}

func processor() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if name, ok := strings.CutPrefix(lines.Text(), "model name"); ok {
			return strings.Trim(name, "\t: ")
		}
	}
	return "unknown"
}

// firstLine is the first line that a program prints, wherever it prints it.
func firstLine(ctx context.Context, name string, args ...string) string {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return err.Error()
	}
	line, _, _ := bytes.Cut(out, []byte("\n"))
	name, _, _ = strings.Cut(string(line), " - ") // where it is published
	return name
}

const pageHead = `# What it costs

Written by ` + "`make bench ARGS=--write=docs/performance`" + `; [the same as JSON](bench.json). Everything is measured on one machine, in simulated nodes: the
ratios of one table are worth something, the figures themselves only beside others of this page.

Fairlead is the real thing: redirect, controller, keeper and proxy on both nodes, metrics on. HAProxy is a pair with mutual TLS 1.3 and HTTP/2
between the two, which is its best, one thread each. It has neither redirect nor identities of pods here, and is told of its one service by its
configuration. Load and origins have one processor, all proxies the other. Contenders take turns under each load, %d times, and start with
another one every other round. What is counted is the processor time of all of a contender's proxy processes, keepers included, by the kernel's own clock.

| Of | |
|---|---|
`

// page is all that was measured, as Markdown.
func (r *report) page(m machine, rounds int) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, pageHead, rounds)
	for _, line := range [][2]string{{"date", m.Date}, {"processor", m.Processor}, {"kernel", m.Kernel}, {"HAProxy", m.HAProxy},
		{"origin", m.Nginx}, {"load", m.H2load}, {"load average before", m.LoadAvg}} {
		fmt.Fprintf(&b, "| %s | %s |\n", line[0], line[1])
	}
	b.WriteString("\n## Processor time for one request\n\nThe ratio is Fairlead's median to the other's: below 1 Fairlead is cheaper.\n\n")
	markdown(&b, rowTitles, r.cells())
	if len(r.figures) > 0 {
		b.WriteString("\n## Latency, bulk and memory\n\nLatency in an open loop: a request's time begins when it was to be sent, whatever became of those before it.\n\n")
		markdown(&b, figureTitles, r.figureCells())
	}
	return b.Bytes()
}

func markdown(b *bytes.Buffer, titles []string, rows [][]string) {
	fmt.Fprintf(b, "| %s |\n|%s\n", strings.Join(titles, " | "), strings.Repeat("---|", len(titles)))
	for _, row := range rows {
		fmt.Fprintf(b, "| %s |\n", strings.Join(row, " | "))
	}
}

// write puts page and figures into a directory.
func (r *report) write(dir string, m machine, rounds int) error {
	line, err := r.line()
	if err != nil {
		return err
	}
	all, err := json.MarshalIndent(struct {
		Machine machine         `json:"machine"`
		Rounds  int             `json:"rounds"`
		Ratios  json.RawMessage `json:"ratios"`
	}{m, rounds, line}, "", "  ")
	if err != nil {
		return err
	}
	return errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "README.md"), r.page(m, rounds), 0o644),
		os.WriteFile(filepath.Join(dir, "bench.json"), append(all, '\n'), 0o644))
}
