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

// spending is what processes have spent together.
type spending struct{ all, user time.Duration }

func (s spending) minus(o spending) spending { return spending{s.all - o.all, s.user - o.user} }

// share is how much of all was spent outside the kernel.
func (s spending) share() float64 {
	if s.all <= 0 {
		return 0
	}
	return float64(s.user) / float64(s.all)
}

// spent is the sum of several processes.
func spent(pids []int) (spending, error) {
	var sum spending
	for _, pid := range pids {
		all, err := cpuTime(pid)
		if err != nil {
			return sum, err
		}
		user, err := userTime(pid)
		if err != nil {
			return sum, err
		}
		sum.all, sum.user = sum.all+all, sum.user+user
	}
	return sum, nil
}

// userTime is how much of it was spent outside the kernel, as far as the kernel's ticks tell.
func userTime(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	return parseUser(string(b))
}

// parseUser reads utime of /proc/PID/stat, the 14th field. The second may hold spaces and brackets.
func parseUser(stat string) (time.Duration, error) {
	const tick = 10 * time.Millisecond // USER_HZ, the same everywhere
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 12 {
		return 0, fmt.Errorf("parse stat %q", stat)
	}
	n, err := strconv.ParseInt(fields[11], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("parse stat: %w", err)
	}
	return time.Duration(n) * tick, nil
}

// schedstat is what cpuTime is, of the threads that live.
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
