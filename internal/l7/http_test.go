package l7

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/l7/balance"
	"fairlead.io/fairlead/internal/mesh"
)

// httpApp serves HTTP/1 and HTTP/2 with prior knowledge.
func (w *world) httpApp(h http.HandlerFunc) net.Listener {
	w.t.Helper()
	ln := w.listen("127.0.0.1:0")
	srv := &http.Server{Handler: h, Protocols: new(http.Protocols)}
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetUnencryptedHTTP2(true)
	var group sync.WaitGroup
	group.Go(func() { srv.Serve(ln) })
	w.t.Cleanup(group.Wait)
	w.t.Cleanup(func() { srv.Close() })
	return ln
}

// httpClient reaches ln whatever the URL says.
func httpClient(t *testing.T, ln net.Listener, h2 bool) *http.Client {
	t.Helper()
	tr := &http.Transport{Protocols: new(http.Protocols), DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", ln.Addr().String())
	}}
	tr.Protocols.SetHTTP1(!h2)
	tr.Protocols.SetUnencryptedHTTP2(h2)
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 10 * time.Second}
}

func report(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	w.Header().Set("X-Version", r.Proto)
	w.Header().Set("X-Ours", fmt.Sprint(r.Header["Fairlead-Service"]))
	w.Header().Set("Trailer", "X-Sum")
	fmt.Fprintf(w, "%s %s %d", r.Method, r.Host, len(body))
	w.Header().Set("X-Sum", "done")
}

func TestHTTP(t *testing.T) {
	for _, inMesh := range []bool{true, false} {
		for _, h2 := range []bool{false, true} {
			t.Run(fmt.Sprintf("mesh=%v,h2=%v", inMesh, h2), func(t *testing.T) {
				w := newWorld(t)
				recA, recB := &ledger{}, &ledger{}
				client, server := w.pod(1, true), w.pod(2, inMesh)
				in := w.in(server, 8080, w.httpApp(report))
				out := w.out(client, w.service("10.96.0.1:80", mesh.Unknown, w.endpoint(server, 8080)))
				w.node(recA, nil, client.spec([]net.Listener{out}, nil))
				if in != nil {
					w.node(recB, nil, server.spec(nil, []net.Listener{in}))
				}
				c := httpClient(t, out, h2)
				for i := range 5 {
					size := []int{0, 1, 1000, 70000, 1 << 20}[i]
					resp, err := c.Post("http://svc.test/path", "text/plain", bytes.NewReader(make([]byte, size)))
					if err != nil {
						t.Fatal(err)
					}
					body, err := io.ReadAll(resp.Body)
					resp.Body.Close()
					if want := fmt.Sprintf("POST svc.test %d", size); err != nil || string(body) != want {
						t.Fatalf("got %q, %v, want %q", body, err, want)
					}
					want := "HTTP/1.1"
					if h2 {
						want = "HTTP/2.0"
					}
					if got := resp.Header.Get("X-Version"); got != want {
						t.Errorf("app was spoken to in %s, want %s", got, want)
					}
					if resp.Trailer.Get("X-Sum") != "done" || resp.Header.Get("X-Ours") != "[]" {
						t.Errorf("trailer %v, header %v", resp.Trailer, resp.Header)
					}
				}
				checkRequests(t, recA, recB, inMesh)
			})
		}
	}
}

func checkRequests(t *testing.T, recA, recB *ledger, inMesh bool) {
	t.Helper()
	svc := mesh.Name{Namespace: "test", Name: "svc"}
	for _, l := range []*ledger{recA, recB} {
		if l == recB && !inMesh {
			continue
		}
		eventually(t, "five requests", func() bool { l.mu.Lock(); defer l.mu.Unlock(); return len(l.requests) == 5 })
		for _, r := range l.requests {
			sec := SecurityForeign
			if inMesh {
				sec = SecurityMTLS
			}
			if r.Status != 200 || r.Cause != CauseNone || r.Service != svc || r.Security != sec || r.Attempts != 1 || r.Peer == nil || inMesh != (r.State != nil) {
				t.Errorf("recorded %+v", r)
			}
		}
		if last := l.requests[4]; last.BytesIn != 1<<20 || last.BytesOut == 0 {
			t.Errorf("bytes %d in, %d out", last.BytesIn, last.BytesOut)
		}
	}
	// One mutual TLS connection carries them all, or one per loop.
	if n := len(recA.handshakes); inMesh && (n == 0 || n > 2) {
		t.Errorf("%d handshakes", n)
	}
}

// cluster is a client pod, and server pods that answer with their names.
type cluster struct {
	*world
	out     net.Listener
	dest    Destination
	ends    []balance.Endpoint
	rec     *ledger
	engine  *Engine
	servers []*testPod
}

func newCluster(t *testing.T, n int, inMesh bool, h func(i int) http.HandlerFunc) *cluster {
	t.Helper()
	return newClusterWith(t, n, inMesh, nil, h)
}

