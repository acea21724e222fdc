package l7

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"fairlead.io/fairlead/internal/mesh"
)

// retried is a rule to svc that is tried again as p says.
func retried(p mesh.Retry) *mesh.PortRoutes {
	p.Floor = max(p.Floor, 1000)
	return httpRow(mesh.Rule{Title: "/", Backends: to("svc"), Policy: &mesh.Traffic{Retry: &p}})
}

var onUnavailable = mesh.Retry{Statuses: []mesh.StatusRange{{First: 500, Last: 503}}, Limit: 3}

func TestRetryByStatus(t *testing.T) {
	tests := []struct {
		name   string
		size   int // of the request's body
		fails  int64
		status int // of the failures
		want   int
		times  int64 // that the app is asked
	}{
		{"one failure", 0, 1, 503, 200, 2},
		{"with a body", 10 << 10, 2, 500, 200, 3},
		{"more than the limit", 5, 9, 503, 503, 4},
		{"another status", 5, 1, 404, 404, 1},
		{"a body too long to keep", 100 << 10, 9, 503, 503, 1},
	}
	for _, s := range settings {
		for _, test := range tests {
			t.Run(s.String()+","+test.name, func(t *testing.T) {
				var n atomic.Int64
				app := counted(&n, func(n int64, w http.ResponseWriter, r *http.Request) {
					got, _ := io.Copy(io.Discard, r.Body)
					if n <= test.fails {
						http.Error(w, strings.Repeat("no", 2000), test.status)
						return
					}
					fmt.Fprintf(w, "%d", got)
				})
				r := newRouted(t, s.inMesh, mesh.HTTP1, retried(onUnavailable), nil, map[string]net.Listener{"svc": newWorld(t).httpApp(app)})
				c := r.client(s.h2)
				got := r.send(c, request1(t, "POST", "/", bytes.NewReader(make([]byte, test.size))))
				if got.status != test.want || n.Load() != test.times || got.status == 200 && got.body != fmt.Sprint(test.size) {
					t.Errorf("%d, asked %d times, want %d, %d: %.50s", got.status, n.Load(), test.want, test.times, got.body)
				}
				if rec := r.last(1); rec.Retries != int(test.times)-1 || rec.Attempts != int(test.times) || rec.Status != test.want {
					t.Errorf("recorded %+v", rec)
				}
				if r.rec.count(EventRetried) != int(test.times)-1 {
					t.Errorf("%d events", r.rec.count(EventRetried))
				}
			})
		}
	}
}

// TestRetryOfAStream: what has been passed on beyond the bound cannot be sent again, although the request still goes on.
func TestRetryOfAStream(t *testing.T) {
	for _, s := range settings {
		t.Run(s.String(), func(t *testing.T) {
			var n atomic.Int64
			sent := make(chan struct{})
			app := counted(&n, func(_ int64, w http.ResponseWriter, r *http.Request) {
				_, _ = io.CopyN(io.Discard, r.Body, 80<<10)
				w.WriteHeader(503)
				close(sent)
			})
			r := newRouted(t, s.inMesh, mesh.HTTP1, retried(onUnavailable), nil, map[string]net.Listener{"svc": newWorld(t).httpApp(app)})
			pr, pw := io.Pipe()
			var writing sync.WaitGroup
			defer writing.Wait()
			writing.Go(func() {
				_, _ = pw.Write(make([]byte, 80<<10))
				<-sent
				pw.Close()
			})
			if got := r.send(r.client(s.h2), request1(t, "POST", "/", pr)); got.status != 503 || n.Load() != 1 {
				t.Errorf("%d, asked %d times", got.status, n.Load())
			}
		})
	}
}

// TestRetryOfConnections: an app that resets what it was asked is asked again only if the policy says so.
func TestRetryOfConnections(t *testing.T) {
	for _, connect := range []bool{true, false} {
		t.Run(fmt.Sprint(connect), func(t *testing.T) {
			var n atomic.Int64
			app := newWorld(t).tcpApp(func(c *net.TCPConn) {
				buf := make([]byte, 4096)
				if _, err := c.Read(buf); err != nil {
					return
				}
				if n.Add(1) < 3 {
					c.SetLinger(0)
					return
				}
				_, _ = c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"))
			})
			r := newRouted(t, false, mesh.HTTP1, retried(mesh.Retry{Connect: connect, Limit: 2}), nil, map[string]net.Listener{"svc": app})
			want, times := 502, int64(1)
			if connect {
				want, times = 200, 3
			}
			if got := r.send(r.client(false), request1(t, "POST", "/", strings.NewReader("x"))); got.status != want || n.Load() != times {
				t.Errorf("%d, asked %d times, want %d, %d", got.status, n.Load(), want, times)
			}
		})
	}
}

func TestRetryOfSlowAttempts(t *testing.T) {
	for _, s := range settings {
		t.Run(s.String(), func(t *testing.T) {
			var n atomic.Int64
			app := counted(&n, func(n int64, w http.ResponseWriter, r *http.Request) {
				if n < 3 {
					forever(w, r)
				}
			})
			r := newRouted(t, s.inMesh, mesh.HTTP1, retried(mesh.Retry{Attempt: 150 * time.Millisecond, Limit: 2}), nil, map[string]net.Listener{"svc": newWorld(t).httpApp(app)})
			if got := r.send(r.client(s.h2), request1(t, "POST", "/", strings.NewReader("x"))); got.status != 200 || n.Load() != 3 {
				t.Errorf("%d, asked %d times", got.status, n.Load())
			}
			n.Store(-3)
			if got := r.get(r.client(s.h2), "/"); got.status != 504 || n.Load() != 0 {
				t.Errorf("%d, asked %d times", got.status, n.Load()+3)
			}
		})
	}
}

