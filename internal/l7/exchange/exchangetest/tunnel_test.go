package exchangetest_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/l7/exchange"
	. "fairlead.io/fairlead/internal/l7/exchange/exchangetest"
)

// rawServer serves each connection with f.
func rawServer(t testing.TB, f func(nc net.Conn, r *bufio.Reader)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer nc.Close()
				nc.SetDeadline(time.Now().Add(15 * time.Second))
				f(nc, bufio.NewReader(nc))
			}()
		}
	}()
	return ln.Addr().String()
}

// dialRaw opens a connection that ends with the test.
func dialRaw(t testing.TB, addr string) (*net.TCPConn, *bufio.Reader) {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(15 * time.Second))
	return nc.(*net.TCPConn), bufio.NewReader(nc)
}

// head reads a head, as it is on the wire.
func head(t testing.TB, r *bufio.Reader) string {
	t.Helper()
	var b strings.Builder
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("read head: %v behind %q", err, b.String())
		}
		b.WriteString(line)
		if line == "\r\n" {
			return b.String()
		}
	}
}

// eachRaw runs f between raw HTTP/1 ends, with and without private HTTP/2 between them.
func eachRaw(t *testing.T, serve func(net.Conn, *bufio.Reader), f func(t *testing.T, nc *net.TCPConn, r *bufio.Reader)) {
	for _, middle := range []string{"", Private} {
		t.Run("h1-"+middle+"-h1", func(t *testing.T) {
			nc, r := dialRaw(t, way(t, path{H1, middle, H1}, rawServer(t, serve), exchange.Limits{}))
			f(t, nc, r)
		})
	}
}

func TestUpgrade(t *testing.T) {
	serve := func(nc net.Conn, r *bufio.Reader) {
		req, err := http.ReadRequest(r)
		if err != nil || req.Header.Get("Upgrade") != "chat/1" || req.Header.Get("Connection") != "Upgrade" || req.Method != "POST" {
			fmt.Fprintf(nc, "HTTP/1.1 400 %v %v\r\nContent-Length: 0\r\n\r\n", err, req.Header)
			return
		}
		io.WriteString(nc, "HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: chat/1\r\nX-Is: chat\r\n\r\nhello ")
		io.Copy(nc, r) // until the client half-closes
		io.WriteString(nc, " bye")
	}
	eachRaw(t, serve, func(t *testing.T, nc *net.TCPConn, r *bufio.Reader) {
		io.WriteString(nc, "POST /chat HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: chat/1\r\n\r\nearly ")
		if h := head(t, r); !strings.HasPrefix(h, "HTTP/1.1 101 ") || !strings.Contains(h, "\r\nUpgrade: chat/1\r\n") || !strings.Contains(h, "X-Is: chat") {
			t.Fatalf("answer: %q", h)
		}
		sent := pattern(300_000)
		go func() { nc.Write(sent); nc.CloseWrite() }()
		got, err := io.ReadAll(r)
		if want := "hello early " + string(sent) + " bye"; err != nil || string(got) != want {
			t.Fatalf("tunnel gave %d bytes, want %d: %v", len(got), len(want), err)
		}
	})
}

