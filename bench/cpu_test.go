package main

import (
	"os"
	"runtime"
	"slices"
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

func TestParseUser(t *testing.T) {
	if got, err := parseUser("4711 (a) b (c)) S 1 4711 4711 0 -1 4194560 9000 0 12 0 321 123 0 0 20 0 9 0 8131 1\n"); err != nil || got != 3210*time.Millisecond {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"", "1 (a) S 1 1 1", "1 (a) S 1 4711 4711 0 -1 4194560 9000 0 12 0 x 123 0"} {
		if got, err := parseUser(bad); err == nil {
			t.Errorf("%q: %v", bad, got)
		}
	}
}

// burn spends that much of a processor.
func burn(d time.Duration) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	spent := func() time.Duration {
		var t unix.Timespec
		_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t) // there always
		return time.Duration(t.Nano())
	}
	for end := spent() + d; spent() < end; {
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
	if all < living { // more by what earlier threads have spent
		t.Errorf("the clock says %v, schedstat %v", all, living)
	}
	ended := make(chan int, 1)
	var spend func()
	spend = func() {
		runtime.LockOSThread() // never unlocked: the thread ends
		if unix.Gettid() == pid {
			go spend() // the main one does not end, and being held it is not taken again
			return
		}
		burn(100 * time.Millisecond)
		ended <- unix.Gettid()
	}
	go spend()
	tid := <-ended
	for deadline := time.Now().Add(5 * time.Second); ; {
		tids, err := threads(pid)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(tids, tid) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("thread %d has not ended", tid)
		}
		time.Sleep(time.Millisecond) // a poll's pause
	}
	after, err := cpuTime(pid)
	if err != nil || after-all < 100*time.Millisecond {
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
		if os.Getenv("CI") == "true" {
			t.Fatal("two processors are needed")
		}
		t.Skip("two processors are needed")
	}
	defer func() {
		tids, _ := threads(pid)
		for _, tid := range tids {
			_ = unix.SchedSetaffinity(tid, &before)
		}
	}()
	if err := pinned(pid, []int{0}); err == nil {
		t.Error("pinned before")
	}
	if err := pin(pid, []int{0}); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // on a thread that is made for it
		done <- pinned(pid, []int{0})
	}()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
