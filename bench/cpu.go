package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cpuTime is what a process has spent on a processor so far, of its threads that have ended too, to the nanosecond. It is the sum
// that the first number of /proc/PID/task/*/schedstat is of the living.
func cpuTime(pid int) (time.Duration, error) {
	const scheduled = 2 // clock_getcpuclockid(3): the process's number inverted, and which of its clocks
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|scheduled), &t); err != nil {
		return 0, fmt.Errorf("read the clock of process %d: %w", pid, err)
	}
	return time.Duration(t.Nano()), nil
}

// cpuTimes is the sum of several processes.
func cpuTimes(pids []int) (time.Duration, error) {
	var sum time.Duration
	for _, pid := range pids {
		t, err := cpuTime(pid)
		if err != nil {
			return 0, err
		}
		sum += t
	}
	return sum, nil
}

// schedstat is the same of the threads that live.
func schedstat(pid int) (time.Duration, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // it has ended
		}
		t, err := parseSchedstat(string(b))
		if err != nil {
			return 0, err
		}
		sum += t
	}
	return sum, nil
}

func parseSchedstat(text string) (time.Duration, error) {
	first, _, _ := strings.Cut(strings.TrimSpace(text), " ")
	ns, err := strconv.ParseInt(first, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("parse schedstat %q: %w", text, err)
	}
	return time.Duration(ns), nil
}
