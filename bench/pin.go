package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// places are which processors run what. What a proxy costs is only seen when nothing else runs beside it.
type places struct{ load, proxies []int }

// apart gives the proxies one processor, and load and origins another.
func apart() places { return places{load: []int{0}, proxies: []int{1}} }

// spread gives the proxies one or two of so many processors, and load and origins the same ones in both cases: two that the proxies
// do not have, or, where there are too few for that, all that there are when the proxies have two.
func spread(have, proxies int) (p places, isShared bool) {
	if have >= 4 {
		return places{load: []int{0, 3}, proxies: []int{1, 2}[:proxies]}, false
	}
	if proxies == 1 {
		return apart(), true
	}
	return places{load: []int{0, 1}, proxies: []int{0, 1}}, true
}

// pin keeps every thread of a process on some processors, and with them all that they start from now on.
func pin(pid int, cpus []int) error {
	var set unix.CPUSet
	for _, cpu := range cpus {
		set.Set(cpu)
	}
	for range 100 {
		tids, err := threads(pid)
		if err != nil {
			return err
		}
		for _, tid := range tids {
			if err := unix.SchedSetaffinity(tid, &set); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("pin thread %d to processors %v: %w", tid, cpus, err)
			}
		}
		// A thread that was being made meanwhile has what its maker had.
		if pinned(pid, cpus) == nil {
			return nil
		}
	}
	return fmt.Errorf("pin process %d to processors %v: %w", pid, cpus, pinned(pid, cpus))
}

// pinned is an error unless every thread of the process may run on those processors alone.
func pinned(pid int, cpus []int) error {
	want := cpuList(cpus)
	tids, err := threads(pid)
	if err != nil {
		return err
	}
	for _, tid := range tids {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/status", pid, tid))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue
		}
		if err != nil {
			return err
		}
		if allowed := statusField(string(status), "Cpus_allowed_list"); allowed != want {
			return fmt.Errorf("thread %d of %s runs on processors %q, not on %s alone", tid, statusField(string(status), "Name"), allowed, want)
		}
	}
	return nil
}

// cpuList writes processors, which are in order, as the kernel does: neighbours as a range.
func cpuList(cpus []int) string {
	var b strings.Builder
	for i := 0; i < len(cpus); i++ {
		if i > 0 {
			b.WriteByte(',')
		}
		first := cpus[i]
		for i+1 < len(cpus) && cpus[i+1] == cpus[i]+1 {
			i++
		}
		b.WriteString(strconv.Itoa(first))
		if cpus[i] != first {
			fmt.Fprintf(&b, "-%d", cpus[i])
		}
	}
	return b.String()
}

func statusField(status, name string) string {
	for line := range strings.Lines(status) {
		if v, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

func threads(pid int) ([]int, error) {
	dirs, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/[0-9]*", pid))
	if err != nil {
		return nil, err
	}
	if len(dirs) == 0 {
		return nil, fmt.Errorf("process %d has ended", pid)
	}
	tids := make([]int, len(dirs))
	for i, d := range dirs {
		if tids[i], err = strconv.Atoi(filepath.Base(d)); err != nil {
			return nil, err
		}
	}
	return tids, nil
}
