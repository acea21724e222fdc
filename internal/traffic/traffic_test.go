package traffic

import (
	"math"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"fairlead.io/fairlead/internal/fleet"
	"fairlead.io/fairlead/internal/fleet/fleettest"
	"fairlead.io/fairlead/internal/mesh"
)

func parse(t *testing.T, text string) fleet.Metrics {
	t.Helper()
	m, err := fleet.ParseMetrics([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

const pairText = `direction="inbound",src_namespace="a",src_workload="x",dst_namespace="b",dst_workload="y",dst_service_namespace="b",dst_service="s",tls="mtls"`

func scrape(requests, failed, open string) string {
	return strings.NewReplacer("PAIR", pairText, "REQUESTS", requests, "FAILED", failed, "OPEN", open).Replace(`
# TYPE fairlead_requests_total counter
fairlead_requests_total{PAIR,protocol="http1",status="2xx",grpc_status=""} REQUESTS
fairlead_requests_total{PAIR,protocol="grpc",status="2xx",grpc_status="UNAVAILABLE"} FAILED
# TYPE fairlead_request_duration_seconds histogram
fairlead_request_duration_seconds_bucket{PAIR,protocol="http1",le="0.001"} 0
fairlead_request_duration_seconds_bucket{PAIR,protocol="http1",le="0.0025"} REQUESTS
fairlead_request_duration_seconds_bucket{PAIR,protocol="http1",le="+Inf"} REQUESTS
fairlead_request_duration_seconds_sum{PAIR,protocol="http1"} 1
fairlead_request_duration_seconds_count{PAIR,protocol="http1"} REQUESTS
# TYPE fairlead_tcp_connections_open gauge
fairlead_tcp_connections_open{PAIR,protocol="http1"} OPEN
`)
}

func told(m fleet.Metrics, at time.Duration, err error) fleet.Told[fleet.Metrics] {
	t := fleet.Told[fleet.Metrics]{What: m}
	t.Pod, t.At, t.Err = &corev1.Pod{}, fleettest.Noon.Add(at), err
	return t
}

func everything(Pair) bool { return true }

func TestTheDifferenceIsWhatPassed(t *testing.T) {
	w, err := between([]fleet.Told[fleet.Metrics]{told(parse(t, scrape("100", "10", "3")), 0, nil)},
		[]fleet.Told[fleet.Metrics]{told(parse(t, scrape("150", "20", "7")), 5*time.Second, nil)})
	if err != nil {
		t.Fatal(err)
	}
	c := w.Sum(everything)
	if c.Requests != 60 || c.Failures != 10 || c.Open != 7 || c.RPS() != 12 || c.Latency[2] != 50 {
		t.Errorf("%+v", c)
	}
	if want := 1 - 10.0/60; c.Success() != want {
		t.Errorf("success %v, want %v", c.Success(), want)
	}
}

func TestARestartedProxyIsCountedFromItsStart(t *testing.T) {
	w, err := between([]fleet.Told[fleet.Metrics]{told(parse(t, scrape("1000", "10", "3")), 0, nil)},
		[]fleet.Told[fleet.Metrics]{told(parse(t, scrape("40", "0", "1")), 5*time.Second, nil)})
	if err != nil {
		t.Fatal(err)
	}
	if c := w.Sum(everything); c.Requests != 40 || c.Failures != 0 {
		t.Errorf("%+v", c)
	}
}

func TestOneReadingIsEverything(t *testing.T) {
	w, err := between(nil, []fleet.Told[fleet.Metrics]{told(parse(t, scrape("90", "10", "3")), 0, nil)})
	if err != nil {
		t.Fatal(err)
	}
	if c := w.Sum(everything); c.Requests != 100 || !math.IsNaN(c.RPS()) {
		t.Errorf("%+v", c)
	}
}

func TestWhoDoesNotAnswerIsNamed(t *testing.T) {
	good := told(parse(t, scrape("90", "10", "3")), 0, nil)
	bad := told(nil, 0, ErrNobody)
	w, err := between([]fleet.Told[fleet.Metrics]{good, good}, []fleet.Told[fleet.Metrics]{good, bad})
	if err != nil || len(w.Missed) != 1 {
		t.Errorf("%+v, %v", w, err)
	}
	if w, err = between([]fleet.Told[fleet.Metrics]{bad, good}, []fleet.Told[fleet.Metrics]{good, good}); err != nil || len(w.Missed) != 1 {
		t.Errorf("one that was away at first: %+v, %v", w, err)
	}
	if _, err = between(nil, []fleet.Told[fleet.Metrics]{bad}); err == nil {
		t.Error("nobody has answered, and that is no error")
	}
}

func TestQuantiles(t *testing.T) {
	c := &Counts{}
	if !math.IsNaN(c.Quantile(.5)) || !math.IsNaN(c.Success()) {
		t.Error("of nothing something is known")
	}
	c.Latency[0], c.Latency[1] = 50, 50 // up to 0.5 ms and up to 1 ms
	for q, want := range map[float64]float64{0: 0, .25: .00025, .5: .0005, .75: .00075, 1: .001} {
		if got := c.Quantile(q); math.Abs(got-want) > 1e-9 {
			t.Errorf("%v: %v, want %v", q, got, want)
		}
	}
	c = &Counts{}
	c.Latency[len(c.Latency)-1] = 1
	if got := c.Quantile(.5); got != 30 {
		t.Errorf("longer than the last bucket: %v", got)
	}
}

// TestARequestCountsOnce: of the two ends that have counted a request, one is taken.
func TestARequestCountsOnce(t *testing.T) {
	x, y := mesh.Name{Namespace: "a", Name: "x"}, mesh.Name{Namespace: "b", Name: "y"}
	svc := mesh.Name{Namespace: "b", Name: "s"}
	both := []Pair{{"outbound", x, y, svc, "mtls"}, {"inbound", x, y, svc, "mtls"}}
	outside := []Pair{{"outbound", x, y, svc, "not_in_mesh"}}
	self := []Pair{{"outbound", x, x, svc, "self"}}
	lost := []Pair{{"outbound", x, mesh.Name{Namespace: "unknown", Name: "unknown"}, svc, "none"}}
	foreign := []Pair{{"inbound", mesh.Name{Namespace: "unknown", Name: "unknown"}, y, mesh.Name{}, "not_in_mesh"}}
	count := func(pairs []Pair, wanted func(Pair) bool) (n int) {
		for _, p := range pairs {
			if wanted(p) {
				n++
			}
		}
		return n
	}
	for name, pairs := range map[string][]Pair{"both in the mesh": both, "a server outside": outside, "the pod itself": self, "a client outside": foreign} {
		if n := count(pairs, func(p Pair) bool {
			return Served(p) && (End{Namespace: p.Dst.Namespace, Workload: p.Dst.Name}).IsTarget(p)
		}); n != 1 {
			t.Errorf("%s, for the server: %d times", name, n)
		}
	}
	service := End{Namespace: "b", Service: "s"}
	for name, pairs := range map[string][]Pair{"both in the mesh": both, "a server outside": outside, "no endpoint": lost} {
		if n := count(pairs, func(p Pair) bool { return Sent(p) && service.IsTarget(p) }); n != 1 {
			t.Errorf("%s, for the service: %d times", name, n)
		}
	}
	if service.IsSource(both[0]) || !(End{Namespace: "a"}).IsSource(both[0]) || (End{Namespace: "a", Workload: "z"}).IsSource(both[0]) {
		t.Error("the ends are mixed up")
	}
}

// TestWatch reads what real proxies have told.
func TestWatch(t *testing.T) {
	f := fleettest.New(t).Fleet(t)
	now := fleettest.Noon
	f.Clock = fleet.Clock{Now: func() time.Time { return now }, Pause: nil}
	pods, err := f.NodePods(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w, err := Watch(t.Context(), f, pods, time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	front := End{Namespace: "vote", Workload: "front"}
	if c := w.Sum(func(p Pair) bool { return Served(p) && front.IsTarget(p) }); c.Requests != 510 || c.Failures != 25 {
		t.Errorf("%+v", c)
	}
	if _, err := Watch(t.Context(), f, nil, 0); err == nil || !strings.Contains(err.Error(), "no pod of the DaemonSet") {
		t.Errorf("without a pod: %v", err)
	}
}
