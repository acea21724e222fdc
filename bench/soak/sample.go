package soak

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"fairlead.io/fairlead/internal/testnet"
)

// The measures of a process.
const (
	rss        = "rss_kib"
	goroutines = "goroutines"
	files      = "descriptors"
	live       = "live_kib" // of the heap after a collection, as far as the runtime's next goal tells
)

// sample is all measures of all processes at a time, by "process measure".
type sample struct {
	at     time.Duration
	values map[string]float64
}

// probe looks at the product's processes.
type probe struct {
	mesh     *testnet.Mesh
	names    []string
	procs    map[string]*testnet.Process
	expiry   map[string]float64 // of the proxies' own certificates
	renewals int
}

func newProbe(m *testnet.Mesh) *probe {
	p := &probe{mesh: m, procs: map[string]*testnet.Process{"controller": m.Controller}, expiry: map[string]float64{}}
	for _, n := range m.Nodes {
		p.names = append(p.names, n.Name+" proxy", n.Name+" keeper")
		p.procs[n.Name+" proxy"], p.procs[n.Name+" keeper"] = n.Proxy, n.Keeper
	}
	p.names = append(p.names, "controller")
	return p
}

// look measures everything once.
func (p *probe) look(ctx context.Context) (map[string]float64, error) {
	all := map[string]float64{}
	for name, proc := range p.procs {
		select {
		case <-proc.Done():
			return nil, fmt.Errorf("%s has ended", name)
		default:
		}
		kib, err := resident(proc.PID())
		if err != nil {
			return nil, err
		}
		open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", proc.PID()))
		if err != nil {
			return nil, err
		}
		all[name+" "+rss], all[name+" "+files] = kib, float64(len(open))
	}
	for _, n := range p.mesh.Nodes {
		text, err := n.Admin(ctx, "/metrics")
		if err != nil {
			return nil, err
		}
		all[n.Name+" proxy "+goroutines] = series(string(text), "go_goroutines")
		all[n.Name+" proxy "+live] = series(string(text), "go_memstats_next_gc_bytes") / 2 / 1024
		all[n.Name+" keeper "+goroutines] = series(string(text), "fairlead_keeper_goroutines")
		expiry := series(string(text), "fairlead_certificate_expiry_timestamp_seconds", `service_account=""`)
		if was := p.expiry[n.Name]; was != 0 && was != expiry {
			p.renewals++
		}
		p.expiry[n.Name] = expiry
	}
	text, err := p.controller(ctx)
	all["controller "+goroutines] = series(text, "go_goroutines")
	all["controller "+live] = series(text, "go_memstats_next_gc_bytes") / 2 / 1024
	return all, err
}

// held says what the descriptors of a process are, by kind.
func (p *probe) held(name string) string {
	kinds := map[string]int{}
	links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", p.procs[name].PID()))
	for _, l := range links {
		to, err := os.Readlink(l)
		if err != nil {
			continue
		}
		kind, _, _ := strings.Cut(to, ":[")
		kinds[kind]++
	}
	var parts []string
	for _, k := range sorted(kinds) {
		parts = append(parts, fmt.Sprintf("%d %s", kinds[k], k))
	}
	return strings.Join(parts, ", ")
}

// controller is what the controller tells.
func (p *probe) controller(ctx context.Context) (string, error) {
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return p.mesh.Lab.Control().Dial(ctx, "tcp", "127.0.0.1:9903")
		}}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://controller/metrics", nil)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", fmt.Errorf("ask the controller: %w", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	return string(text), err
}

// sample looks again and again, for a time.
func (p *probe) sample(ctx context.Context, length time.Duration, say func(string, ...any)) ([]sample, error) {
	var all []sample
	began := time.Now()
	for n := 1; time.Since(began) < length; n++ {
		if err := pause(ctx, time.Until(began.Add(time.Duration(n)*every))); err != nil {
			return all, err
		}
		values, err := p.look(ctx)
		if err != nil {
			return all, fmt.Errorf("sample: %w", err)
		}
		all = append(all, sample{time.Since(began), values})
		if n%15 == 0 {
			say("after %v: %s", time.Since(began).Round(time.Second), p.line(values))
		}
	}
	return all, nil
}

// line is a sample in a few words.
func (p *probe) line(values map[string]float64) string {
	var parts []string
	for _, name := range p.names {
		parts = append(parts, fmt.Sprintf("%s %.1f MiB, %.0f goroutines, %.0f descriptors", name, values[name+" "+rss]/1024, values[name+" "+goroutines], values[name+" "+files]))
	}
	return strings.Join(parts, "; ")
}

// resident is the memory of a process in KiB.
func resident(pid int) (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			return strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(v), " kB"), 64)
		}
	}
	return 0, errors.New("no VmRSS")
}

// series adds up the series of a name that bear all labels, in Prometheus' text format.
func series(text, name string, labels ...string) float64 {
	sum := 0.0
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest == "" || rest[0] != '{' && rest[0] != ' ' || !hasAll(rest, labels) {
			continue
		}
		if v, err := strconv.ParseFloat(strings.TrimSpace(rest[strings.LastIndexByte(rest, '}')+1:]), 64); err == nil {
			sum += v
		}
	}
	return sum
}

func hasAll(text string, labels []string) bool {
	for _, l := range labels {
		if !strings.Contains(text, l) {
			return false
		}
	}
	return true
}

// writeSamples writes all samples as CSV.
func writeSamples(path string, all []sample) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := csv.NewWriter(f)
	for i, s := range all {
		names := sorted(s.values)
		if i == 0 {
			err = errors.Join(err, w.Write(append([]string{"seconds"}, names...)))
		}
		row := []string{strconv.FormatFloat(s.at.Seconds(), 'f', 1, 64)}
		for _, name := range names {
			row = append(row, strconv.FormatFloat(s.values[name], 'f', -1, 64))
		}
		err = errors.Join(err, w.Write(row))
	}
	w.Flush()
	return errors.Join(err, w.Error(), f.Close())
}
