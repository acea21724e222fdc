package l7

import (
	"context"
	"net"
	"net/http"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"fairlead.io/fairlead/internal/mesh"
)

func TestFaults(t *testing.T) {
	slow := []mesh.Match{{Headers: []mesh.FieldMatch{{Name: "x-slow", Value: "1"}}}}
	faults := func(f ...mesh.Fault) *mesh.Traffic { return &mesh.Traffic{Faults: f} }
	row := httpRow(
		mesh.Rule{Title: "/abort", Backends: to("svc"), Policy: faults(mesh.Fault{Percent: 100, Status: 418})},
		mesh.Rule{Title: "/delay", Backends: to("svc"), Policy: faults(mesh.Fault{Percent: 100, Delay: soon})},
		mesh.Rule{Title: "/both", Backends: to("svc"), Policy: faults(mesh.Fault{Percent: 100, Delay: soon, Status: 503})},
		mesh.Rule{Title: "/some", Backends: to("svc"), Policy: faults(mesh.Fault{Percent: 30, Status: 503})},
		mesh.Rule{Title: "/match", Backends: to("svc"), Policy: faults(mesh.Fault{Match: slow, Percent: 100, Status: 503})},
		mesh.Rule{Title: "/late", Backends: to("svc"), Request: soon, Policy: faults(mesh.Fault{Percent: 100, Delay: time.Minute})},
	)
	for _, s := range settings[:2] {
		t.Run(s.String(), func(t *testing.T) {
			r := newRouted(t, s.inMesh, mesh.HTTP1, row, nil, map[string]net.Listener{"svc": newWorld(t).httpApp(saying("svc"))})
			c := r.client(s.h2)
			for i, test := range []struct {
				path   string
				slow   string
				status int
				fault  bool
				least  time.Duration
			}{
				{"/abort", "", 418, true, 0},
				{"/delay", "", 200, true, soon},
				{"/both", "", 503, true, soon},
				{"/match", "1", 503, true, 0},
				{"/match", "2", 200, false, 0},
				{"/late", "", 504, true, soon},
			} {
				req := request1(t, "GET", test.path, nil)
				req.Header.Set("X-Slow", test.slow)
				began := time.Now()
				got := r.send(c, req)
				if took := time.Since(began); got.status != test.status || took < test.least || took > 10*time.Second {
					t.Errorf("%s: %d in %v", test.path, got.status, took)
				}
				if rec := r.last(i + 1); rec.Fault != test.fault || rec.Status != test.status {
					t.Errorf("%s: recorded %+v", test.path, rec)
				}
			}
			aborted := 0
			for range 400 {
				if r.get(c, "/some").status == http.StatusServiceUnavailable {
					aborted++
				}
			}
			if aborted < 75 || aborted > 165 { // five standard deviations about 120
				t.Errorf("%d of 400 were aborted, want about 120", aborted)
			}
			if n := r.rec.count(EventFaulted); n != aborted+5 {
				t.Errorf("%d events, want %d", n, aborted+5)
			}
		})
	}
}

func TestFaultOfGRPC(t *testing.T) {
	row := httpRow(mesh.Rule{Title: "/", Backends: to("svc"), Policy: &mesh.Traffic{Faults: []mesh.Fault{{Percent: 100, Abort: true, GRPC: uint32(codes.DataLoss), Status: 500}}}})
	r := newRouted(t, false, mesh.HTTP2, row, nil, map[string]net.Listener{"svc": grpcApp(t, &failing{})})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := healthpb.NewHealthClient(grpcClient(t, r.out)).Check(ctx, &healthpb.HealthCheckRequest{}); status.Code(err) != codes.DataLoss {
		t.Error(err)
	}
}

// TestNoRuleOfGRPC: a call that no rule matches is one that the server does not know.
func TestNoRuleOfGRPC(t *testing.T) {
	r := newRouted(t, false, mesh.HTTP2, httpRow(mesh.Rule{Title: "/other", Backends: to("svc")}), nil, map[string]net.Listener{"svc": grpcApp(t, &failing{})})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := healthpb.NewHealthClient(grpcClient(t, r.out)).Check(ctx, &healthpb.HealthCheckRequest{}); status.Code(err) != codes.Unimplemented {
		t.Error(err)
	}
}

// TestPolicyWithoutRoutes: a policy of a Service that has no routes holds for all that goes there.
func TestPolicyWithoutRoutes(t *testing.T) {
	row := &mesh.PortRoutes{Port: 80, Policy: &mesh.Traffic{Timeouts: &mesh.Timeouts{Request: soon}}}
	r := newRouted(t, false, mesh.HTTP1, row, nil, map[string]net.Listener{"svc": newWorld(t).httpApp(forever)})
	if got := r.get(r.client(false), "/"); got.status != 504 {
		t.Errorf("%+v", got)
	}
}
