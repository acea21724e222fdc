package node

import (
	"testing"
	"time"

	"fairlead.io/fairlead/internal/l7"
	"fairlead.io/fairlead/internal/l7/exchange"
	"fairlead.io/fairlead/internal/mesh"
)

func record() l7.RequestRecord {
	var tag any
	return l7.RequestRecord{Direction: l7.Outbound, Pod: &l7.Pod{UID: "u1", Name: mesh.Name{Namespace: "shop", Name: "web-1"}, Tag: &podCounters{}},
		Peer: dbPod, Service: dbSvc, Version: exchange.HTTP2, Status: 200, GRPC: true, Security: l7.SecurityMTLS,
		Began: time.Now(), Duration: time.Millisecond, Head: &exchange.Head{Path: "/db.V1/Get?x=1"}, Tag: &tag}
}

// BenchmarkRequest is what counting one request costs.
func BenchmarkRequest(b *testing.B) {
	m, _ := testMetrics(b)
	r := record()
	b.ReportAllocs()
	for b.Loop() {
		m.Request(&r)
	}
}

// BenchmarkRequestParallel counts on all loops at once, for the same pair.
func BenchmarkRequestParallel(b *testing.B) {
	m, _ := testMetrics(b)
	b.RunParallel(func(pb *testing.PB) {
		r := record()
		for pb.Next() {
			m.Request(&r)
		}
	})
}
