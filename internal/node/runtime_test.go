package node

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// What the answer to "a garbage collector" in docs/performance is read from.
func TestTheCollectorsShareIsTold(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(goCollector())
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for _, f := range families {
		there[f.GetName()] = true
	}
	for _, name := range []string{"go_cpu_classes_gc_total_cpu_seconds_total", "go_cpu_classes_idle_cpu_seconds_total", "go_cpu_classes_total_cpu_seconds_total",
		"go_gc_duration_seconds", "go_memstats_alloc_bytes_total", "go_memstats_mallocs_total"} {
		if !there[name] {
			t.Errorf("no %s", name)
		}
	}
}