func TestUpgradeDeclined(t *testing.T) {
	serve := func(nc net.Conn, r *bufio.Reader) {
		for {
			if _, err := http.ReadRequest(r); err != nil {
				return
			}
			io.WriteString(nc, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno")
		}
	}
	eachRaw(t, serve, func(t *testing.T, nc *net.TCPConn, r *bufio.Reader) {
		io.WriteString(nc, "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: chat/1\r\n\r\n"+"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		for range 2 {
			resp, err := http.ReadResponse(r, nil)
			if got := read(t, resp, err); got != "no" || resp.StatusCode != 200 {
				t.Fatalf("got %d %q", resp.StatusCode, got)
			}
		}
	})
}

func TestConnect(t *testing.T) {
	serve := func(nc net.Conn, r *bufio.Reader) {
		req, err := http.ReadRequest(r)
		if err != nil || req.Method != "CONNECT" || req.RequestURI != "db:5432" {
			io.WriteString(nc, "HTTP/1.1 403 no\r\nContent-Length: 0\r\n\r\n")
			return
		}
		io.WriteString(nc, "HTTP/1.1 200 OK\r\n\r\n")
		io.Copy(nc, r)
	}
	for _, middle := range []string{"", Private, H2} {
		for target, want := range map[string]string{"db:5432": "HTTP/1.1 200 OK\r\n\r\n", "other:1": "HTTP/1.1 403 Forbidden\r\n"} {
			nc, r := dialRaw(t, way(t, path{H1, middle, H1}, rawServer(t, serve), exchange.Limits{}))
			fmt.Fprintf(nc, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", target, target)
			if h := head(t, r); !strings.HasPrefix(h, want) {
				t.Fatalf("by way of %q, answer: %q", middle, h)
			}
			if target == "other:1" {
				continue
			}
			io.WriteString(nc, "bytes")
			nc.CloseWrite()
			if got, err := io.ReadAll(r); err != nil || string(got) != "bytes" {
				t.Fatalf("by way of %q, tunnel gave %q, %v", middle, got, err)
			}
		}
	}
}

func TestHeaderCase(t *testing.T) {
	serve := func(nc net.Conn, r *bufio.Reader) {
		h := head(t, r)
		fmt.Fprintf(nc, "HTTP/1.1 200 OK\r\nX-mIxEd: 1\r\nx-mixed: 2\r\nContent-Length: %d\r\n\r\n%s", len(h), h)
	}
	eachRaw(t, serve, func(t *testing.T, nc *net.TCPConn, r *bufio.Reader) {
		io.WriteString(nc, "GET http://h.test/x?y HTTP/1.1\r\nHost: other\r\nX-UPPER: 1\r\nx-lower: 2\r\nX-UPPER: 3\r\n"+
			"Connection: close, x-hop\r\nX-Hop: 1\r\nKeep-Alive: 1\r\nProxy-Connection: x\r\nfairlead-method: PUT\r\nTE: gzip, trailers\r\n\r\n")
		resp := head(t, r)
		if !strings.Contains(resp, "\r\nX-mIxEd: 1\r\nx-mixed: 2\r\n") {
			t.Errorf("response: %q", resp)
		}
		got, err := io.ReadAll(r)
		want := "GET /x?y HTTP/1.1\r\nHost: h.test\r\nX-UPPER: 1\r\nx-lower: 2\r\nX-UPPER: 3\r\nConnection: TE\r\nTE: trailers\r\n\r\n"
		if err != nil || string(got) != want {
			t.Errorf("request arrived as %q, %v", got, err)
		}
	})
}

func TestHTTP10(t *testing.T) {
	serve := func(nc net.Conn, r *bufio.Reader) {
		line, _, _ := strings.Cut(head(t, r), "\r\n")
		fmt.Fprintf(nc, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(line), line)
	}
	eachRaw(t, serve, func(t *testing.T, nc *net.TCPConn, r *bufio.Reader) {
		io.WriteString(nc, "GET /old HTTP/1.0\r\n\r\n")
		got, err := io.ReadAll(r)
		if want := "HTTP/1.0 200 OK\r\nConnection: close\r\n\r\nGET /old HTTP/1.0"; err != nil || string(got) != want {
			t.Errorf("got %q, %v", got, err)
		}
	})
}

func TestHTTP10KeepAlive(t *testing.T) {
	serve := func(nc net.Conn, r *bufio.Reader) {
		head(t, r)
		io.WriteString(nc, "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok")
	}
	eachRaw(t, serve, func(t *testing.T, nc *net.TCPConn, r *bufio.Reader) {
		for range 3 {
			io.WriteString(nc, "GET /old HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
			if h := head(t, r); h != "HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\n" {
				t.Fatalf("got %q", h)
			}
			body := make([]byte, 2)
			if _, err := io.ReadFull(r, body); err != nil || string(body) != "ok" {
				t.Fatalf("body %q, %v", body, err)
			}
		}
	})
}

func TestPipelining(t *testing.T) {
	serve := func(nc net.Conn, r *bufio.Reader) {
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			b, _ := io.ReadAll(req.Body)
			answer := req.URL.Path + string(b)
			fmt.Fprintf(nc, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(answer), answer)
		}
	}
	eachRaw(t, serve, func(t *testing.T, nc *net.TCPConn, r *bufio.Reader) {
		var all strings.Builder
		for i := range 20 {
			fmt.Fprintf(&all, "POST /%d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\n\r\n", i)
		}
		go io.WriteString(nc, all.String())
		for i := range 20 {
			resp, err := http.ReadResponse(r, nil)
			if got := read(t, resp, err); got != fmt.Sprintf("/%dabc", i) {
				t.Fatalf("answer %d is %q", i, got)
			}
		}
	})
}

func TestCloseDelimited(t *testing.T) {
	serve := func(nc net.Conn, r *bufio.Reader) {
		head(t, r)
		io.WriteString(nc, "HTTP/1.0 200 OK\r\n\r\n")
		nc.Write(pattern(200_000))
	}
	eachRaw(t, serve, func(t *testing.T, nc *net.TCPConn, r *bufio.Reader) {
		io.WriteString(nc, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		resp, err := http.ReadResponse(r, nil)
		if got := read(t, resp, err); got != string(pattern(200_000)) || len(resp.TransferEncoding) != 1 {
			t.Errorf("%d bytes, %v", len(got), resp.TransferEncoding)
		}
	})
}

// TestSlowReader has a client that does not read: what the proxies hold must not grow with the response.
func TestSlowReader(t *testing.T) {
	for _, p := range []path{{H1, "", H1}, {H1, Private, H1}, {H1, "", H2}, {H2, "", H1}} {
		t.Run(p.String(), func(t *testing.T) {
			target := origin(t)
			b := NewProxy(t, p.client, p.app, target, exchange.Limits{})
			all := []*Proxy{b}
			if p.middle != "" {
				b = NewProxy(t, p.middle, p.app, target, exchange.Limits{})
				all = []*Proxy{b, NewProxy(t, p.client, p.middle, b.Addr, exchange.Limits{})}
			}
			front := all[len(all)-1]
			const n = 24 << 20
			pr, done := io.Pipe()
			c := client(t, p.client)
			req, _ := http.NewRequest("POST", fmt.Sprintf("http://%s/bytes?n=%d", front.Addr, n), http.NoBody)
			r, err := c.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Body.Close()
			go func() { // a reader that waits until nothing moves any more
				still(t, all)
				io.Copy(done, r.Body)
				done.Close()
			}()
			got, err := io.ReadAll(pr)
			if err != nil || !bytes.Equal(got, pattern(n)) {
				t.Fatalf("%d bytes, %v", len(got), err)
			}
			for _, proxy := range all {
				proxy.Loop.Do(func() {
					for _, conn := range proxy.Conns {
						if conn.MaxPending > 1<<20 || conn.MaxIn > 1<<20 {
							t.Errorf("a connection held %d out, %d in", conn.MaxPending, conn.MaxIn)
						}
					}
				})
			}
		})
	}
}

// still waits until the proxies' connections hold the same for some turns.
func still(t *testing.T, all []*Proxy) {
	last, same := -1, 0
	for deadline := time.Now().Add(5 * time.Second); same < 20 && time.Now().Before(deadline); {
		sum := 0
		for _, p := range all {
			p.Loop.Do(func() {
				for _, c := range p.Conns {
					sum += c.Read
				}
			})
		}
		if same++; sum != last {
			last, same = sum, 0
		}
		<-time.After(10 * time.Millisecond)
	}
}
