package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"fairlead.io/fairlead/internal/testnet"
)

// counting makes sure that requests went the way that is measured: the proxies' own counters tell how many they carried, and with
// which security. What it returns is called after the run with the number of requests.
func (s *stage) counting(ctx context.Context, k kind, c contender) func(requests int) error {
	if !c.mesh {
		return func(int) error { return nil }
	}
	security, ends := "mtls", map[string]*testnet.MeshNode{"outbound": s.mesh.Nodes[0], "inbound": s.mesh.Nodes[1]}
	switch k.way {
	case oneNode:
		ends["inbound"] = s.mesh.Nodes[0]
	case onePass:
		security, ends = "not_in_mesh", map[string]*testnet.MeshNode{"outbound": s.mesh.Nodes[0]}
	}
	before := map[string]float64{}
	for direction, n := range ends {
		if v, err := requestsOf(ctx, n, direction, security); err == nil { // the second look reports what is wrong
			before[direction] = v
		}
	}
	return func(requests int) error {
		for direction, n := range ends {
			after, err := requestsOf(ctx, n, direction, security)
			if err != nil {
				return err
			}
			if got := after - before[direction]; got != float64(requests) {
				return fmt.Errorf("%s has carried %.0f requests %s with tls=%s, want %d", n.Name, got, direction, security, requests)
			}
		}
		return nil
	}
}

// requestsOf is how many requests a proxy has counted.
func requestsOf(ctx context.Context, n *testnet.MeshNode, direction, security string) (float64, error) {
	text, err := n.Admin(ctx, "/metrics")
	if err != nil {
		return 0, err
	}
	return sumSeries(string(text), "fairlead_requests_total", `direction="`+direction+`"`, `tls="`+security+`"`)
}

// sumSeries adds up the series of a name that bear all labels, in Prometheus' text format.
func sumSeries(text, name string, labels ...string) (float64, error) {
	sum := 0.0
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, name+"{")
		if !ok || !hasAll(rest, labels) {
			continue
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(rest[strings.LastIndexByte(rest, '}')+1:]), 64)
		if err != nil {
			return 0, fmt.Errorf("parse %s: %w", name, err)
		}
		sum += v
	}
	return sum, nil
}

func hasAll(line string, labels []string) bool {
	for _, l := range labels {
		if !strings.Contains(line, l) {
			return false
		}
	}
	return true
}

// profile writes a CPU profile of each proxy under a load, if the proxy has such a page, in a run that is not counted.
func (s *stage) profile(ctx context.Context, k kind, l offer) error {
	if err := os.MkdirAll(s.o.profile, 0o755); err != nil {
		return err
	}
	loaded := make(chan error, 1)
	c := s.contenders(k)[0]
	go func() {
		_, err := s.load(ctx, c.client, k, l, c.target)
		loaded <- err
	}()
	type answer struct {
		node string
		body []byte
	}
	answers := make(chan answer, len(s.mesh.Nodes))
	for _, n := range s.mesh.Nodes {
		go func() {
			body, err := n.Admin(ctx, "/debug/pprof/profile?seconds=2")
			if err != nil {
				fmt.Fprintln(os.Stderr, "bench: no profile:", err)
			}
			answers <- answer{n.Name, body}
		}()
	}
	for range s.mesh.Nodes {
		a := <-answers
		if len(a.body) == 0 {
			continue
		}
		if err := os.WriteFile(filepath.Join(s.o.profile, k.name+"-"+a.node+".pprof"), a.body, 0o644); err != nil {
			return err
		}
	}
	select {
	case err := <-loaded:
		return err
	case <-time.After(time.Minute):
		return fmt.Errorf("load under the profile: %w", context.DeadlineExceeded)
	}
}
