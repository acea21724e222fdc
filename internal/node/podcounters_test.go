package node

import (
	"fmt"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/keeper/socket"
	"fairlead.io/fairlead/internal/l7"
	"fairlead.io/fairlead/internal/l7/exchange"
	"fairlead.io/fairlead/internal/mesh"
	"fairlead.io/fairlead/internal/node/debug"
)

func countedPod() *l7.Pod {
	return &l7.Pod{UID: "u1", Name: mesh.Name{Namespace: "shop", Name: "web-1"}, Tag: &podCounters{}}
}

func TestPodCountersCountBothDirections(t *testing.T) {
	m, _ := testMetrics(t)
	p := countedPod()
	m.Request(&l7.RequestRecord{Direction: l7.Inbound, Pod: p, Peer: dbPod, Version: exchange.HTTP11, Status: 200, Duration: 3 * time.Millisecond, Security: l7.SecurityMTLS})
	m.Request(&l7.RequestRecord{Direction: l7.Inbound, Pod: p, Peer: dbPod, Version: exchange.HTTP11, Status: 503, Duration: time.Minute, Security: l7.SecurityMTLS})
	m.Request(&l7.RequestRecord{Direction: l7.Outbound, Pod: p, Version: exchange.HTTP11, Security: l7.SecurityForeign})
	conn := l7.ConnRecord{Direction: l7.Inbound, Pod: p, Peer: dbPod, Kind: l7.KindTCP, Security: l7.SecurityMTLS}
	m.ConnOpened(&conn)
	m.ConnOpened(&l7.ConnRecord{Direction: l7.Inbound, Pod: p, Kind: l7.KindTCP})
	conn.BytesIn, conn.BytesOut = 10, 20
	m.ConnClosed(&conn)

	c := countersOf(p)
	in, out := c.traffic(l7.Inbound), c.traffic(l7.Outbound)
	if in.Requests != 2 || in.Failures != 1 || in.Opened != 2 || in.Open != 1 || in.Received != 10 || in.Sent != 20 || in.Seconds != 60.003 {
		t.Errorf("inbound: %+v", in)
	}
	if last := len(debug.Buckets); in.Latency[3] != 1 || in.Latency[last] != 1 {
		t.Errorf("latencies: %v", in.Latency)
	}
	if out.Requests != 1 || out.Failures != 1 || out.Opened != 0 {
		t.Errorf("outbound: %+v", out)
	}
	edges := c.edges()
	if len(edges) != 3 || edges[0].Requests != 2 || edges[0].Failures != 1 || edges[0].Opened != 1 || edges[0].Open != 0 || edges[0].TLS != "mtls" ||
		edges[0].Peer.Workload != "db" || edges[2].Peer.Name != "" {
		t.Errorf("edges: %+v", edges)
	}
}

func TestPodCountersOutliveListeners(t *testing.T) {
	p := testPods()
	p.Enrolled(socket.Pod{UID: "u1"}, nil)
	countersOf(p.pod("u1")).count(&l7.RequestRecord{Pod: p.pod("u1")}, false)
	p.Enrolled(socket.Pod{UID: "u1"}, nil) // the keeper has made new listeners
	if got := countersOf(p.pod("u1")).traffic(l7.Outbound).Requests; got != 1 {
		t.Errorf("%d requests after new listeners, want 1", got)
	}
	p.Left("u1", time.Second)
	p.Enrolled(socket.Pod{UID: "u1"}, nil)
	if got := countersOf(p.pod("u1")).traffic(l7.Outbound).Requests; got != 0 {
		t.Errorf("%d requests of a pod that has come back, want none", got)
	}
}

func TestPodCountersAreBounded(t *testing.T) {
	c := &podCounters{}
	now := time.Now()
	const calls = 3 * peersMax
	for i := range calls {
		peer := &mesh.Pod{UID: fmt.Sprint(i)}
		c.count(&l7.RequestRecord{Peer: peer, Began: now.Add(-seriesIdle)}, false)
	}
	edges := c.edges()
	if len(edges) != peersMax+1 || edges[0].Peer.Workload != overflowName || edges[0].Requests != calls-peersMax {
		t.Errorf("%d edges, the first %+v", len(edges), edges[0])
	}
	open := c.opened(&l7.ConnRecord{Peer: &mesh.Pod{UID: "0"}, Began: now.Add(-time.Hour)})
	c.expire(now.Add(time.Minute))
	if edges := c.edges(); len(edges) != 1 || edges[0].Open != 1 {
		t.Errorf("after they were idle: %+v, want the one with a connection", edges)
	}
	c.closed(&l7.ConnRecord{Began: now.Add(-time.Hour)}, open)
	c.expire(now.Add(time.Minute))
	if edges := c.edges(); len(edges) != 0 {
		t.Errorf("after its end: %+v", edges)
	}
}

// count is what metrics does for a request.
func (c *podCounters) count(r *l7.RequestRecord, failed bool) {
	c.flows[r.Direction&1].request(r, failed)
	c.peer(r.Peer, r.Direction, r.Security).request(r, failed, r.Began.Add(r.Duration))
}
