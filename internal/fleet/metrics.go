package fleet

import (
	"bytes"
	"context"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	corev1 "k8s.io/api/core/v1"
)

// Metrics is a scrape.
type Metrics map[string]*dto.MetricFamily

// Scrape reads the metrics of the pods' container.
func Scrape(ctx context.Context, f *Fleet, pods []corev1.Pod, container string) []Told[Metrics] {
	return Ask(ctx, f, pods, container, "/metrics", nil, ParseMetrics)
}

// ParseMetrics reads Prometheus' text format.
func ParseMetrics(text []byte) (Metrics, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	return parser.TextToMetricFamilies(bytes.NewReader(text))
}

// Value is that of a family's one metric.
func (m Metrics) Value(family string) (float64, bool) {
	f := m[family]
	if f == nil || len(f.Metric) == 0 {
		return 0, false
	}
	return number(f.Metric[0]), true
}

// Label is a label of a family's first metric, such as the version of fairlead_build_info.
func (m Metrics) Label(family, label string) string {
	if f := m[family]; f != nil && len(f.Metric) > 0 {
		return labels(f.Metric[0])[label]
	}
	return ""
}

func number(m *dto.Metric) float64 {
	switch {
	case m.Counter != nil:
		return m.Counter.GetValue()
	case m.Gauge != nil:
		return m.Gauge.GetValue()
	}
	return m.Untyped.GetValue()
}

func labels(m *dto.Metric) map[string]string {
	all := make(map[string]string, len(m.Label))
	for _, l := range m.Label {
		all[l.GetName()] = l.GetValue()
	}
	return all
}