// failing answers calls of gRPC with UNAVAILABLE, for a while.
type failing struct {
	healthpb.UnimplementedHealthServer
	n, fails atomic.Int64
}

func (f *failing) Check(context.Context, *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	if f.n.Add(1) <= f.fails.Load() {
		return nil, status.Error(codes.Unavailable, "not now")
	}
	return &healthpb.HealthCheckResponse{}, nil
}

func grpcApp(t *testing.T, h healthpb.HealthServer) net.Listener {
	ln := newWorld(t).listen("127.0.0.1:0")
	srv := grpc.NewServer()
	healthpb.RegisterHealthServer(srv, h)
	var group sync.WaitGroup
	group.Go(func() { _ = srv.Serve(ln) })
	t.Cleanup(group.Wait)
	t.Cleanup(srv.Stop)
	return ln
}

func TestRetryOfGRPC(t *testing.T) {
	for _, inMesh := range []bool{false, true} {
		t.Run(fmt.Sprint(inMesh), func(t *testing.T) {
			app := &failing{}
			r := newRouted(t, inMesh, mesh.HTTP2, retried(mesh.Retry{GRPC: []uint32{14}, Limit: 2}), nil, map[string]net.Listener{"svc": grpcApp(t, app)})
			hc := healthpb.NewHealthClient(grpcClient(t, r.out))
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			for fails, want := range []codes.Code{codes.OK, codes.OK, codes.OK, codes.Unavailable} {
				app.n.Store(0)
				app.fails.Store(int64(fails))
				_, err := hc.Check(ctx, &healthpb.HealthCheckRequest{})
				if status.Code(err) != want || app.n.Load() != int64(min(fails+1, 3)) {
					t.Errorf("%d failures: %v, asked %d times", fails, err, app.n.Load())
				}
			}
		})
	}
}

func TestBackoff(t *testing.T) {
	for range 1000 {
		for n, most := range []time.Duration{1: 100, 2: 200, 3: 400, 60: 30000} {
			if most == 0 {
				continue
			}
			most *= time.Millisecond
			if d := backoff(100*time.Millisecond, n); d < most/2 || d > most {
				t.Fatalf("before retry %d: %v, want %v to %v", n, d, most/2, most)
			}
		}
	}
	if backoff(0, 3) != 0 {
		t.Error("a pause that nobody has asked for")
	}
}

// TestRetryInTheMiddle: a request that is still being sent is sent again with what has come, and goes on.
func TestRetryInTheMiddle(t *testing.T) {
	for _, s := range settings {
		t.Run(s.String(), func(t *testing.T) {
			var n atomic.Int64
			again := make(chan struct{})
			app := counted(&n, func(n int64, w http.ResponseWriter, r *http.Request) {
				if n == 1 {
					_ = http.NewResponseController(w).EnableFullDuplex() // else it waits for the rest before it answers
					_, _ = io.CopyN(io.Discard, r.Body, 5)
					w.WriteHeader(503)
					return
				}
				close(again)
				b, _ := io.ReadAll(r.Body)
				_, _ = w.Write(b)
			})
			r := newRouted(t, s.inMesh, mesh.HTTP1, retried(onUnavailable), nil, map[string]net.Listener{"svc": newWorld(t).httpApp(app)})
			pr, pw := io.Pipe()
			var writing sync.WaitGroup
			defer writing.Wait()
			writing.Go(func() {
				_, _ = pw.Write([]byte("hello"))
				select {
				case <-again:
				case <-time.After(5 * time.Second):
				}
				_, _ = pw.Write([]byte(" world"))
				pw.Close()
			})
			if got := r.send(r.client(s.h2), request1(t, "POST", "/", pr)); got.status != 200 || got.body != "hello world" || n.Load() != 2 {
				t.Errorf("%d %q, asked %d times", got.status, got.body, n.Load())
			}
		})
	}
}

// TestClientGoesInThePause: nothing is sent for a client that has gone.
func TestClientGoesInThePause(t *testing.T) {
	var n atomic.Int64
	app := counted(&n, func(_ int64, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) })
	p := onUnavailable
	p.Backoff = time.Second
	for _, s := range settings[:2] {
		t.Run(s.String(), func(t *testing.T) {
			n.Store(0)
			r := newRouted(t, s.inMesh, mesh.HTTP1, retried(p), nil, map[string]net.Listener{"svc": newWorld(t).httpApp(app)})
			ctx, cancel := context.WithTimeout(t.Context(), soon)
			defer cancel()
			if _, err := r.client(s.h2).Do(request1(t, "GET", "/", nil).WithContext(ctx)); err == nil {
				t.Fatal("an answer")
			}
			if rec := r.last(1); rec.Retries != 1 || rec.Attempts != 1 {
				t.Errorf("recorded %+v", rec)
			}
			time.Sleep(time.Second) // longer than the pause
			if n.Load() != 1 {
				t.Errorf("asked %d times", n.Load())
			}
		})
	}
}
