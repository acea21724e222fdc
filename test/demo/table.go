package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// edge is who calls whom, and how.
type edge struct{ src, dst, service, protocol, tls string }

// sample is what has been counted of an edge until a moment.
type sample struct {
	at               time.Time
	requests, failed float64
	buckets          map[float64]float64 // upper bound to count
}

// scrape reads the callers' side of every request from all proxies.
func (s *stage) scrape(ctx context.Context) (map[edge]sample, error) {
	all := map[edge]sample{}
	for _, n := range s.mesh.Nodes {
		body, err := n.Admin(ctx, "/metrics")
		if err != nil {
			return nil, err
		}
		parser := expfmt.NewTextParser(model.UTF8Validation)
		families, err := parser.TextToMetricFamilies(bytes.NewReader(body))
		if err != nil {
			return nil, fmt.Errorf("parse metrics of %s: %w", n.Name, err)
		}
		for _, m := range families["fairlead_requests_total"].GetMetric() {
			addRequests(all, m)
		}
		for _, m := range families["fairlead_request_duration_seconds"].GetMetric() {
			addDurations(all, m)
		}
	}
	return all, nil
}

func labels(m *dto.Metric) map[string]string {
	l := map[string]string{}
	for _, p := range m.GetLabel() {
		l[p.GetName()] = p.GetValue()
	}
	return l
}

func edgeOf(l map[string]string) (edge, bool) {
	return edge{l["src_workload"], l["dst_workload"], l["dst_service"], l["protocol"], l["tls"]}, l["direction"] == "outbound"
}

func at(all map[edge]sample, e edge) sample {
	s, ok := all[e]
	if !ok {
		s = sample{at: time.Now(), buckets: map[float64]float64{}}
	}
	return s
}

func addRequests(all map[edge]sample, m *dto.Metric) {
	l := labels(m)
	e, ok := edgeOf(l)
	if !ok {
		return
	}
	s := at(all, e)
	n := m.GetCounter().GetValue()
	s.requests += n
	if l["status"] == "5xx" || l["status"] == "none" || l["grpc_status"] != "" && l["grpc_status"] != "OK" {
		s.failed += n
	}
	all[e] = s
}

func addDurations(all map[edge]sample, m *dto.Metric) {
	e, ok := edgeOf(labels(m))
	if !ok {
		return
	}
	s := at(all, e)
	for _, b := range m.GetHistogram().GetBucket() {
		s.buckets[b.GetUpperBound()] += float64(b.GetCumulativeCount())
	}
	all[e] = s
}

// identities are, by service, whom its servers have proved to be, as the callers' proxies have verified it.
func (s *stage) identities(ctx context.Context) (map[string]string, error) {
	routes, err := s.routes(ctx)
	proved := map[string]string{}
	for _, r := range routes {
		if r.Identity != "" {
			proved[r.Service] = r.Identity
		}
	}
	return proved, err
}

// table draws the edges, with rates since the last time.
func table(now, last map[edge]sample, proved map[string]string) string {
	var edges []edge
	for e := range now {
		edges = append(edges, e)
	}
	slices.SortFunc(edges, func(a, b edge) int {
		return cmp.Or(cmp.Compare(a.src, b.src), cmp.Compare(a.dst, b.dst), cmp.Compare(a.protocol, b.protocol))
	})
	var b strings.Builder
	fmt.Fprintf(&b, "\n  %-9s %-9s %-9s %-6s %7s %8s %8s %8s  %-12s %s\n", "FROM", "TO", "SERVICE", "PROTO", "RPS", "SUCCESS", "P50", "P99", "MTLS", "IDENTITY")
	for _, e := range edges {
		d := now[e].since(last[e])
		identity := "-"
		if e.tls == "mtls" {
			identity = proved[namespace+"/"+e.service]
		}
		fmt.Fprintf(&b, "  %-9s %-9s %-9s %-6s %7.1f %8s %8s %8s  %-12s %s\n", e.src, e.dst, e.service, e.protocol, d.rate(now[e].at.Sub(last[e].at)),
			d.success(), d.quantile(0.5), d.quantile(0.99), e.tls, identity)
	}
	return b.String()
}

func (s sample) since(last sample) sample {
	d := sample{requests: s.requests - last.requests, failed: s.failed - last.failed, buckets: map[float64]float64{}}
	for bound, n := range s.buckets {
		d.buckets[bound] = n - last.buckets[bound]
	}
	return d
}

func (s sample) rate(over time.Duration) float64 {
	if over <= 0 || over > time.Hour { // the first time: there is no last
		return 0
	}
	return s.requests / over.Seconds()
}

func (s sample) success() string {
	if s.requests == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f%%", 100*(1-s.failed/s.requests))
}

// quantile is the upper bound of the bucket that holds it.
func (s sample) quantile(q float64) string {
	var bounds []float64
	total := 0.0
	for b, n := range s.buckets {
		bounds = append(bounds, b)
		total = max(total, n)
	}
	slices.Sort(bounds)
	for _, b := range bounds {
		if total > 0 && s.buckets[b] >= q*total && !math.IsInf(b, 1) {
			return "<" + time.Duration(b*float64(time.Second)).String()
		}
	}
	return "-"
}
