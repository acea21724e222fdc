package node

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"fairlead.io/fairlead/internal/identity"
	"fairlead.io/fairlead/internal/keeper/socket"
	"fairlead.io/fairlead/internal/l7"
	"fairlead.io/fairlead/internal/l7/exchange"
	"fairlead.io/fairlead/internal/mesh"
)

func testMetrics(t testing.TB) (*metrics, *prometheus.Registry) {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	return newMetrics(reg, &table{name: mesh.Name{Namespace: "shop", Name: "web"}}, &rareLog{log: slog.New(slog.DiscardHandler)}), reg
}

// table knows one workload, and one service.
type table struct{ name mesh.Name }

func (t *table) workload(string) mesh.Name { return t.name }

func (t *table) serves(service mesh.Name) bool { return service == dbSvc }

var (
	webPod = &l7.Pod{UID: "u1", Name: mesh.Name{Namespace: "shop", Name: "web-1"}}
	dbPod  = &mesh.Pod{UID: "u2", Name: mesh.Name{Namespace: "data", Name: "db-0"}, Workload: "db"}
	dbSvc  = mesh.Name{Namespace: "data", Name: "db"}
)

func TestRequestLabels(t *testing.T) {
	m, reg := testMetrics(t)
	r := l7.RequestRecord{Direction: l7.Outbound, Pod: webPod, Peer: dbPod, Service: dbSvc, Version: exchange.HTTP2, Status: 200,
		GRPC: true, GRPCStatus: 14, Security: l7.SecurityMTLS, Duration: time.Millisecond, Head: &exchange.Head{Path: "/db.V1/Get?x=1"}}
	m.Request(&r)
	r.Direction, r.Service, r.GRPC, r.Peer, r.Security = l7.Inbound, mesh.Name{}, false, nil, l7.SecurityForeign
	m.Request(&r)
	want := `
# HELP fairlead_requests_total Requests that ended, by both ends, status and gRPC status.
# TYPE fairlead_requests_total counter
fairlead_requests_total{direction="inbound",dst_namespace="shop",dst_service="",dst_service_namespace="",dst_workload="web",grpc_status="",protocol="http2",src_namespace="unknown",src_workload="unknown",status="2xx",tls="not_in_mesh"} 1
fairlead_requests_total{direction="outbound",dst_namespace="data",dst_service="db",dst_service_namespace="data",dst_workload="db",grpc_status="UNAVAILABLE",protocol="grpc",src_namespace="shop",src_workload="web",status="2xx",tls="mtls"} 1
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "fairlead_requests_total"); err != nil {
		t.Error(err)
	}
	routes := m.routes.list()
	if len(routes) != 1 || routes[0].Path != "/db.V1/Get" || routes[0].Failures != 1 || routes[0].Service != "data/db" {
		t.Errorf("routes = %+v", routes)
	}
	problems, err := testutil.GatherAndLint(reg)
	if err != nil || len(problems) > 0 {
		t.Errorf("lint: %v %v", problems, err)
	}
}

// TestNoClientMakesSeries sends what a hostile client and server could: the series of one pair of workloads stay
// within the stated bound.
func TestNoClientMakesSeries(t *testing.T) {
	m, reg := testMetrics(t)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 50000 {
		m.Request(&l7.RequestRecord{
			Direction: l7.Outbound, Pod: webPod, Peer: dbPod, Service: dbSvc, PeerAddr: netip.AddrPort{},
			Version: exchange.Version(rng.IntN(256)), Status: rng.IntN(2000) - 500, GRPC: rng.IntN(2) == 0, GRPCStatus: rng.Uint32(),
			Security: l7.Security(rng.IntN(256)), Head: &exchange.Head{Method: fmt.Sprint(i), Path: fmt.Sprintf("/%d", i), Authority: fmt.Sprint(i)},
		})
	}
	n, err := testutil.GatherAndCount(reg, "fairlead_requests_total")
	if err != nil || n > seriesPerPair || n < 20 {
		t.Errorf("%d series, at most %d are promised: %v", n, seriesPerPair, err)
	}
	if n := len(m.routes.list()); n != routesMax {
		t.Errorf("%d routes are kept, want %d", n, routesMax)
	}
}

func TestSeriesOverflow(t *testing.T) {
	m, reg := testMetrics(t)
	m.requests.max = 10
	const peers = 100
	for i := range peers {
		peer := &mesh.Pod{Name: mesh.Name{Namespace: "n", Name: "p"}, Workload: fmt.Sprint(i)}
		m.Request(&l7.RequestRecord{Pod: webPod, Peer: peer, Version: exchange.HTTP11, Status: 200})
	}
	n, err := testutil.GatherAndCount(reg, "fairlead_requests_total")
	if err != nil || n != 11 {
		t.Errorf("%d series, want 10 and the overflow: %v", n, err)
	}
	if got := testutil.ToFloat64(m.requests.get(requestKey{pair: overflowPair, status: overflowName})); got != peers-10 {
		t.Errorf("overflow = %v, want %d", got, peers-10)
	}
}

func TestIdleSeriesExpire(t *testing.T) {
	m, reg := testMetrics(t)
	now := time.Now()
	m.open.now = func() time.Time { return now }
	m.opened.now, m.closed.now = m.open.now, m.open.now
	r := l7.ConnRecord{Pod: webPod, Peer: dbPod, Kind: l7.KindTCP, Security: l7.SecurityMTLS}
	m.ConnOpened(&r)
	count := func() int {
		n, err := testutil.GatherAndCount(reg, "fairlead_tcp_connections_open", "fairlead_tcp_connections_opened_total")
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if count() != 2 {
		t.Fatalf("%d series after the opening, want 2", count())
	}
	now = now.Add(seriesIdle + time.Minute)
	m.expire()
	if count() != 1 {
		t.Errorf("%d series when idle, want only the gauge of the open connection", count())
	}
	m.ConnClosed(&r)
	now = now.Add(seriesIdle + time.Minute)
	m.expire()
	if count() != 0 {
		t.Errorf("%d series after the end, want none", count())
	}
}

func TestSameCauseIsLoggedOnce(t *testing.T) {
	var out strings.Builder
	m, _ := testMetrics(t)
	m.warn.log = slog.New(slog.NewTextHandler(&out, nil))
	for range 100 {
		m.Handshake(&l7.HandshakeRecord{Pod: webPod, Err: errors.New("cut off")})
	}
	m.Handshake(&l7.HandshakeRecord{Pod: webPod, Err: identity.Refuse(identity.Peer{}, identity.WrongNode, "elsewhere")})
	if n := strings.Count(out.String(), "handshake failed"); n != 2 {
		t.Errorf("%d lines, want one per cause", n)
	}
}

// The gauge goes down where it went up, though the table has changed meanwhile, and what a peer says is no label.
func TestLabelsOfAConnectionStay(t *testing.T) {
	m, reg := testMetrics(t)
	r := l7.ConnRecord{Direction: l7.Inbound, Pod: webPod, Peer: dbPod, Kind: l7.KindTCP, Service: mesh.Name{Namespace: "made", Name: "up"}}
	m.ConnOpened(&r)
	m.names = &table{name: mesh.Name{Namespace: "shop", Name: "web-1"}} // the workload is not in the table any more
	m.ConnClosed(&r)
	want := `
# HELP fairlead_tcp_connections_open Connections that are open.
# TYPE fairlead_tcp_connections_open gauge
fairlead_tcp_connections_open{direction="inbound",dst_namespace="shop",dst_service="unknown",dst_service_namespace="unknown",dst_workload="web",protocol="tcp",src_namespace="data",src_workload="db",tls="none"} 0
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "fairlead_tcp_connections_open"); err != nil {
		t.Error(err)
	}
}

