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

// Which processor runs what. What a proxy costs is only seen when nothing else runs beside it.
const (
	loadCPU  = 0
	proxyCPU = 1
)

// pin keeps every thread of a process on one processor, and with them all that they start from now on.
func pin(pid, cpu int) error {
	var set unix.CPUSet
	set.Set(cpu)
	for range 100 {
		tids, err := threads(pid)
		if err != nil {
			return err
		}
		for _, tid := range tids {
			if err := unix.SchedSetaffinity(tid, &set); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("pin thread %d to processor %d: %w", tid, cpu, err)
			}
		}
		// A thread that was being made meanwhile has what its maker had.
		if pinned(pid, cpu) == nil {
			return nil
		}
	}
	return fmt.Errorf("pin process %d to processor %d: %w", pid, cpu, pinned(pid, cpu))
}

// pinned is an error unless every thread of the process may run on that processor alone.
func pinned(pid, cpu int) error {
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
		if allowed := statusField(string(status), "Cpus_allowed_list"); allowed != strconv.Itoa(cpu) {
			return fmt.Errorf("thread %d of %s runs on processors %q, not on %d alone", tid, statusField(string(status), "Name"), allowed, cpu)
		}
	}
	return nil
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
