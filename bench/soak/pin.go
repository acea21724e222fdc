package soak

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// pin keeps every thread of a process on one processor. It looks three times: a thread that was being made has what its maker had.
func pin(pid, cpu int) error {
	var set unix.CPUSet
	set.Set(cpu)
	return eachThread(pid, func(tid int) error { return unix.SchedSetaffinity(tid, &set) })
}

// Yield has this process, from now on, take only the processor time that nobody else wants. Being nice is not enough: the kernel lets a
// nice program end its slice of some milliseconds before somebody who was woken.
func Yield() error {
	return eachThread(os.Getpid(), func(tid int) error {
		return unix.SchedSetAttr(tid, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE}, 0)
	})
}

func eachThread(pid int, do func(tid int) error) error {
	for range 3 {
		entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if err != nil {
			return err
		}
		for _, e := range entries {
			tid, err := strconv.Atoi(e.Name())
			if err != nil {
				return err
			}
			if err := do(tid); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("schedule thread %d: %w", tid, err)
			}
		}
	}
	return nil
}
