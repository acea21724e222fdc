package l7

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
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

// TestResetIsNoProof: an app that resets a POST has seen it, whatever error code it gives. Only REFUSED_STREAM says that
// it has not.
func TestResetIsNoProof(t *testing.T) {
	for code, want := range map[http2.ErrCode]int32{http2.ErrCodeConnect: 1, http2.ErrCodeCancel: 1, http2.ErrCodeInternal: 1,
		http2.ErrCodeRefusedStream: 3} {
		t.Run(code.String(), func(t *testing.T) {
			w := newWorld(t)
			var seen atomic.Int32
			client, server := w.pod(1, true), w.pod(2, false)
			w.in(server, 8080, w.tcpApp(func(c *net.TCPConn) { resetAll(c, code, &seen) }))
			out := w.out(client, w.service("10.96.0.1:80", mesh.HTTP2, w.endpoint(server, 8080)))
			w.node(nil, nil, client.spec([]net.Listener{out}, nil))
			resp, err := httpClient(t, out, true).Post("http://svc.test/", "text/plain", strings.NewReader("pay"))
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if n := seen.Load(); resp.StatusCode != 502 || n != want {
				t.Errorf("%d, and the app has seen the request %d times, want %d", resp.StatusCode, n, want)
			}
		})
	}
}

// resetAll is an HTTP/2 server that counts requests and resets each.
func resetAll(c *net.TCPConn, code http2.ErrCode, seen *atomic.Int32) {
	if _, err := io.ReadFull(c, make([]byte, len(http2.ClientPreface))); err != nil {
		return
	}
	f := http2.NewFramer(c, c)
	if f.WriteSettings() != nil {
		return
	}
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return
		}
		switch x := frame.(type) {
		case *http2.SettingsFrame:
			if !x.IsAck() {
				err = f.WriteSettingsAck()
			}
		case *http2.HeadersFrame:
			seen.Add(1)
			err = f.WriteRSTStream(x.StreamID, code)
		}
		if err != nil {
			return
		}
	}
}

// doneTeller says when a request has ended, as far as the exchange is concerned.
type doneTeller struct {
	nobody
	done chan struct{}
}

func (d doneTeller) Request(*RequestRecord) { d.done <- struct{}{} }

// TestSlowClientsGiveTheirCreditBack: responses that have ended wait in the proxy until their clients take them. The window of the
// connection that they came by must be whole again afterwards, or those who share it starve.
func TestSlowClientsGiveTheirCreditBack(t *testing.T) {
	const size = 100_000 // less than a stream's window
	w := newWorld(t)
	client, server := w.pod(1, true), w.pod(2, true)
	in := w.in(server, 8080, w.httpApp(func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, size)) }))
	out := w.out(client, w.service("10.96.0.1:80", mesh.HTTP2, w.endpoint(server, 8080)))
	rec := doneTeller{done: make(chan struct{}, 1)}
	one := func(c *Config) { c.Loops = 1 }
	w.node(rec, one, client.spec([]net.Listener{out}, nil))
	w.node(nil, one, server.spec(nil, []net.Listener{in}))
	c := newFramedCaller(t, out, false)
	c.c.Write(frame(nil, 4, 0, 0, "\x00\x04\x00\x00\x00\x00")) // SETTINGS_INITIAL_WINDOW_SIZE of 0
	for i := range 3 * (2 << 20) / size {
		c.c.Write(frame(nil, 1, 0x5, c.id, c.block))
		select {
		case <-rec.done:
		case <-time.After(5 * time.Second):
			t.Fatalf("request %d gets no answer", i+1)
		}
		credit := string([]byte{0, size >> 16, size >> 8 & 0xff, size & 0xff})
		c.c.Write(frame(frame(nil, 8, 0, 0, credit), 8, 0, c.id, credit))
		for end := false; !end; {
			kind, flags, _, err := c.next()
			if err != nil || kind == 3 || kind == 7 {
				t.Fatalf("request %d: frame %d, %v", i+1, kind, err)
			}
			end = kind == 0 && flags&1 > 0
		}
		c.id += 2
	}
}
