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

const soon = 150 * time.Millisecond

func TestTimeouts(t *testing.T) {
	idle := &mesh.Traffic{Timeouts: &mesh.Timeouts{Idle: soon}}
	row := httpRow(
		mesh.Rule{Title: "/request", Backends: to("svc"), Request: soon},
		mesh.Rule{Title: "/attempt", Backends: to("svc"), Attempt: soon},
		mesh.Rule{Title: "/policy", Backends: to("svc"), Policy: &mesh.Traffic{Timeouts: &mesh.Timeouts{Request: soon}}},
		mesh.Rule{Title: "/idle", Backends: to("svc"), Policy: idle},
		mesh.Rule{Title: "/drip", Backends: to("svc"), Policy: idle},
		mesh.Rule{Title: "/half", Backends: to("svc"), Request: soon},
	)
	app := func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/drip": // longer than the silence that is allowed, and never silent
			for range 8 {
				_, _ = w.Write([]byte("drip"))
				w.(http.Flusher).Flush()
				time.Sleep(soon / 3) // the drip's pace
			}
		case "/half":
			_, _ = w.Write([]byte("half"))
			w.(http.Flusher).Flush()
			forever(w, r)
		default:
			forever(w, r)
		}
	}
	for _, s := range settings {
		t.Run(s.String(), func(t *testing.T) {
			r := newRouted(t, s.inMesh, mesh.HTTP1, row, nil, map[string]net.Listener{"svc": newWorld(t).httpApp(app)})
			c := r.client(s.h2)
			for i, path := range []string{"/request", "/attempt", "/policy", "/idle"} {
				began := time.Now()
				if got := r.get(c, path); got.status != 504 || time.Since(began) > 5*time.Second {
					t.Errorf("%s: %d in %v", path, got.status, time.Since(began))
				}
				if rec := r.last(i + 1); rec.Cause != CauseTimeout || rec.Status != 504 {
					t.Errorf("%s: recorded %+v", path, rec)
				}
			}
			if got := r.get(c, "/drip"); got.status != 200 || len(got.body) != 32 {
				t.Errorf("drip: %+v", got)
			}
			resp, err := c.Get("http://svc.test/half")
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			b := make([]byte, 10)
			n := 0
			for err == nil {
				var k int
				k, err = resp.Body.Read(b)
				n += k
			}
			if n != 4 || err == nil || err.Error() == "EOF" {
				t.Errorf("a response that was cut short: %d bytes, %v", n, err)
			}
		})
	}
}

// hanging never answers, or once and then no more.
type hanging struct {
	healthpb.UnimplementedHealthServer
}

func (hanging) Watch(_ *healthpb.HealthCheckRequest, s healthpb.Health_WatchServer) error {
	if err := s.Send(&healthpb.HealthCheckResponse{}); err != nil {
		return err
	}
	<-s.Context().Done()
	return s.Context().Err()
}

func (hanging) Check(ctx context.Context, _ *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestTimeoutOfGRPC(t *testing.T) {
	r := newRouted(t, true, mesh.HTTP2, httpRow(mesh.Rule{Title: "/", Backends: to("svc"), Request: soon}), nil, map[string]net.Listener{"svc": grpcApp(t, hanging{})})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	hc := healthpb.NewHealthClient(grpcClient(t, r.out))
	if _, err := hc.Check(ctx, &healthpb.HealthCheckRequest{}); status.Code(err) != codes.DeadlineExceeded || ctx.Err() != nil {
		t.Error(err)
	}
	stream, err := hc.Watch(ctx, &healthpb.HealthCheckRequest{})
	if err == nil {
		_, err = stream.Recv()
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.DeadlineExceeded || ctx.Err() != nil {
		t.Errorf("behind the first message: %v", err)
	}
	if rec := r.last(2); rec.Cause != CauseTimeout || rec.GRPCStatus != 4 || rec.Status != 200 {
		t.Errorf("recorded %+v", rec)
	}
}
