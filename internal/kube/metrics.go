package kube

import (
	"github.com/prometheus/client_golang/prometheus"
)

var (
	upDesc = prometheus.NewDesc("fairlead_controller_source_up",
		"1 if the API server has answered the last request for objects of a kind.", []string{"what"}, nil)
	eventsDesc = prometheus.NewDesc("fairlead_controller_source_events_total",
		"Objects that the API server has told, by kind.", []string{"kind"}, nil)
)

// Describe implements prometheus.Collector.
func (s *Source) Describe(ch chan<- *prometheus.Desc) {
	ch <- upDesc
	ch <- eventsDesc
}

// Collect implements prometheus.Collector.
func (s *Source) Collect(ch chan<- prometheus.Metric) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.mirrors {
		up := 0.0
		if m.synced && m.err == nil {
			up = 1
		}
		ch <- prometheus.MustNewConstMetric(upDesc, prometheus.GaugeValue, up, m.String())
	}
	for kind, n := range s.events {
		ch <- prometheus.MustNewConstMetric(eventsDesc, prometheus.CounterValue, float64(n), string(kind))
	}
}
