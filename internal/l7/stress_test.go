package l7

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/mesh"
)

// TestClientsThatGiveUp leaves nothing in flight behind them, whenever they go.
func TestClientsThatGiveUp(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprint("h2=", h2), func(t *testing.T) {
			c := newCluster(t, 2, true, func(int) http.HandlerFunc {
				return func(w http.ResponseWriter, r *http.Request) {
					io.CopyN(io.Discard, r.Body, 1000)
					w.Write(make([]byte, 20000))
					w.(http.Flusher).Flush()
					io.Copy(w, r.Body)
				}
			})
			if h2 {
				c.mu.Lock()
				d := c.dests[c.dest.Addr]
				d.Port.Protocol = mesh.HTTP2
				c.dests[c.dest.Addr] = d
				c.mu.Unlock()
			}
			client := httpClient(t, c.out, h2)
			dice := rand.New(rand.NewPCG(7, 7))
			var group sync.WaitGroup
			for range 200 {
				patience := time.Duration(dice.IntN(8000)) * time.Microsecond
				size := dice.IntN(300000)
				group.Go(func() {
					ctx, cancel := context.WithTimeout(context.Background(), patience)
					defer cancel()
					req, _ := http.NewRequestWithContext(ctx, "POST", "http://svc.test/", bytes.NewReader(make([]byte, size)))
					if resp, err := client.Do(req); err == nil {
						io.Copy(io.Discard, resp.Body)
						resp.Body.Close()
					}
				})
			}
			group.Wait()
			if code, _ := get(t, client); code != 200 {
				t.Errorf("afterwards: %d", code)
			}
			eventually(t, "nothing in flight", func() bool {
				for _, ep := range c.dest.Cluster.Endpoints() {
					if ep.InFlight() != 0 {
						return false
					}
				}
				return true
			})
			c.rec.mu.Lock()
			defer c.rec.mu.Unlock()
			if c.rec.events[EventPanic] > 0 {
				t.Error("there was a panic")
			}
		})
	}
}

// TestNodeDies ends the destination's proxy within a request, a response and an opaque connection: nothing hangs.
func TestNodeDies(t *testing.T) {
	w := newWorld(t)
	client, server := w.pod(1, true), w.pod(2, true)
	entered := make(chan struct{}, 2)
	web := w.in(server, 8080, w.httpApp(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/late" {
			io.WriteString(w, "begun")
			w.(http.Flusher).Flush()
		}
		entered <- struct{}{}
		<-r.Context().Done()
	}))
	tcp := w.in(server, 7000, w.tcpApp(echo))
	outWeb := w.out(client, w.service("10.96.0.1:80", mesh.HTTP1, w.endpoint(server, 8080)))
	outTCP := w.out(client, w.service("10.96.0.1:70", mesh.TCP, w.endpoint(server, 7000)))
	w.node(nil, nil, client.spec([]net.Listener{outWeb, outTCP}, nil))
	_, stop := w.mortal(nil, nil, server.spec(nil, []net.Listener{web, tcp}))

	conn := dial(t, outTCP)
	io.WriteString(conn, "x")
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	c := httpClient(t, outWeb, false)
	early, late, begun := make(chan int, 1), make(chan error, 1), make(chan struct{})
	go func() {
		resp, err := c.Get("http://svc.test/")
		if err != nil {
			early <- 0
			return
		}
		resp.Body.Close()
		early <- resp.StatusCode
	}()
	go func() {
		resp, err := c.Get("http://svc.test/late")
		close(begun)
		if err == nil {
			_, err = io.ReadAll(resp.Body)
			resp.Body.Close()
		}
		late <- err
	}()
	<-entered
	<-entered
	<-begun
	stop()
	if code := <-early; code != 502 {
		t.Errorf("before the response: %d", code)
	}
	if err := <-late; err == nil {
		t.Error("a cut response looks whole")
	}
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("opaque: %v, want a reset", err)
	}
}

// TestBodyIsReplayed has the app close each connection when the next request on it has been read.
func TestBodyIsReplayed(t *testing.T) {
	w := newWorld(t)
	rec := &ledger{}
	client, server := w.pod(1, true), w.pod(2, false)
	w.in(server, 8080, w.tcpApp(func(c *net.TCPConn) {
		r := bufio.NewReader(c)
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		body, _ := io.ReadAll(req.Body)
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		if req, err = http.ReadRequest(r); err == nil {
			io.Copy(io.Discard, req.Body)
		}
	}))
	out := w.out(client, w.service("10.96.0.1:80", mesh.HTTP1, w.endpoint(server, 8080)))
	w.node(rec, func(c *Config) { c.Loops = 1 }, client.spec([]net.Listener{out}, nil))
	c := httpClient(t, out, false)
	put := func(body string) (int, string) {
		req, _ := http.NewRequest("PUT", "http://svc.test/", strings.NewReader(body))
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		got, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(got)
	}
	for i, size := range []int{1, 60000, 10, 30000, 60000} {
		body := strings.Repeat(fmt.Sprint(i), size)
		if code, got := put(body); code != 200 || got != body {
			t.Fatalf("request %d: %d, %d of %d bytes", i, code, len(got), len(body))
		}
	}
	rec.event(t, EventRetry, 2)
	// What was too long to keep is not sent again.
	put("x")
	if code, _ := put(strings.Repeat("y", 300000)); code != 502 {
		t.Errorf("a long body on a stale connection: %d", code)
	}
}

// TestHTTPDrainLetsRequestsEnd: the request under way is answered in full, and the connection closes behind it.
func TestHTTPDrainLetsRequestsEnd(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprint("h2=", h2), func(t *testing.T) {
			w := newWorld(t)
			rec := &ledger{}
			entered, release := make(chan struct{}), make(chan struct{})
			client, server := w.pod(1, true), w.pod(2, false)
			w.in(server, 8080, w.httpApp(func(w http.ResponseWriter, _ *http.Request) {
				entered <- struct{}{}
				<-release
				io.WriteString(w, "done")
			}))
			out := w.out(client, w.service("10.96.0.1:80", mesh.HTTP1, w.endpoint(server, 8080)))
			spec := client.spec([]net.Listener{out}, nil)
			spec.Drain = 10 * time.Second
			e := w.node(rec, nil, spec)
			c := httpClient(t, out, h2)
			answer := make(chan string, 1)
			go func() {
				resp, err := c.Get("http://svc.test/")
				if err != nil {
					answer <- err.Error()
					return
				}
				defer resp.Body.Close()
				body, err := io.ReadAll(resp.Body)
				answer <- fmt.Sprint(string(body), err)
			}()
			<-entered
			e.Set(nil)
			eventually(t, "the listener to be closed", func() bool {
				c, err := net.Dial("tcp", out.Addr().String())
				if err == nil {
					c.Close()
				}
				return err != nil
			})
			close(release)
			if got := <-answer; got != "done<nil>" {
				t.Errorf("the request under way: %s", got)
			}
			rec.event(t, EventDrained, 1)
		})
	}
}
