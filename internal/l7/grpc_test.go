package l7

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
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
			conn := grpcClient(t, out)
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

// TestCancelledByTheServer: a server resets a call whose deadline has passed. The client sees this and no answer of ours, and
// nothing is sent again; what a server says when something is wrong with it is UNAVAILABLE.
func TestCancelledByTheServer(t *testing.T) {
	for reset, want := range map[http2.ErrCode]codes.Code{http2.ErrCodeCancel: codes.Canceled, http2.ErrCodeInternal: codes.Unavailable} {
		for _, inMesh := range []bool{true, false} {
			t.Run(fmt.Sprint(reset, inMesh), func(t *testing.T) {
				w := newWorld(t)
				rec := &ledger{}
				var seen atomic.Int32
				app := w.tcpApp(func(c *net.TCPConn) { resetAll(c, reset, &seen) })
				client, server := w.pod(1, true), w.pod(2, inMesh)
				in := w.in(server, 9000, app)
				out := w.out(client, w.service("10.96.0.1:90", mesh.HTTP2, w.endpoint(server, 9000)))
				w.node(rec, nil, client.spec([]net.Listener{out}, nil))
				if in != nil {
					w.node(nil, nil, server.spec(nil, []net.Listener{in}))
				}
				conn := grpcClient(t, out)
				ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
				defer cancel()
				_, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
				if status.Code(err) != want || seen.Load() != 1 {
					t.Errorf("%v, want %v; the server has seen it %d times", err, want, seen.Load())
				}
				eventually(t, "the call is recorded", func() bool {
					rec.mu.Lock()
					defer rec.mu.Unlock()
					return len(rec.requests) == 1 && rec.requests[0].GRPCStatus == uint32(want)
				})
			})
		}
	}
}

func grpcClient(t testing.TB, ln net.Listener) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(ln.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}
