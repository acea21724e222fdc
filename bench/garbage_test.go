package main

import (
	"strings"
	"testing"
	"time"
)

const goPage = `# TYPE go_gc_duration_seconds summary
go_gc_duration_seconds{quantile="0"} 2e-05
go_gc_duration_seconds{quantile="1"} 0.0004
go_gc_duration_seconds_sum 0.006
go_gc_duration_seconds_count 60
go_memstats_alloc_bytes_total 4e+06
go_memstats_mallocs_total 20000
go_cpu_classes_gc_total_cpu_seconds_total 0.5
go_cpu_classes_idle_cpu_seconds_total 90
go_cpu_classes_total_cpu_seconds_total 100
process_cpu_seconds_total 12
`

func TestParseGarbage(t *testing.T) {
	got, err := parseGarbage(goPage)
	if want := (garbage{4e6, 20000, 60, 0.006, 0.0004, 0.5, 10}); err != nil || got != want {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	if got.share() != 0.05 || got.pause() != 100*time.Microsecond {
		t.Errorf("share %v, pause %v", got.share(), got.pause())
	}
	for line := range strings.Lines(goPage) {
		if !strings.HasPrefix(line, "go_") || strings.Contains(line, `"0"`) {
			continue
		}
		if got, err := parseGarbage(strings.Replace(goPage, line, "", 1)); err == nil {
			t.Errorf("without %q: %+v", line, got)
		}
	}
	if _, err := parseGarbage("go_info x\n"); err == nil {
		t.Error("x was taken for a number")
	}
}

func TestGarbageOfTwoAndBetween(t *testing.T) {
	a, b := garbage{10, 20, 3, 4, 0.5, 6, 70}, garbage{1, 2, 1, 1, 0.9, 1, 10}
	if got, want := a.plus(b), (garbage{11, 22, 4, 5, 0.9, 7, 80}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got, want := a.minus(b), (garbage{9, 18, 2, 3, 0.5, 5, 60}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if (garbage{}).share() != 0 || (garbage{}).pause() != 0 {
		t.Error("a share of nothing")
	}
}
