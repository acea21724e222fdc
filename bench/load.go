package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"fairlead.io/fairlead/internal/testnet"
)

// authority is the host that requests name, whatever address they go to.
const authority = "origin.bench"

// itemPath is what is asked for.
const itemPath = "/api/items/42?view=full"

// requestFields are what an ordinary request bears, some 450 bytes.
var requestFields = []string{
	"accept: application/json",
	"user-agent: bench-client/1.0",
	"x-request-id: 6f1d5b3e-5a2c-4f0e-9a53-2f5f3d1f1c11",
	"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
	"authorization: Bearer eyJhbGciOiJSUzI1NiIsImtpZCI6IjEyMzQ1Njc4OTAifQ.c3ViamVjdDpiZW5jaG1hcmssc2NvcGU6cmVhZA.abcdefghijklmnopqrstuvwxyz0123456789",
	"accept-language: en-GB,en;q=0.8",
	"cache-control: no-cache",
}

// offer is how many requests come, and how.
type offer struct {
	name     string
	clients  int // connections
	streams  int // requests in flight on each
	rate     int // requests a second of all together; 0 is as many as are answered
	requests int
	seconds  float64 // that it should take where there is no rate
	connect  bool    // what is measured is the making of connections
}

// result is what h2load says of one run.
type result struct {
	succeeded, failed int
	body              int // bytes of answers' bodies
	rps               float64
	log               string // of its requests
}

// arguments are h2load's that make a load what it is.
func (k kind) arguments(l offer) []string {
	args := []string{"-n", strconv.Itoa(l.requests), "-c", strconv.Itoa(l.clients), "-m", strconv.Itoa(l.streams)}
	if l.rate > 0 {
		args = append(args, "--rps", strconv.FormatFloat(float64(l.rate)/float64(l.clients), 'f', -1, 64))
	}
	if k.protocol == http1 {
		args = append(args, "--h1")
	}
	return args
}

// command is it for people; under saturation slower contenders have all of them fewer requests.
func (k kind) command(l offer) string {
	return "h2load " + strings.Join(k.arguments(l), " ") + " http://" + authority + k.path()
}

// load is one run of h2load in a pod.
func (s *stage) load(ctx context.Context, p *testnet.Pod, k kind, l offer, target string) (result, error) {
	log := filepath.Join(s.dir, "requests.log")
	args := append(k.arguments(l), "-N", "20", "--log-file", log, "-H", ":authority: "+authority)
	for _, f := range requestFields {
		args = append(args, "-H", f)
	}
	if k.protocol == grpcUnary {
		args = append(args, "-d", s.messageFile(k.message()), "-H", "te: trailers", "-H", "content-type: application/grpc")
	}
	slowly := 1000 // requests a second of a machine that has much else to do
	if l.rate > 0 {
		slowly = min(slowly, l.rate)
	}
	limit := 30*time.Second + time.Duration(l.requests/slowly)*time.Second
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	out, err := p.Run(ctx, testnet.Command{Path: "h2load", Args: append(args, "http://"+target+k.path())})
	if err != nil {
		return result{}, fmt.Errorf("load: %w", err)
	}
	r, err := parseH2load(string(out))
	if err != nil {
		return r, err
	}
	if r.succeeded != l.requests || r.failed != 0 {
		return r, fmt.Errorf("%d of %d requests succeeded, %d failed: %s", r.succeeded, l.requests, r.failed, lastLines(string(out)))
	}
	if want := r.succeeded * k.answer(); r.body != want {
		return r, fmt.Errorf("%d bytes of bodies in %d answers, want %d", r.body, r.succeeded, want)
	}
	text, err := os.ReadFile(log)
	r.log = string(text)
	return r, errors.Join(err, os.Remove(log))
}

func lastLines(out string) string {
	at := strings.Index(out, "finished in")
	if at < 0 {
		at = max(0, len(out)-300)
	}
	return strings.Join(strings.Fields(out[at:]), " ")
}

var (
	h2loadRate     = regexp.MustCompile(`finished in [0-9.]+[a-z]+, ([0-9.]+) req/s`)
	h2loadRequests = regexp.MustCompile(`requests: \d+ total, \d+ started, (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout`)
	h2loadStatus   = regexp.MustCompile(`status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx`)
	h2loadTraffic  = regexp.MustCompile(`traffic: .*\((\d+)\) data`)
)

// parseH2load reads what h2load prints at its end. A request has succeeded when its answer came whole with a status of 2xx. HAProxy writes
// no reason phrase in HTTP/1.1 for what it got by HTTP/2, and h2load knows no status without one: such a run has every request done,
// failed and without any status. They count as succeeded here, and the bodies' bytes, which the caller knows, tell if one was another answer.
func parseH2load(out string) (result, error) {
	var r result
	rate, requests := h2loadRate.FindStringSubmatch(out), numbers(h2loadRequests, out)
	status, traffic := numbers(h2loadStatus, out), numbers(h2loadTraffic, out)
	if rate == nil || requests == nil || status == nil || traffic == nil {
		return r, fmt.Errorf("h2load said what is not understood: %q", lastLines(out))
	}
	var err error
	if r.rps, err = strconv.ParseFloat(rate[1], 64); err != nil {
		return r, err
	}
	done, failed, errored, timeout := requests[0], requests[2], requests[3], requests[4]
	r.succeeded, r.failed, r.body = status[0], failed+errored+timeout, traffic[0]
	if failed == done && errored+timeout == 0 && !slices.ContainsFunc(status, func(n int) bool { return n > 0 }) {
		r.succeeded, r.failed = done, 0
	}
	return r, nil
}

func numbers(re *regexp.Regexp, text string) []int {
	match := re.FindStringSubmatch(text)
	if match == nil {
		return nil
	}
	ns := make([]int, len(match)-1)
	for i, m := range match[1:] {
		n, err := strconv.Atoi(m)
		if err != nil {
			return nil
		}
		ns[i] = n
	}
	return ns
}
