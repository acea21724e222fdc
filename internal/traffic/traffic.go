// Package traffic is what passes between workloads, from the metrics of the nodes at two moments.
//
// Promises:
//  1. It needs no Prometheus: two scrapes of each proxy are enough, and their difference is what passed between them.
//  2. A request between two meshed pods, which both ends count, counts once (see Row).
//  3. A proxy that was restarted between the scrapes is counted from its start; one that was there once is left out.
package traffic

import (
	"time"

	dto "github.com/prometheus/client_model/go"

	"fairlead.io/fairlead/internal/fleet"
	"fairlead.io/fairlead/internal/mesh"
	"fairlead.io/fairlead/internal/node/debug"
)

// Pair is the labels of what both ends of a hop have in common.
type Pair struct {
	Direction string // inbound or outbound
	Src, Dst  mesh.Name
	Service   mesh.Name
	TLS       string
}

// Counts is what passed.
type Counts struct {
	Requests, Failures float64
	Seconds            float64
	Latency            [len(debug.Buckets) + 1]float64 // requests by duration
	Open               float64                         // TCP connections, now
	Opened             float64
	Received, Sent     float64       // bytes
	Elapsed            time.Duration // in which it did; 0 if that is not known
}

// Add puts what passed elsewhere in the same time to it.
func (c *Counts) Add(o *Counts) {
	c.Requests += o.Requests
	c.Failures += o.Failures
	c.Seconds += o.Seconds
	for i := range c.Latency {
		c.Latency[i] += o.Latency[i]
	}
	c.Open += o.Open
	c.Opened += o.Opened
	c.Received += o.Received
	c.Sent += o.Sent
}

// Since is what came after earlier. Counters that went down were started anew meanwhile.
func (c *Counts) Since(earlier *Counts) *Counts {
	d := *c
	minus := func(now *float64, then float64) {
		if then <= *now {
			*now -= then
		}
	}
	minus(&d.Requests, earlier.Requests)
	minus(&d.Failures, earlier.Failures)
	minus(&d.Seconds, earlier.Seconds)
	for i := range d.Latency {
		minus(&d.Latency[i], earlier.Latency[i])
	}
	minus(&d.Opened, earlier.Opened)
	minus(&d.Received, earlier.Received)
	minus(&d.Sent, earlier.Sent)
	return &d
}

// read collects a scrape by pairs.
func read(m fleet.Metrics) map[Pair]*Counts {
	all := map[Pair]*Counts{}
	each := func(family string, count func(*Counts, *dto.Metric, map[string]string)) {
		f := m[family]
		if f == nil {
			return
		}
		for _, metric := range f.Metric {
			labels := map[string]string{}
			for _, l := range metric.Label {
				labels[l.GetName()] = l.GetValue()
			}
			p := pairOf(labels)
			if all[p] == nil {
				all[p] = &Counts{}
			}
			count(all[p], metric, labels)
		}
	}
	each("fairlead_requests_total", func(c *Counts, m *dto.Metric, l map[string]string) {
		c.Requests += m.Counter.GetValue()
		if failed(l["status"], l["grpc_status"]) {
			c.Failures += m.Counter.GetValue()
		}
	})
	each("fairlead_request_duration_seconds", func(c *Counts, m *dto.Metric, _ map[string]string) { c.observe(m.Histogram) })
	each("fairlead_tcp_connections_open", func(c *Counts, m *dto.Metric, _ map[string]string) { c.Open += m.Gauge.GetValue() })
	each("fairlead_tcp_connections_opened_total", func(c *Counts, m *dto.Metric, _ map[string]string) { c.Opened += m.Counter.GetValue() })
	each("fairlead_tcp_received_bytes_total", func(c *Counts, m *dto.Metric, _ map[string]string) { c.Received += m.Counter.GetValue() })
	each("fairlead_tcp_sent_bytes_total", func(c *Counts, m *dto.Metric, _ map[string]string) { c.Sent += m.Counter.GetValue() })
	return all
}

func pairOf(l map[string]string) Pair {
	return Pair{
		Direction: l["direction"],
		Src:       mesh.Name{Namespace: l["src_namespace"], Name: l["src_workload"]},
		Dst:       mesh.Name{Namespace: l["dst_namespace"], Name: l["dst_workload"]},
		Service:   mesh.Name{Namespace: l["dst_service_namespace"], Name: l["dst_service"]},
		TLS:       l["tls"],
	}
}

// failed is the proxy's own rule, by the labels: a 5xx, no response, or a gRPC status that is the server's fault.
func failed(status, grpc string) bool {
	switch grpc {
	case "UNKNOWN", "DEADLINE_EXCEEDED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS":
		return true
	}
	return status == "5xx" || status == "none"
}

// observe adds a histogram, whose buckets are cumulative.
func (c *Counts) observe(h *dto.Histogram) {
	c.Seconds += h.GetSampleSum()
	below, at := 0.0, 0
	for _, b := range h.GetBucket() {
		for at < len(debug.Buckets) && debug.Buckets[at] < b.GetUpperBound() {
			at++
		}
		at = min(at, len(c.Latency)-1)
		c.Latency[at] += float64(b.GetCumulativeCount()) - below
		below = float64(b.GetCumulativeCount())
	}
	c.Latency[len(c.Latency)-1] += float64(h.GetSampleCount()) - below
}

// Of is what a proxy tells of one of its pods.
func Of(t debug.Traffic) *Counts {
	c := &Counts{
		Requests: float64(t.Requests), Failures: float64(t.Failures), Seconds: t.Seconds, Open: float64(t.Open),
		Opened: float64(t.Opened), Received: float64(t.Received), Sent: float64(t.Sent),
	}
	for i, n := range t.Latency {
		if i < len(c.Latency) {
			c.Latency[i] = float64(n)
		}
	}
	return c
}
