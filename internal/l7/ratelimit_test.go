package l7

import (
	"context"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"fairlead.io/fairlead/internal/l7/limit"
	"fairlead.io/fairlead/internal/mesh"
)

// someRates are the same for all pods, and know what they were asked for.
type someRates struct {
	by *limit.Limiter

	mu    sync.Mutex // protects asked
	asked map[mesh.Name]uint16
}

func (s *someRates) Rate(_ *Pod, _ uint16, service mesh.Name, port uint16) *limit.Limiter {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asked == nil {
		s.asked = map[mesh.Name]uint16{}
	}
	s.asked[service] = port
	return s.by
}

// limitedPair is a client's node and a server's, whose pod takes three requests at once.
func limitedPair(t *testing.T, app net.Listener, l *mesh.Limit) (out net.Listener, rates *someRates, rec *ledger) {
	w := newWorld(t)
	client, server := w.pod(1, true), w.pod(2, true)
	rates, rec = &someRates{by: limit.New(l, time.Now())}, &ledger{}
	in := w.in(server, 8080, app)
	out = w.out(client, w.service("10.96.0.1:80", mesh.Unknown, w.endpoint(server, 8080)))
	w.node(nil, nil, client.spec([]net.Listener{out}, nil))
	w.node(rec, func(c *Config) { c.Rates = rates }, server.spec(nil, []net.Listener{in}))
	return out, rates, rec
}

func TestRateLimit(t *testing.T) {
	id := "spiffe://test/ns/test/sa/pod-1"
	for name, l := range map[string]*mesh.Limit{
		"total":  {Total: mesh.Rate{PerSecond: 0.01, Burst: 3}},
		"each":   {Each: mesh.Rate{PerSecond: 0.01, Burst: 3}},
		"except": {Each: mesh.Rate{PerSecond: 1000, Burst: 1000}, Except: map[string]mesh.Rate{id: {PerSecond: 0.01, Burst: 3}}},
	} {
		for _, h2 := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				out, rates, rec := limitedPair(t, newWorld(t).httpApp(saying("svc")), l)
				r := &routed{t: t, out: out}
				c := r.client(h2)
				for i := range 6 {
					got := r.get(c, "/")
					if want := map[bool]int{true: 200, false: 429}[i < 3]; got.status != want {
						t.Errorf("request %d: %d, want %d", i, got.status, want)
					}
					if after, _ := strconv.Atoi(got.header.Get("Retry-After")); got.status == 429 && (after < 50 || after > 100) {
						t.Errorf("Retry-After: %d", after)
					}
				}
				rec.event(t, EventLimited, 3)
				if rates.asked[mesh.Name{Namespace: "test", Name: "svc"}] != 80 {
					t.Errorf("asked for %v", rates.asked)
				}
			})
		}
	}
}

func TestRateLimitOfGRPC(t *testing.T) {
	out, _, rec := limitedPair(t, grpcApp(t, &failing{}), &mesh.Limit{Total: mesh.Rate{PerSecond: 0.01, Burst: 1}})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	hc := healthpb.NewHealthClient(grpcClient(t, out))
	if _, err := hc.Check(ctx, &healthpb.HealthCheckRequest{}); err != nil {
		t.Fatal(err)
	}
	if _, err := hc.Check(ctx, &healthpb.HealthCheckRequest{}); status.Code(err) != codes.ResourceExhausted {
		t.Error(err)
	}
	rec.event(t, EventLimited, 1)
}
