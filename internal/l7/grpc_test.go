package l7

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"fairlead.io/fairlead/internal/mesh"
)

func TestGRPC(t *testing.T) {
	for _, inMesh := range []bool{true, false} {
		t.Run(fmt.Sprint(inMesh), func(t *testing.T) {
			w := newWorld(t)
			rec := &ledger{}
			ln := w.listen("127.0.0.1:0")
			srv := grpc.NewServer()
			hs := health.NewServer()
			hs.SetServingStatus("x", healthpb.HealthCheckResponse_SERVING)
			healthpb.RegisterHealthServer(srv, hs)
			var group sync.WaitGroup
			group.Go(func() { srv.Serve(ln) })
			t.Cleanup(group.Wait)
			t.Cleanup(srv.Stop)
			client, server := w.pod(1, true), w.pod(2, inMesh)
			in := w.in(server, 9000, ln)
			dest := w.service("10.96.0.1:90", mesh.Unknown, w.endpoint(server, 9000))
			out := w.out(client, dest)
			w.node(rec, nil, client.spec([]net.Listener{out}, nil))
			if in != nil {
				w.node(nil, nil, server.spec(nil, []net.Listener{in}))
			}
			conn, err := grpc.NewClient(out.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close() })
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			hc := healthpb.NewHealthClient(conn)
			for range 20 {
				resp, err := hc.Check(ctx, &healthpb.HealthCheckRequest{Service: "x"})
				if err != nil || resp.Status != healthpb.HealthCheckResponse_SERVING {
					t.Fatalf("%v, %v", resp, err)
				}
			}
			if _, err := hc.Check(ctx, &healthpb.HealthCheckRequest{Service: "y"}); status.Code(err) != codes.NotFound {
				t.Errorf("unknown service: %v", err)
			}
			watch, err := hc.Watch(ctx, &healthpb.HealthCheckRequest{Service: "x"})
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range []healthpb.HealthCheckResponse_ServingStatus{healthpb.HealthCheckResponse_SERVING, healthpb.HealthCheckResponse_NOT_SERVING} {
				if resp, err := watch.Recv(); err != nil || resp.Status != want {
					t.Fatalf("stream: %v, %v", resp, err)
				}
				hs.SetServingStatus("x", healthpb.HealthCheckResponse_NOT_SERVING)
			}
			dest.Cluster.Set(nil)
			if _, err := hc.Check(ctx, &healthpb.HealthCheckRequest{Service: "x"}); status.Code(err) != codes.Unavailable {
				t.Errorf("without endpoints: %v", err)
			}
			rec.mu.Lock()
			defer rec.mu.Unlock()
			found := false
			for _, r := range rec.requests {
				found = found || r.GRPC && r.GRPCStatus == uint32(codes.NotFound) && r.Status == 200
			}
			if !found {
				t.Error("NOT_FOUND was not recorded")
			}
		})
	}
}
