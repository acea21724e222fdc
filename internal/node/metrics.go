package node

import (
	"strconv"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"fairlead.io/fairlead/internal/identity"
	"fairlead.io/fairlead/internal/l7"
	"fairlead.io/fairlead/internal/mesh"
	"fairlead.io/fairlead/internal/node/debug"
)

// pairLabels name both ends of what is counted. Their values come from the address table alone; a peer that is
// in no table is "unknown".
var pairLabels = []string{"direction", "src_namespace", "src_workload", "dst_namespace", "dst_workload", "dst_service_namespace", "dst_service", "protocol", "tls"}

// pair is the values of pairLabels.
type pair struct {
	direction      l7.Direction
	src, dst       mesh.Name // of the workloads
	service        mesh.Name
	protocol, safe string
}

func (p pair) values(more ...string) []string {
	return append([]string{p.direction.String(), p.src.Namespace, p.src.Name, p.dst.Namespace, p.dst.Name,
		p.service.Namespace, p.service.Name, p.protocol, p.safe}, more...)
}

type requestKey struct {
	pair
	status string // "2xx", or "none" without a response
	grpc   string // a name of the gRPC status codes; empty if it is not gRPC
}

type connKey struct{ pair }

type closeKey struct {
	pair
	reason string
}

// overflowName stands for the workloads and services whose series would be too many.
const overflowName = "overflow"

var overflowPair = pair{src: mesh.Name{Namespace: overflowName, Name: overflowName}, dst: mesh.Name{Namespace: overflowName, Name: overflowName}, protocol: overflowName, safe: overflowName}

// metrics implements l7.Recorder.
type metrics struct {
	requests  *series[requestKey, prometheus.Counter]
	durations *series[connKey, prometheus.Observer]
	opened    *series[connKey, prometheus.Counter]
	open      *series[connKey, *openGauge]
	closed    *series[closeKey, prometheus.Counter]
	received  *series[connKey, prometheus.Counter]
	sent      *series[connKey, prometheus.Counter]
	lifetimes *series[connKey, prometheus.Observer]
	verdicts  *series[verdictKey, prometheus.Counter]

	rules      ruleMetrics
	handshakes *prometheus.CounterVec
	events     *prometheus.CounterVec
	hops       *prometheus.CounterVec
	routes     routes
	names      names
	warn       *rareLog
}

// names are what the address table knows.
type names interface {
	workload(uid string) mesh.Name // of a local pod
	serves(service mesh.Name) bool // whether there is such a service
}

// openGauge keeps its value readable, so that a series of live connections does not expire.
type openGauge struct {
	prometheus.Gauge
	n atomic.Int64
}

func (g *openGauge) add(n int64) {
	g.n.Add(n)
	g.Add(float64(n))
}

// openConn is how a connection was counted when it was opened: since then the table may have changed, and a series that
// was one too many may have found room.
type openConn struct {
	connKey
	gauge *openGauge
	peer  *peerCounters // nil for a pod that is not counted by itself
}

// latencyBuckets span what one hop on a node and a slow database have in common.
var latencyBuckets = debug.Buckets[:]

