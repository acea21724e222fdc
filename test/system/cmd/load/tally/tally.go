// Package tally is what a load program reports: how each of its operations ended.
package tally

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Report counts operations by their end.
type Report struct {
	OK      int // answered as expected
	Refused int // ECONNREFUSED
	Reset   int // the connection was reset or closed before the answer was whole
	Hung    int // nothing came within the limit
	Other   int
	Status  map[int]int    // answers of HTTP that are not 200
	Servers map[string]int // who answered
	// Latency is of the good ones and of the bad ones, in milliseconds.
	MaxOK, P99OK, MaxBad float64
	First                []string // the first few bad ones
}

// Bad is how many operations did not end as expected.
func (r Report) Bad() int {
	n := r.Refused + r.Reset + r.Hung + r.Other
	for _, c := range r.Status {
		n += c
	}
	return n
}

// String is the report in a line or a few.
func (r Report) String() string {
	b, err := json.Marshal(r)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// StatusError is an answer of HTTP that is not 200.
type StatusError struct {
	Code int
	Text string
}

func (e *StatusError) Error() string { return fmt.Sprintf("status %d: %s", e.Code, e.Text) }

// maxFirst bounds Report.First, maxSamples the latencies that are kept.
const (
	maxFirst   = 8
	maxSamples = 1 << 18
)

// Tally is a report in the making. Its methods may be called from several goroutines.
type Tally struct {
	mu      sync.Mutex // protects the rest
	began   time.Time
	report  Report
	samples []float64
}

// New starts a tally.
func New() *Tally {
	return &Tally{began: time.Now(), report: Report{Status: map[int]int{}, Servers: map[string]int{}}}
}

// Add counts an operation that began at that time.
func (t *Tally) Add(began time.Time, server string, err error) {
	took := float64(time.Since(began).Microseconds()) / 1000
	t.mu.Lock()
	defer t.mu.Unlock()
	if err == nil {
		t.report.OK++
		t.report.Servers[server]++
		t.report.MaxOK = max(t.report.MaxOK, took)
		if len(t.samples) < maxSamples {
			t.samples = append(t.samples, took)
		}
		return
	}
	t.report.MaxBad = max(t.report.MaxBad, took)
	t.count(err)
	if len(t.report.First) < maxFirst {
		t.report.First = append(t.report.First, fmt.Sprintf("at %v, after %.0f ms: %v", began.Sub(t.began).Round(time.Millisecond), took, err))
	}
}

func (t *Tally) count(err error) {
	var status *StatusError
	var timeout net.Error
	switch {
	case errors.As(err, &status):
		t.report.Status[status.Code]++
	case errors.Is(err, syscall.ECONNREFUSED):
		t.report.Refused++
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, os.ErrDeadlineExceeded):
		t.report.Hung++
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		t.report.Reset++
	default:
		t.report.Other++
	}
}

// Report is what was counted so far.
func (t *Tally) Report() Report {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.report
	if n := len(t.samples); n > 0 {
		slices.Sort(t.samples)
		r.P99OK = t.samples[n*99/100]
	}
	return r
}
