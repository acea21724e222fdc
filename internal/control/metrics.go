package control

import (
	"crypto/tls"

	"github.com/prometheus/client_golang/prometheus"

	"fairlead.io/fairlead/internal/identity"
)

type metrics struct {
	issued   *prometheus.CounterVec
	refused  *prometheus.CounterVec
	denied   *prometheus.CounterVec
	released *prometheus.CounterVec
	messages *prometheus.CounterVec
	streams  *prometheus.GaugeVec
}

func newMetrics() *metrics {
	counter := func(name, help, label string, values ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "fairlead_controller_" + name, Help: help}, []string{label})
		for _, v := range values {
			c.WithLabelValues(v)
		}
		return c
	}
	m := &metrics{
		issued: counter("certificate_requests_total", "Certificate requests by result.", "result",
			"signed", "refused", "unauthenticated", "wrong_node"),
		refused: counter("handshakes_refused_total", "TLS handshakes refused by cause.", "cause"),
		denied:  counter("streams_denied_total", "Streams denied because the caller may not have them.", "stream", "pods", "discover"),
		released: counter("pods_released_total", "Pods released from the mesh, by whether all proxies had acknowledged.", "reason",
			"acknowledged", "deadline"),
		messages: counter("messages_total", "Messages sent to nodes.", "stream", "pods", "discover"),
		streams: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "fairlead_controller_streams", Help: "Open streams of nodes.",
		}, []string{"stream"}),
	}
	for _, c := range identity.Causes() {
		m.refused.WithLabelValues(c.String())
	}
	m.streams.WithLabelValues("pods")
	m.streams.WithLabelValues("discover")
	return m
}

func (m *metrics) countRefusals(verify func(tls.ConnectionState) error) func(tls.ConnectionState) error {
	return func(cs tls.ConnectionState) error {
		err := verify(cs)
		if cause, ok := identity.CauseOf(err); ok {
			m.refused.WithLabelValues(cause.String()).Inc()
		}
		return err
	}
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.issued, m.refused, m.denied, m.released, m.messages, m.streams}
}

// Describe and Collect make the Server a prometheus.Collector.
func (s *Server) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range s.metrics.all() {
		c.Describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (s *Server) Collect(ch chan<- prometheus.Metric) {
	for _, c := range s.metrics.all() {
		c.Collect(ch)
	}
}