func newMetrics(reg prometheus.Registerer, names names, warn *rareLog) *metrics {
	m := &metrics{names: names, warn: warn}
	m.requests = counterSeries(reg, "fairlead_requests_total", "Requests that ended, by both ends, status and gRPC status.",
		append(pairLabels[:len(pairLabels):len(pairLabels)], "status", "grpc_status"), requestKey{pair: overflowPair, status: overflowName},
		func(k requestKey) []string { return k.values(k.status, k.grpc) })
	plain := func(k connKey) []string { return k.values() }
	over := connKey{overflowPair}
	m.durations = histogramSeries(reg, "fairlead_request_duration_seconds", "Time from a request's head to the end of its response.", pairLabels, over, plain)
	m.opened = counterSeries(reg, "fairlead_tcp_connections_opened_total", "Connections of apps and to apps that were accepted.", pairLabels, over, plain)
	m.closed = counterSeries(reg, "fairlead_tcp_connections_closed_total", "Connections that ended, by reason; empty for an orderly end.",
		append(pairLabels[:len(pairLabels):len(pairLabels)], "reason"), closeKey{pair: overflowPair, reason: overflowName},
		func(k closeKey) []string { return k.values(k.reason) })
	m.received = counterSeries(reg, "fairlead_tcp_received_bytes_total", "Bytes that the client sent on connections that ended.", pairLabels, over, plain)
	m.sent = counterSeries(reg, "fairlead_tcp_sent_bytes_total", "Bytes that the client was sent on connections that ended.", pairLabels, over, plain)
	m.lifetimes = histogramSeries(reg, "fairlead_tcp_connection_duration_seconds", "How long connections lasted.", pairLabels, over, plain)
	m.open = openSeries(reg, over, plain)
	m.rules = newRuleMetrics(reg)
	m.verdicts = verdictSeries(reg)
	m.handshakes = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "fairlead_handshakes_total",
		Help: "TLS handshakes between nodes, by direction, result (ok, or the cause of the failure) and whether a session was resumed."}, []string{"direction", "result", "resumed"})
	m.events = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "fairlead_proxy_events_total",
		Help: "What happened to connections and requests beside their outcome: retries, limits, drains, panics."}, []string{"direction", "event"})
	m.hops = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "fairlead_app_connections_total",
		Help: "Connections to local apps, by whether the client's address was kept."}, []string{"client_address"})
	reg.MustRegister(m.handshakes, m.events, m.hops)
	for _, d := range []l7.Direction{l7.Outbound, l7.Inbound} {
		m.handshakes.WithLabelValues(d.String(), "ok", "true")
		m.handshakes.WithLabelValues(d.String(), "ok", "false")
		m.handshakes.WithLabelValues(d.String(), "broken", "false")
		for _, c := range identity.Causes() {
			m.handshakes.WithLabelValues(d.String(), c.String(), "false")
		}
	}
	return m
}

func counterSeries[K comparable](reg prometheus.Registerer, name, help string, labels []string, over K, values func(K) []string) *series[K, prometheus.Counter] {
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	reg.MustRegister(vec)
	return newSeries(over,
		func(k K) prometheus.Counter { return vec.WithLabelValues(values(k)...) },
		func(k K) { vec.DeleteLabelValues(values(k)...) })
}

func histogramSeries[K comparable](reg prometheus.Registerer, name, help string, labels []string, over K, values func(K) []string) *series[K, prometheus.Observer] {
	vec := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: latencyBuckets}, labels)
	reg.MustRegister(vec)
	return newSeries(over,
		func(k K) prometheus.Observer { return vec.WithLabelValues(values(k)...) },
		func(k K) { vec.DeleteLabelValues(values(k)...) })
}

func openSeries(reg prometheus.Registerer, over connKey, values func(connKey) []string) *series[connKey, *openGauge] {
	vec := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "fairlead_tcp_connections_open", Help: "Connections that are open."}, pairLabels)
	reg.MustRegister(vec)
	return newSeries(over,
		func(k connKey) *openGauge { return &openGauge{Gauge: vec.WithLabelValues(values(k)...)} },
		func(k connKey) { vec.DeleteLabelValues(values(k)...) })
}

// expire drops idle series.
func (m *metrics) expire() {
	m.requests.expire(nil)
	m.durations.expire(nil)
	m.opened.expire(nil)
	m.closed.expire(nil)
	m.received.expire(nil)
	m.sent.expire(nil)
	m.lifetimes.expire(nil)
	m.rules.expire()
	m.open.expire(func(g *openGauge) bool { return g.n.Load() != 0 })
}

// unknown is the workload of an address that is in no table.
var unknown = mesh.Name{Namespace: "unknown", Name: "unknown"}

func (m *metrics) pair(d l7.Direction, local *l7.Pod, peer *mesh.Pod, service mesh.Name, protocol string, safe l7.Security) pair {
	here := mesh.Name{Namespace: local.Name.Namespace, Name: m.names.workload(local.UID).Name}
	there := unknown
	if peer != nil {
		there = mesh.Name{Namespace: peer.Name.Namespace, Name: peer.Workload}
	}
	p := pair{direction: d, src: here, dst: there, service: service, protocol: protocol, safe: safe.String()}
	if d == l7.Inbound {
		p.src, p.dst = there, here
		if service != (mesh.Name{}) && !m.names.serves(service) {
			p.service = unknown // the peer said so, and may say anything
		}
	}
	return p
}

