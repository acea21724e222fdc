package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

func TestParseRequestLog(t *testing.T) {
	got, err := parseRequestLog("1764554123000500\t200\t900\n1764554123000000\t0\t300\n")
	want := []request{{time.UnixMicro(1764554123000300), 300 * time.Microsecond}, {time.UnixMicro(1764554123001400), 900 * time.Microsecond}}
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
	for _, bad := range []string{"1 200\n", "1 200 soon\n", "now 200 1\n"} {
		if _, err := parseRequestLog(bad); err == nil {
			t.Errorf("%q was taken for a log", bad)
		}
	}
}

// 1000 requests a second that cost 10 µs each, after connections that have cost 100 ms.
func TestBetween(t *testing.T) {
	began := time.UnixMicro(1764554123000000)
	var requests []request
	var marks []mark
	for ms := 1; ms <= 2000; ms++ {
		requests = append(requests, request{began.Add(time.Duration(ms) * time.Millisecond), time.Duration(ms) * time.Microsecond})
	}
	for ms := 0; ms < 2200; ms += 25 {
		cpu := time.Duration(min(ms, 2000))*10*time.Microsecond + 100*time.Millisecond
		if ms == 0 {
			cpu = 0
		}
		marks = append(marks, mark{began.Add(time.Duration(ms) * time.Millisecond), spending{cpu, cpu / 4}})
	}
	got, err := between(marks, requests)
	// From 325 ms to 2000 ms.
	want := steady{cpu: 10 * time.Microsecond, user: 0.25, p50: 1163 * time.Microsecond, p99: 1984 * time.Microsecond, rps: 1000}
	if err != nil || got != want {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	for name, tc := range map[string]struct {
		marks    []mark
		requests []request
	}{"no requests": {marks, nil}, "no marks": {nil, requests}, "too short": {marks, requests[:310]}} {
		if got, err := between(tc.marks, tc.requests); err == nil || errors.Is(err, errShort) != (name != "no requests") {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestWatch(t *testing.T) {
	stop := watch(t.Context(), []int{os.Getpid()})
	burn(100 * time.Millisecond)
	marks, err := stop()
	if err != nil || len(marks) < 2 || marks[len(marks)-1].cpu.minus(marks[0].cpu).all < 50*time.Millisecond {
		t.Errorf("%v, %v", marks, err)
	}
	if _, err := watch(t.Context(), []int{1 << 28})(); err == nil || !strings.Contains(err.Error(), "clock") {
		t.Errorf("of a process that is not there: %v", err)
	}
}
