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
}

var (
	verdictDesc = prometheus.NewDesc("fairlead_bpf_verdicts_total", "Decisions of the eBPF programs on this node.", []string{"verdict"}, nil)
	keeperDesc  = prometheus.NewDesc("fairlead_keeper_events_total", "What the keeper counts: refused messages of a proxy, signatures, enrolments.", []string{"event"}, nil)
	keeperUp    = prometheus.NewDesc("fairlead_keeper_up", "1 if the keeper answered this scrape.", nil, nil)
	expiryDesc  = prometheus.NewDesc("fairlead_certificate_expiry_timestamp_seconds", "When the current certificate of a service account ends; empty labels are the proxy's own.", []string{"namespace", "service_account"}, nil)
)

// Describe is prometheus.Collector.
func (c *nodeCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- verdictDesc
	ch <- keeperDesc
	ch <- keeperUp
	ch <- expiryDesc
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
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	counts, err := c.keeper.Verdicts(ctx)
	up := 1.0
	if err != nil {
		up = 0
	}
	ch <- prometheus.MustNewConstMetric(keeperUp, prometheus.GaugeValue, up)
	for name, n := range counts {
		desc := verdictDesc
		if rest, ok := strings.CutPrefix(name, "keeper_"); ok {
			desc, name = keeperDesc, rest
		} else {
			name = strings.TrimPrefix(name, "redirect_")
		}
		ch <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(n), name)
	}
}