// Request counts a request that ended.
func (m *metrics) Request(r *l7.RequestRecord) {
	now := r.Began.Add(r.Duration)
	h := handlesOf(r).find(m, r, now)
	bad := failed(r)
	h.total.Inc()
	h.took.Observe(r.Duration.Seconds())
	if h.share != nil {
		h.share.Inc()
	}
	m.rules.act(h.src, h.to, r)
	if h.pod != nil {
		h.pod.request(r, bad)
		h.with.request(r, bad, now)
	}
	if r.Direction == l7.Outbound && r.Head != nil {
		h.at(&m.routes, r.Head.Path).add(r, bad, now)
	}
}

// failed says whether a request counts against the success rate: a 5xx, a gRPC status that is the server's fault, or no
// response at all.
func failed(r *l7.RequestRecord) bool {
	if r.GRPC && r.Status == 200 {
		switch r.GRPCStatus {
		case 2, 4, 13, 14, 15: // UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE, DATA_LOSS
			return true
		}
		return false
	}
	return r.Status == 0 || r.Status >= 500
}

// seriesPerPair bounds the series of fairlead_requests_total that one pair of workloads can have for one service and
// direction: four values of tls, and seven of status for HTTP/1 and HTTP/2 each, and for gRPC seven by the
// eighteen of grpc_status.
const seriesPerPair = 4 * (7 + 7 + 7*18)

var classes = [...]string{1: "1xx", "2xx", "3xx", "4xx", "5xx"}

// statusClass has seven values, whatever a server answers.
func statusClass(status int) string {
	if status < 100 || status > 599 {
		return "none"
	}
	return classes[status/100]
}

var grpcNames = [...]string{"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
	"RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"}

func grpcName(code uint32) string {
	if int(code) < len(grpcNames) {
		return grpcNames[code]
	}
	return "OTHER"
}

func (m *metrics) conn(r *l7.ConnRecord) connKey {
	return connKey{m.pair(r.Direction, r.Pod, r.Peer, r.Service, r.Kind.String(), r.Security)}
}

// ConnOpened counts a connection that has an other end.
func (m *metrics) ConnOpened(r *l7.ConnRecord) {
	k := m.conn(r)
	g := m.open.get(k)
	open := openConn{connKey: k, gauge: g}
	if c := countersOf(r.Pod); c != nil {
		open.peer = c.opened(r)
	}
	r.Tag = open
	m.opened.get(k).Inc()
	g.add(1)
}

// ConnClosed counts a connection that ended.
func (m *metrics) ConnClosed(r *l7.ConnRecord) {
	open, ok := r.Tag.(openConn)
	if !ok {
		return
	}
	k := open.connKey
	open.gauge.add(-1)
	m.rules.conn(k.src, r)
	if c := countersOf(r.Pod); c != nil {
		c.closed(r, open.peer)
	}
	m.closed.get(closeKey{k.pair, r.Cause.String()}).Inc()
	m.received.get(k).Add(float64(r.BytesIn))
	m.sent.get(k).Add(float64(r.BytesOut))
	m.lifetimes.get(k).Observe(r.Duration.Seconds())
}

// ConnRefused counts a connection that got nowhere.
func (m *metrics) ConnRefused(r *l7.ConnRecord) {
	k := m.conn(r)
	m.rules.conn(k.src, r)
	m.closed.get(closeKey{k.pair, r.Cause.String()}).Inc()
}

// Handshake counts a TLS handshake, and tells of a failure's cause once.
func (m *metrics) Handshake(r *l7.HandshakeRecord) {
	result := "ok"
	if r.Err != nil {
		result = "broken"
		if c, ok := identity.CauseOf(r.Err); ok {
			result = c.String()
		}
		if m.warn.due(r.Direction.String() + " " + result) {
			m.warn.log.Warn("handshake failed", "direction", r.Direction.String(), "result", result,
				"pod", r.Pod.Name.String(), "peer", r.PeerAddr.String(), "err", r.Err)
		}
	}
	m.handshakes.WithLabelValues(r.Direction.String(), result, strconv.FormatBool(r.Resumed)).Inc()
}

// Event counts what concerns no single connection.
func (m *metrics) Event(_ *l7.Pod, d l7.Direction, e l7.Event) {
	m.events.WithLabelValues(d.String(), e.String()).Inc()
}

func (m *metrics) hopKept()     { m.hops.WithLabelValues("kept").Inc() }
func (m *metrics) hopFallback() { m.hops.WithLabelValues("not_kept").Inc() }

var _ l7.Recorder = (*metrics)(nil)
