// Package proc starts the processes of a cluster, and knows them again.
//
// Promises:
//  1. A process is its number and the time it was started at: one that has got a number of ours by chance is never
//     taken for ours, nor ended.
//  2. A process that was started does nothing until it has been recorded; if its parent ends before that, it ends too.
//     So what is not in the records does not exist.
package proc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// ID names a process for ever.
type ID struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // in clock ticks since the machine was started
}

// Of returns the ID of the process that has the number now.
func Of(pid int) (ID, error) {
	start, _, err := stat(pid)
	if err != nil {
		return ID{}, fmt.Errorf("read the start time of process %d: %w", pid, err)
	}
	return ID{PID: pid, Start: start}, nil
}

// Alive says whether the process still runs. One that has ended and only waits to be reaped does not.
func (id ID) Alive() bool {
	if id.PID <= 0 {
		return false
	}
	start, state, err := stat(id.PID)
	return err == nil && start == id.Start && state != 'Z' && state != 'X'
}

// Kill ends the process as a crash would, and waits until it is gone.
func (id ID) Kill(ctx context.Context) error {
	if !id.Alive() {
		return nil
	}
	fd, err := unix.PidfdOpen(id.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open process %d: %w", id.PID, err)
	}
	defer unix.Close(fd)
	if !id.Alive() { // the descriptor is of whoever had the number when it was opened; that is ours only if it still is
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("end process %d: %w", id.PID, err)
	}
	return id.waitGone(ctx)
}

func (id ID) waitGone(ctx context.Context) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for id.Alive() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("process %d does not end: %w", id.PID, ctx.Err())
		case <-tick.C:
		}
	}
	return nil
}

func stat(pid int) (start uint64, state byte, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, err
	}
	return parseStat(b)
}

// parseStat reads a line of /proc/PID/stat. The name in it may hold anything, so fields are counted from its end.
func parseStat(line []byte) (start uint64, state byte, err error) {
	const startField = 22 - 3 // the first field behind the name is the third
	fields := bytes.Fields(line[bytes.LastIndexByte(line, ')')+1:])
	if len(fields) <= startField || len(fields[0]) != 1 {
		return 0, 0, errors.New("not a line of /proc/PID/stat")
	}
	start, err = strconv.ParseUint(string(fields[startField]), 10, 64)
	return start, fields[0][0], err
}