func newClusterWith(t *testing.T, n int, inMesh bool, change func(*Config), h func(i int) http.HandlerFunc) *cluster {
	t.Helper()
	c := &cluster{world: newWorld(t), rec: &ledger{}}
	client := c.pod(1, true)
	var specs []*Pod
	for i := range n {
		p := c.pod(10+i, inMesh)
		ln := c.in(p, 8080, c.httpApp(h(i)))
		c.ends = append(c.ends, c.endpoint(p, 8080))
		c.servers = append(c.servers, p)
		if ln != nil {
			specs = append(specs, p.spec(nil, []net.Listener{ln}))
		}
	}
	c.dest = c.service("10.96.0.1:80", mesh.HTTP1, c.ends...)
	c.out = c.world.out(client, c.dest)
	c.engine = c.node(c.rec, change, client.spec([]net.Listener{c.out}, nil))
	c.node(nil, nil, specs...)
	return c
}

func named(i int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, "%d", i) }
}

func get(t *testing.T, c *http.Client) (int, string) {
	t.Helper()
	resp, err := c.Get("http://svc.test/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestRequestsAreBalancedAndFollowSet(t *testing.T) {
	for _, inMesh := range []bool{true, false} {
		t.Run(fmt.Sprint(inMesh), func(t *testing.T) {
			c := newCluster(t, 3, inMesh, named)
			client := httpClient(t, c.out, false) // one connection
			seen := map[string]int{}
			for range 120 {
				_, body := get(t, client)
				seen[body]++
			}
			for _, name := range []string{"0", "1", "2"} {
				if seen[name] == 0 {
					t.Errorf("served: %v", seen)
				}
			}
			c.dest.Cluster.Set(c.ends[2:])
			for range 20 {
				if _, body := get(t, client); body != "2" {
					t.Fatalf("served by %s after it was taken out", body)
				}
			}
			c.dest.Cluster.Set(nil)
			if code, _ := get(t, client); code != 503 {
				t.Errorf("without endpoints: %d", code)
			}
		})
	}
}

func TestRefusedEndpointIsRetried(t *testing.T) {
	c := newCluster(t, 1, true, named)
	dead := c.endpoint(c.pod(99, true), 8080)
	wrong := c.endpoint(c.servers[0], 8080)
	wrong.Account = mesh.Account{Namespace: "test", Name: "other"}
	client := httpClient(t, c.out, false)
	for range 10 {
		c.dest.Cluster.Set(append([]balance.Endpoint{dead}, c.ends...))
		if code, body := get(t, client); code != 200 || body != "0" {
			t.Fatalf("%d %s", code, body)
		}
	}
	c.rec.event(t, EventRetry, 1)
	c.dest.Cluster.Set([]balance.Endpoint{dead})
	if code, _ := get(t, client); code != 502 {
		t.Errorf("only a dead endpoint: %d", code)
	}
	c.dest.Cluster.Set([]balance.Endpoint{wrong})
	if code, _ := get(t, client); code != 502 {
		t.Errorf("wrong account: %d", code)
	}
	c.rec.mu.Lock()
	defer c.rec.mu.Unlock()
	if last := c.rec.requests[len(c.rec.requests)-1]; last.Cause != CauseIdentity {
		t.Errorf("cause %v, want identity", last.Cause)
	}
}

// TestConnectionsFollowTheirAddress: an address that was nobody's becomes a service's. A client that keeps its connection
// is not led past the service for ever.
func TestConnectionsFollowTheirAddress(t *testing.T) {
	c := newCluster(t, 2, false, named)
	vip := c.dest.Addr
	c.mu.Lock()
	service := c.dests[vip]
	e := c.ends[0]
	c.dests[vip] = Destination{Addr: vip, Endpoint: balance.Single(e)}
	c.mu.Unlock()
	client := httpClient(t, c.out, false) // one connection
	for range 5 {
		if _, body := get(t, client); body != "0" {
			t.Fatalf("served by %s", body)
		}
	}
	c.mu.Lock()
	c.dests[vip] = service
	c.moved[vip] = true
	c.mu.Unlock()
	c.engine.Reauthorize()
	c.dest.Cluster.Set(c.ends[1:])
	eventually(t, "the service is asked", func() bool {
		code, body := get(t, client)
		return code == 200 && body == "1"
	})
}

// TestAppThatRefuses: a pod whose proxy is there and whose app is not gives requests back, so that they are sent to the
// others, those with a body too; and it does not look fast for it.
func TestAppThatRefuses(t *testing.T) {
	c := newCluster(t, 3, true, named)
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody.Close()
	c.mu.Lock()
	c.apps[c.ends[0].Addr] = nobody.Addr().String()
	c.mu.Unlock()
	client := httpClient(t, c.out, false)
	for range 30 {
		resp, err := client.Post("http://svc.test/", "text/plain", strings.NewReader("a vote"))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 200 || string(body) == "0" || err != nil {
			t.Fatalf("%d %s %v", resp.StatusCode, body, err)
		}
	}
	c.rec.mu.Lock()
	retries := c.rec.events[EventRetry]
	c.rec.mu.Unlock()
	if retries == 0 || retries > 15 {
		t.Errorf("%d of 30 requests were tried at the dead app first: it is to be tried, and then left alone", retries)
	}
	c.dest.Cluster.Set(c.ends[:1])
	if code, _ := get(t, client); code != 502 {
		t.Errorf("only an app that refuses: %d", code)
	}
}

func TestUpstreamKilledWithinARequest(t *testing.T) {
	for _, inMesh := range []bool{true, false} {
		t.Run(fmt.Sprint(inMesh), func(t *testing.T) {
			c := newCluster(t, 1, inMesh, func(int) http.HandlerFunc {
				return func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == "/late" {
						w.Write(make([]byte, 100000))
						w.(http.Flusher).Flush()
					}
					panic(http.ErrAbortHandler)
				}
			})
			client := httpClient(t, c.out, false)
			resp, err := client.Post("http://svc.test/", "text/plain", strings.NewReader("x"))
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != 502 {
				t.Errorf("before the response: %d", resp.StatusCode)
			}
			resp, err = client.Get("http://svc.test/late")
			if err != nil {
				t.Fatal(err)
			}
			_, err = io.ReadAll(resp.Body)
			resp.Body.Close()
			if err == nil {
				t.Error("a cut response looks whole")
			}
		})
	}
}

