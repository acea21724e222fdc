package node

import (
	"context"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fairlead.io/fairlead/internal/mesh"
)

// scrapeTimeout bounds how long a scrape waits for the keeper.
const scrapeTimeout = time.Second

// nodeCollector reads, at each scrape, what the keeper counts and when certificates end.
type nodeCollector struct {
	keeper Keeper
	creds  *credentials
	pods   *pods
	// workload names a local pod's.
	workload func(uid string) mesh.Name
}

var (
	verdictDesc = prometheus.NewDesc("fairlead_bpf_verdicts_total", "Decisions of the eBPF programs on this node.", []string{"verdict"}, nil)
	keeperDesc  = prometheus.NewDesc("fairlead_keeper_events_total", "What the keeper counts: refused messages of a proxy, signatures, enrolments.", []string{"event"}, nil)
	keeperUp    = prometheus.NewDesc("fairlead_keeper_up", "1 if the keeper answered this scrape.", nil, nil)
	// gauges are what the keeper tells of now, by its names for them.
	gauges = map[string]*prometheus.Desc{
		"cni_chained":   prometheus.NewDesc("fairlead_keeper_cni_chained", "1 if our plugin is the last of the network configuration that the runtime uses.", nil, nil),
		"goroutines":    prometheus.NewDesc("fairlead_keeper_goroutines", "Goroutines of the keeper.", nil, nil),
		"pods_captured": prometheus.NewDesc("fairlead_keeper_pods_captured", "Pods of this node that are captured.", nil, nil),
		"pods_waiting":  prometheus.NewDesc("fairlead_keeper_pods_waiting", "Pods of this node that are to be captured and are not.", nil, nil),
	}
	earlierDesc = prometheus.NewDesc("fairlead_earlier_connections", "Connections that local pods have had since before their capture, and that stay outside of the mesh until they end.", []string{"namespace", "workload"}, nil)
	expiryDesc  = prometheus.NewDesc("fairlead_certificate_expiry_timestamp_seconds", "When the current certificate of a service account ends; empty labels are the proxy's own.", []string{"namespace", "service_account"}, nil)
)

// Describe is prometheus.Collector.
func (c *nodeCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- verdictDesc
	ch <- keeperDesc
	ch <- keeperUp
	ch <- expiryDesc
	ch <- earlierDesc
	for _, desc := range gauges {
		ch <- desc
	}
}

// Collect is prometheus.Collector.
func (c *nodeCollector) Collect(ch chan<- prometheus.Metric) {
	live := c.pods.accounts()
	for a, t := range c.creds.expiries() {
		if !live[a] && a != (mesh.Account{}) {
			continue // nobody renews it any more, and nobody needs it
		}
		ch <- prometheus.MustNewConstMetric(expiryDesc, prometheus.GaugeValue, float64(t.Unix()), a.Namespace, a.Name)
	}
	c.collectEarlier(ch)
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	counts, err := c.keeper.Verdicts(ctx)
	up := 1.0
	if err != nil {
		up = 0
	}
	ch <- prometheus.MustNewConstMetric(keeperUp, prometheus.GaugeValue, up)
	for name, n := range counts {
		if gauge := gauges[strings.TrimPrefix(name, "gauge_")]; strings.HasPrefix(name, "gauge_") {
			if gauge != nil {
				ch <- prometheus.MustNewConstMetric(gauge, prometheus.GaugeValue, float64(n))
			}
			continue
		}
		desc := verdictDesc
		if rest, ok := strings.CutPrefix(name, "keeper_"); ok {
			desc, name = keeperDesc, rest
		} else {
			name = strings.TrimPrefix(name, "redirect_")
		}
		ch <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(n), name)
	}
}

// collectEarlier tells of the workloads that have such connections, and of no other: they come once, and end.
func (c *nodeCollector) collectEarlier(ch chan<- prometheus.Metric) {
	sums := map[mesh.Name]int{}
	for _, p := range c.pods.list() {
		if e := c.pods.earlierOf(p.UID); e.Connections > 0 {
			sums[mesh.Name{Namespace: p.Name.Namespace, Name: c.workload(p.UID).Name}] += e.Connections
		}
	}
	for w, n := range sums {
		ch <- prometheus.MustNewConstMetric(earlierDesc, prometheus.GaugeValue, float64(n), w.Namespace, w.Name)
	}
}
