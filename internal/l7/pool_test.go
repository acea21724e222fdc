package l7

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"fairlead.io/fairlead/internal/mesh"
)

// TestExtendedConnect asks an app that does not know it: the answer comes at once, and ordinary requests go on.
func TestExtendedConnectIsUnknown(t *testing.T) {
	w := newWorld(t)
	client, server := w.pod(1, true), w.pod(2, false)
	w.in(server, 8080, w.httpApp(report))
	out := w.out(client, w.service("10.96.0.1:80", mesh.HTTP2, w.endpoint(server, 8080)))
	w.node(nil, nil, client.spec([]net.Listener{out}, nil))
	cc, err := new(http2.Transport).NewClientConn(dial(t, out)) //nolint:staticcheck // net/http's refuses to send :protocol
	if err != nil {
		t.Fatal(err)
	}
	c := &http.Client{Transport: cc, Timeout: 10 * time.Second}
	get(t, c) // the client has our settings now
	for range 3 {
		req, _ := http.NewRequest("CONNECT", "http://svc.test/chat", http.NoBody)
		req.Header[":protocol"] = []string{"websocket"}
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 501 {
			t.Errorf("extended CONNECT: %d", resp.StatusCode)
		}
		if code, _ := get(t, c); code != 200 {
			t.Errorf("an ordinary request: %d", code)
		}
	}
}

// TestManyStreams needs more streams at once than one connection to the app may have.
func TestManyStreams(t *testing.T) {
	w := newWorld(t)
	client, server := w.pod(1, true), w.pod(2, false)
	release := make(chan struct{})
	entered := make(chan struct{}, 100)
	ln := w.listen("127.0.0.1:0")
	handler := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		entered <- struct{}{}
		<-release
	})
	srv := httptest.NewUnstartedServer(handler)
	srv.Config.Protocols = new(http.Protocols)
	srv.Config.Protocols.SetUnencryptedHTTP2(true)
	srv.Config.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: 4}
	srv.Listener.Close()
	srv.Listener = ln
	srv.Start()
	t.Cleanup(srv.Close)
	w.in(server, 8080, ln)
	out := w.out(client, w.service("10.96.0.1:80", mesh.HTTP2, w.endpoint(server, 8080)))
	w.node(nil, func(c *Config) { c.Loops = 1 }, client.spec([]net.Listener{out}, nil))
	c := httpClient(t, out, true)
	results := make(chan error, 12)
	for range cap(results) {
		go func() {
			resp, err := c.Get("http://svc.test/")
			if err == nil {
				resp.Body.Close()
			}
			results <- err
		}()
	}
	for range cap(results) {
		select {
		case <-entered:
		case <-time.After(5 * time.Second):
			t.Fatal("the requests do not get through side by side")
		}
	}
	close(release)
	for range cap(results) {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
}

// TestSetTwiceBeforeRun gives listeners that are never served: they are closed all the same.
func TestSetTwiceBeforeRun(t *testing.T) {
	w := newWorld(t)
	p := w.pod(1, true)
	first, second := w.listen("127.0.0.1:0"), w.listen("127.0.0.1:0")
	rec := &ledger{}
	e := New(Config{Loops: 1, Brain: w, Recorder: rec})
	e.Set([]*Pod{p.spec([]net.Listener{first}, nil)})
	e.Set([]*Pod{p.spec([]net.Listener{second}, nil)})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	refused := func(ln net.Listener) func() bool {
		return func() bool {
			c, err := net.Dial("tcp", ln.Addr().String())
			if err == nil {
				c.Close()
			}
			return err != nil
		}
	}
	eventually(t, "the first listener to be closed", refused(first))
	wantReset(t, second) // it is served: a connection to the listener itself is reset
	rec.event(t, EventLoopback, 1)
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if !refused(second)() {
		t.Error("the second listener outlived Run")
	}
}
