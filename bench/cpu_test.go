package main

import (
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestParseSchedstat(t *testing.T) {
	if got, err := parseSchedstat("123456789 42 7\n"); err != nil || got != 123456789 {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"", "x 1 2", "-"} {
		if _, err := parseSchedstat(bad); err == nil {
			t.Errorf("%q was parsed", bad)
		}
	}
}

// burn keeps the calling thread busy.
func burn(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		_ = unix.Getpid()
	}
}

// The clock counts what schedstat counts, and keeps what threads have spent that have ended.
func TestCPUTime(t *testing.T) {
	pid := os.Getpid()
	burn(20 * time.Millisecond)
	living, err := schedstat(pid)
	if err != nil {
		t.Fatal(err)
	}
	all, err := cpuTime(pid)
	if err != nil {
		t.Fatal(err)
	}
	if all < living-time.Millisecond || all-living > 50*time.Millisecond {
		t.Errorf("the clock says %v, schedstat %v", all, living)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread() // never unlocked: the thread ends
		burn(100 * time.Millisecond)
	}()
	<-ended
	for deadline := time.Now().Add(5 * time.Second); ; {
		now, err := schedstat(pid)
		if err != nil {
			t.Fatal(err)
		}
		if now < living+50*time.Millisecond {
			break // the thread is gone, and with it what schedstat knew of it
		}
		if time.Now().After(deadline) {
			t.Fatalf("the thread has not ended: %v, was %v", now, living)
		}
		runtime.Gosched()
	}
	after, err := cpuTime(pid)
	if err != nil || after-all < 20*time.Millisecond {
		t.Errorf("of a thread that spent 100 ms, %v are left, %v", after-all, err)
	}
	if _, err := cpuTime(1 << 28); err == nil {
		t.Error("a process that is not there has a clock")
	}
}

func TestPin(t *testing.T) {
	pid := os.Getpid()
	var before unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		t.Fatal(err)
	}
	if before.Count() < 2 || !before.IsSet(0) {
		t.Skip("one processor: nothing to choose from")
	}
	defer func() {
		tids, _ := threads(pid)
		for _, tid := range tids {
			_ = unix.SchedSetaffinity(tid, &before)
		}
	}()
	if err := pinned(pid, 0); err == nil {
		t.Error("pinned before")
	}
	if err := pin(pid, 0); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // on a thread that is made for it
		done <- pinned(pid, 0)
	}()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