func TestExpiryIsReportedForThoseWhoAreHere(t *testing.T) {
	a := newAuthority(t)
	web, gone := mesh.Account{Namespace: "shop", Name: "web"}, mesh.Account{Namespace: "shop", Name: "gone"}
	for _, account := range []mesh.Account{web, gone, {}} {
		a.push(account, a.issue(web, "n1", time.Hour))
	}
	p := newPods(a.creds, &socketPool{}, slog.New(slog.DiscardHandler))
	p.Enrolled(socket.Pod{UID: "u1", Account: web}, nil)
	a.keeper.verdict = map[string]uint64{"redirect_out": 3, "keeper_signatures": 2, "gauge_cni_chained": 1, "gauge_pods_captured": 4, "gauge_pods_waiting": 0, "gauge_of_a_later_keeper": 1}
	reg := prometheus.NewPedanticRegistry()
	p.Earlier("u1", socket.Earlier{Connections: 3})
	p.Earlier("nobody", socket.Earlier{Connections: 4})
	reg.MustRegister(&nodeCollector{a.keeper, a.creds, p, func(string) mesh.Name { return mesh.Name{Name: "web"} }})
	for name, want := range map[string]int{"fairlead_certificate_expiry_timestamp_seconds": 2, "fairlead_bpf_verdicts_total": 1,
		"fairlead_keeper_events_total": 1, "fairlead_keeper_up": 1, "fairlead_keeper_cni_chained": 1, "fairlead_keeper_pods_captured": 1, "fairlead_keeper_pods_waiting": 1, "fairlead_earlier_connections": 1} {
		if n, err := testutil.GatherAndCount(reg, name); err != nil || n != want {
			t.Errorf("%s: %d series, want %d: %v", name, n, want, err)
		}
	}
}

// A connection that was counted under the overflow labels leaves them again, though its own series has room by then.
func TestOverflowGoesDownWhereItWentUp(t *testing.T) {
	m, reg := testMetrics(t)
	m.open.max = 1
	now := time.Now()
	m.open.now = func() time.Time { return now }
	first := l7.ConnRecord{Pod: webPod, Kind: l7.KindTCP}
	second := l7.ConnRecord{Pod: webPod, Peer: dbPod, Kind: l7.KindTCP}
	m.ConnOpened(&first)
	m.ConnOpened(&second)
	m.ConnClosed(&first)
	now = now.Add(seriesIdle + time.Minute)
	m.expire()
	m.open.max = 2
	m.ConnClosed(&second)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, s := range f.GetMetric() {
			if f.GetName() == "fairlead_tcp_connections_open" && s.GetGauge().GetValue() != 0 {
				t.Errorf("nothing is open, but %v", s)
			}
		}
	}
}
