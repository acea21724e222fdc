package node

import (
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"fairlead.io/fairlead/internal/l7"
	"fairlead.io/fairlead/internal/l7/exchange"
	"fairlead.io/fairlead/internal/mesh"
)

// TestHandlesCountTheSame: what is counted by the handles of one connection is what is counted without.
func TestHandlesCountTheSame(t *testing.T) {
	with, regWith := testMetrics(t)
	without, regWithout := testMetrics(t)
	var tag any
	counted := [2]*l7.Pod{}
	for i := range counted {
		counted[i] = &l7.Pod{UID: "u1", Name: mesh.Name{Namespace: "shop", Name: "web-1"}, Tag: &podCounters{}}
	}
	peers := []*mesh.Pod{dbPod, nil, {UID: "u3", Name: mesh.Name{Namespace: "data", Name: "db-1"}, Workload: "db"}}
	began := time.Now()
	for i := range 3000 {
		r := l7.RequestRecord{Direction: l7.Direction(i / 7 % 2), Peer: peers[i%3], Service: []mesh.Name{dbSvc, {}}[i/5%2],
			Version: exchange.HTTP2, Status: []int{200, 404, 503, 0}[i/3%4], GRPC: i/11%2 == 0, GRPCStatus: uint32(i % 17),
			Security: l7.Security(i / 13 % 4), Began: began.Add(time.Duration(i) * time.Millisecond), Duration: time.Duration(i) * time.Microsecond,
			Head: &exchange.Head{Path: fmt.Sprintf("/%d", i/4%9)}}
		r.Pod = counted[0]
		without.Request(&r)
		r.Pod, r.Tag = counted[1], &tag
		with.Request(&r)
	}
	for _, name := range []string{"fairlead_requests_total", "fairlead_request_duration_seconds"} {
		want, err := regWithout.Gather()
		if err != nil {
			t.Fatal(err)
		}
		got, err := regWith.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for i := range want {
			for _, m := range append(want[i].Metric, got[i].Metric...) { // when they were made
				if m.Counter != nil {
					m.Counter.CreatedTimestamp = nil
				}
				if m.Histogram != nil {
					m.Histogram.CreatedTimestamp = nil
				}
			}
			if want[i].GetName() == name && want[i].String() != got[i].String() {
				t.Errorf("%s differs:\n%s\nwant\n%s", name, got[i], want[i])
			}
		}
		if n, err := testutil.GatherAndCount(regWith, name); n < 20 || err != nil {
			t.Errorf("%d series of %s, %v", n, name, err)
		}
	}
	if want, got := fmt.Sprint(without.routes.list()), fmt.Sprint(with.routes.list()); len(with.routes.list()) != len(without.routes.list()) {
		t.Errorf("routes %s, want %s", got, want)
	}
	if want, got := fmt.Sprint(countersOf(counted[0]).edges()), fmt.Sprint(countersOf(counted[1]).edges()); want != got {
		t.Errorf("edges %s, want %s", got, want)
	}
}

// TestHandlesDoNotStay: a handle is used for handleLife at most, so that a series which was dropped is not counted in any more.
func TestHandlesDoNotStay(t *testing.T) {
	m, reg := testMetrics(t)
	r := record()
	m.Request(&r)
	m.requests.now = func() time.Time { return time.Now().Add(2 * seriesIdle) }
	if n := m.requests.expire(nil); n != 0 {
		t.Fatalf("%d series left", n)
	}
	r.Began = r.Began.Add(handleLife)
	m.Request(&r)
	if n, err := testutil.GatherAndCount(reg, "fairlead_requests_total"); n != 1 || err != nil {
		t.Errorf("%d series, %v", n, err)
	}
}

// TestCountingAllocatesNothing, for requests of a kind that there has been.
func TestCountingAllocatesNothing(t *testing.T) {
	m, _ := testMetrics(t)
	r := record()
	m.Request(&r)
	if n := testing.AllocsPerRun(100, func() { m.Request(&r) }); n != 0 {
		t.Errorf("%v allocations for each request", n)
	}
}