func TestHTTPDrain(t *testing.T) {
	c := newCluster(t, 1, true, func(int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/slow" {
				w.(http.Flusher).Flush()
				<-r.Context().Done()
			}
		}
	})
	client := httpClient(t, c.out, false)
	get(t, client)
	resp, err := client.Get("http://svc.test/slow")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	c.engine.Set(nil)
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Error("the slow response ended well after its pod's deadline")
	}
	c.rec.event(t, EventDrainDeadline, 1)
	if _, err := client.Get("http://svc.test/"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("new connection: %v, want it refused", err)
	}
}

func TestRequestLimit(t *testing.T) {
	w := newWorld(t)
	rec := &ledger{}
	release := make(chan struct{})
	entered := make(chan struct{})
	client, server := w.pod(1, true), w.pod(2, false)
	w.in(server, 8080, w.httpApp(func(http.ResponseWriter, *http.Request) { entered <- struct{}{}; <-release }))
	out := w.out(client, w.service("10.96.0.1:80", mesh.HTTP1, w.endpoint(server, 8080)))
	w.node(rec, func(c *Config) { c.Limits.Requests = 1 }, client.spec([]net.Listener{out}, nil))
	c := httpClient(t, out, false)
	first := make(chan error, 1)
	go func() {
		resp, err := c.Get("http://svc.test/")
		if err == nil {
			resp.Body.Close()
		}
		first <- err
	}()
	<-entered
	if code, _ := get(t, c); code != 503 {
		t.Errorf("second request: %d", code)
	}
	close(release)
	if err := <-first; err != nil {
		t.Error(err)
	}
	rec.event(t, EventRequestLimit, 1)
}

func TestPreconnectedHTTPClientIsNotOpaque(t *testing.T) {
	w := newWorld(t)
	rec := &ledger{}
	client, server := w.pod(1, true), w.pod(2, false)
	w.in(server, 8080, w.httpApp(report))
	out := w.out(client, w.service("10.96.0.1:80", mesh.Unknown, w.endpoint(server, 8080)))
	e := w.node(rec, nil, client.spec([]net.Listener{out}, nil))
	for i := range 2 {
		c := dial(t, out)
		time.Sleep(3 * e.lim.Detect) // the client's own pause, which is what is tested
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		if got, err := io.ReadAll(c); err != nil || !bytes.HasPrefix(got, []byte("HTTP/1.1 200")) {
			t.Fatalf("%q, %v", got, err)
		}
		eventually(t, "a request", func() bool { rec.mu.Lock(); defer rec.mu.Unlock(); return len(rec.requests) == i+1 })
	}
}

// TestConnectionLimitOfHTTP: as many connections as the limit says are served, also in the moment in which the last of them
// passes to a loop.
func TestConnectionLimitOfHTTP(t *testing.T) {
	const limit = 20
	c := newClusterWith(t, 1, true, func(cfg *Config) { cfg.Limits.Conns = limit }, func(int) http.HandlerFunc { return func(http.ResponseWriter, *http.Request) {} })
	for round := range 5 {
		clients := make([]*http.Client, limit)
		var all sync.WaitGroup
		for i := range clients {
			clients[i] = httpClient(t, c.out, false)
			all.Go(func() {
				resp, err := clients[i].Get("http://svc.test/")
				if err != nil {
					t.Errorf("round %d, connection %d of %d: %v", round, i, limit, err)
					return
				}
				resp.Body.Close()
			})
		}
		all.Wait()
		wantReset(t, c.out)
		for _, client := range clients {
			client.CloseIdleConnections()
		}
		eventually(t, "the connections to end", func() bool { return c.engine.Live() == 0 })
	}
}
