package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// markEvery is how often the proxies' clocks are read while a load runs, and markLimit how long such a look may take to be used.
	markEvery = 25 * time.Millisecond
	markLimit = 2 * time.Millisecond
	// settling is the time after the first answer in which connections are still being made.
	settling = 300 * time.Millisecond
)

// mark is what proxies had spent at a moment.
type mark struct {
	at  time.Time
	cpu spending
}

// watch reads the clocks of processes until it is stopped, and then gives all marks.
func watch(ctx context.Context, pids []int) (stop func() ([]mark, error)) {
	type seen struct {
		marks []mark
		err   error
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan seen, 1)
	go func() {
		tick := time.NewTicker(markEvery)
		defer tick.Stop()
		var s seen
		for {
			before := time.Now()
			cpu, err := spent(pids)
			if after := time.Now(); err == nil && after.Sub(before) < markLimit {
				s.marks = append(s.marks, mark{before.Add(after.Sub(before) / 2), cpu})
			}
			s.err = errors.Join(s.err, err)
			select {
			case <-ctx.Done():
				done <- s
				return
			case <-tick.C:
			}
		}
	}()
	return func() ([]mark, error) {
		cancel()
		s := <-done
		return s.marks, s.err
	}
}

// request is a line of h2load's log.
type request struct {
	end  time.Time
	took time.Duration
}

// parseRequestLog reads h2load's log: in each line when a request began, its status, and how many microseconds it took.
func parseRequestLog(text string) ([]request, error) {
	var all []request
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 3 {
			return nil, fmt.Errorf("a line of h2load's log: %q", line)
		}
		began, err := strconv.ParseInt(fields[0], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("a line of h2load's log: %w", err)
		}
		took, err := strconv.ParseInt(fields[2], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("a line of h2load's log: %w", err)
		}
		all = append(all, request{end: time.UnixMicro(began + took), took: time.Duration(took) * time.Microsecond})
	}
	slices.SortFunc(all, func(a, b request) int { return a.end.Compare(b.end) })
	return all, nil
}

// errShort says that a load was over before it could be measured.
var errShort = errors.New("too short to measure")

// steady is the part of a run in which requests went over connections that were there.
type steady struct {
	cpu      time.Duration // for one request
	user     float64       // the share of it that was not spent in the kernel
	p50, p99 time.Duration
	rps      float64
}

// between takes the first mark after the connections were made and the last before the last answer, and what was answered meanwhile.
func between(marks []mark, requests []request) (steady, error) {
	if len(requests) == 0 {
		return steady{}, errors.New("h2load's log is empty")
	}
	begin, end := requests[0].end.Add(settling), requests[len(requests)-1].end
	marks = slices.DeleteFunc(slices.Clone(marks), func(m mark) bool { return m.at.Before(begin) || m.at.After(end) })
	if len(marks) < 2 {
		return steady{}, fmt.Errorf("the load took %v: %w", end.Sub(requests[0].end), errShort)
	}
	first, last := marks[0], marks[len(marks)-1]
	var took []time.Duration
	for _, r := range requests {
		if r.end.After(first.at) && !r.end.After(last.at) {
			took = append(took, r.took)
		}
	}
	if len(took) == 0 {
		return steady{}, errors.New("nothing was answered while it was measured")
	}
	slices.Sort(took)
	cpu := last.cpu.minus(first.cpu)
	return steady{cpu: cpu.all / time.Duration(len(took)), user: cpu.share(), p50: took[len(took)/2], p99: took[len(took)*99/100],
		rps: float64(len(took)) / last.at.Sub(first.at).Seconds()}, nil
}
