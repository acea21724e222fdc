package main

import (
	"fmt"
	"strings"
	"testing"
)

const ran = `fairlead-kernels: Linux 6.1.0-56-amd64
=== RUN   TestA
=== RUN   TestA/x
--- PASS: TestA (0.10s)
    --- PASS: TestA/x (0.05s)
    layout_test.go:133: fl_guard  312 instructions,  1050 verified
=== RUN   TestGuard
    guard_test.go:1: %s
--- %s: TestGuard (0.00s)
PASS
%s
`

func TestRead(t *testing.T) {
	for _, c := range []struct {
		name, log string
		want      string // of the error; empty: none
	}{
		{"passed", fmt.Sprintf(ran, "fine", "PASS", "fairlead-kernels: tests ended with 0"), ""},
		{"below the minimum", fmt.Sprintf(ran, "tcx: needs Linux 6.6: x", "SKIP", "fairlead-kernels: tests ended with 0\r"), ""},
		{"not below it", fmt.Sprintf(ran, "tcx: needs Linux 6.1: x", "SKIP", "fairlead-kernels: tests ended with 0"), "skipped"},
		{"for another reason", fmt.Sprintf(ran, "needs root", "SKIP", "fairlead-kernels: tests ended with 0"), "skipped"},
		{"failed", fmt.Sprintf(ran, "no", "FAIL", "fairlead-kernels: tests ended with 1"), "ended with 1"},
		{"failed, but ended well", fmt.Sprintf(ran, "no", "FAIL", "fairlead-kernels: tests ended with 0"), "ended with 0"},
		{"cut off", fmt.Sprintf(ran, "fine", "PASS", "the machine ended with 124"), "did not end"},
		{"no machine", "qemu: no", "did not start"},
		{"no test", "fairlead-kernels: Linux 6.1.0\ntesting: warning: no tests to run\nfairlead-kernels: tests ended with 0\n", "no test ran"},
	} {
		out, err := read(strings.NewReader(c.log))
		if got := fmt.Sprint(err); c.want == "" && err != nil || !strings.Contains(got, c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
		if n := len(out.passed) + len(out.failed) + len(out.skipped); strings.Contains(c.log, "TestGuard") && n != 3 {
			t.Errorf("%s: %d results", c.name, n)
		}
		if strings.Contains(c.log, "TestGuard") && len(out.costs) != 1 {
			t.Errorf("%s: costs %q", c.name, out.costs)
		}
	}
}

func TestExcused(t *testing.T) {
	for _, c := range []struct {
		reason, kernel string
		want           bool
	}{
		{"x.go:1: tcx: needs Linux 6.6", "6.1.0-56-amd64", true},
		{"tcx: needs Linux 6.6", "6.6.0", false},
		{"tcx: needs Linux 6.6", "6.12.95+deb12-amd64", false},
		{"tcx: needs Linux 7.0", "6.12.95", true},
		{"tcx", "6.1.0", false},
		{"tcx: needs Linux 6.6", "", false},
	} {
		if got := excused(c.reason, c.kernel); got != c.want {
			t.Errorf("%q on %q: %v", c.reason, c.kernel, got)
		}
	}
}
