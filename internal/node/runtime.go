package node

import (
	"regexp"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// collectorsTime are the runtime's estimates by which the garbage collector's share of the processor can be told: all three come from
// the same clock, and may only be compared with each other.
var collectorsTime = regexp.MustCompile(`^/cpu/classes/(gc/total|idle|total):cpu-seconds$`)

// goCollector is what there is to know of the Go runtime.
func goCollector() prometheus.Collector {
	return collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(collectors.GoRuntimeMetricsRule{Matcher: collectorsTime}))
}
