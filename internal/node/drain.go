package node

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fairlead.io/fairlead/internal/l7"
)

const (
	// drainAlone is how long the drain lasts at most without a successor: meanwhile, new connections wait for the next proxy.
	drainAlone = 5 * time.Second
	// stragglers is how long after the successor's start there may still come something on our own listeners: handshakes
	// that were under way, of which a packet was lost.
	stragglers = 3 * time.Second
	drainPoll  = 20 * time.Millisecond
)

// drain ends the proxy's connections in order, as far as they end before the deadline. With a successor it goes on to take
// what was on its way to it; without one it leaves that to whoever comes. It returns when ctx ends, too.
func (n *node) drain(ctx context.Context, engine *l7.Engine) {
	n.ready.Await("its end: it drains")
	n.drains.begin()
	n.cfg.Log.Info("draining", "connections", engine.Live(), "successor", !n.pods.superseded().IsZero(), "deadline", n.cfg.Drain)
	began := time.Now()
	t := time.NewTicker(drainPoll)
	defer t.Stop()
	for {
		since, passed := n.pods.superseded(), time.Since(began)
		limit := n.cfg.Drain
		if since.IsZero() {
			limit = min(limit, drainAlone)
		}
		engine.Drain(!since.IsZero())
		settled := since.IsZero() || time.Since(since) >= stragglers
		if passed >= limit || settled && passed >= drainPoll && engine.Live() == 0 {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// drains counts, besides what it passes on, how connections ended while the proxy drains.
type drains struct {
	l7.Recorder
	gauge prometheus.Gauge
	ended *prometheus.CounterVec

	mu     sync.Mutex // protects the rest
	begun  bool
	counts map[drained]int
}

// drained is how a connection ended.
type drained struct{ protocol, end string }

const inOrder, cutOff = "in_order", "cut_off"

func newDrains(reg prometheus.Registerer, next l7.Recorder) *drains {
	d := &drains{Recorder: next, counts: map[drained]int{},
		gauge: prometheus.NewGauge(prometheus.GaugeOpts{Name: "fairlead_proxy_draining", Help: "1 while the proxy ends its connections, to exit."}),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "fairlead_proxy_drained_connections_total",
			Help: "Connections that ended while the proxy drained, by protocol and by whether they ended in order or were cut off."}, []string{"protocol", "end"}),
	}
	reg.MustRegister(d.gauge, d.ended)
	return d
}

func (d *drains) begin() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.begun = true
	d.gauge.Set(1)
}

// ConnClosed counts a connection that got somewhere.
func (d *drains) ConnClosed(r *l7.ConnRecord) {
	d.count(r)
	d.Recorder.ConnClosed(r)
}

// ConnRefused counts one that did not.
func (d *drains) ConnRefused(r *l7.ConnRecord) {
	d.count(r)
	d.Recorder.ConnRefused(r)
}

func (d *drains) count(r *l7.ConnRecord) {
	key := drained{r.Kind.String(), inOrder}
	if r.Cause == l7.CauseDrain {
		key.end = cutOff
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.begun {
		d.counts[key]++
		d.ended.WithLabelValues(key.protocol, key.end).Inc()
	}
}

// say logs the drain's outcome, if there was one.
func (d *drains) say(log *slog.Logger) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.begun {
		return
	}
	by := map[string]map[string]int{inOrder: {}, cutOff: {}}
	total := map[string]int{}
	for key, n := range d.counts {
		by[key.end][key.protocol] += n
		total[key.end] += n
	}
	log.Info("drained", inOrder, total[inOrder], cutOff, total[cutOff], "in_order_by_protocol", by[inOrder], "cut_off_by_protocol", by[cutOff])
}
