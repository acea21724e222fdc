package exchangetest_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/l7/exchange"
	. "fairlead.io/fairlead/internal/l7/exchange/exchangetest"
)

// app is the origin that all paths lead to.
func app() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/bytes", func(w http.ResponseWriter, r *http.Request) {
		var n int
		fmt.Sscan(r.URL.Query().Get("n"), &n)
		w.Write(pattern(n))
	})
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Method", r.Method)
		w.Header().Set("X-Length", fmt.Sprint(r.ContentLength))
		w.Write(b)
	})
	mux.HandleFunc("/stream", func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		rc.EnableFullDuplex()
		w.WriteHeader(200)
		rc.Flush()
		buf := make([]byte, 1024)
		for {
			n, err := r.Body.Read(buf)
			w.Write(buf[:n])
			rc.Flush()
			if err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/trailers", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-After")
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, "body")
		w.Header().Set("X-After", "got "+r.Trailer.Get("X-Sum"))
	})
	mux.HandleFunc("/status", func(w http.ResponseWriter, r *http.Request) {
		var n int
		fmt.Sscan(r.URL.Query().Get("n"), &n)
		w.Header().Set("Etag", `"x"`)
		w.WriteHeader(n)
	})
	mux.HandleFunc("/hints", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</a.css>")
		w.WriteHeader(103)
		w.Header().Del("Link")
		io.WriteString(w, "after")
	})
	mux.HandleFunc("/headers", func(w http.ResponseWriter, r *http.Request) {
		w.Header()["X-Twice"] = r.Header["X-Twice"]
		w.Header().Set("X-Cookie", strings.Join(r.Header["Cookie"], "|"))
		w.Header().Set("X-Host", r.Host)
		w.Header().Set("X-Ours", r.Header.Get("Fairlead-Service"))
		w.Header().Set("Fairlead-Version", "10")
	})
	mux.HandleFunc("/early", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(413)
		io.WriteString(w, "too much")
	})
	mux.HandleFunc("/abort", func(w http.ResponseWriter, r *http.Request) {
		w.Write(pattern(1000))
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	return mux
}

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 7 >> 3)
	}
	return b
}

// path is one way from client to app.
type path struct{ client, middle, app string }

func (p path) String() string { return p.client + "-" + p.middle + "-" + p.app }

// each runs f over all paths: directly, and with private HTTP/2 in the middle.
func each(t *testing.T, f func(t *testing.T, c *http.Client, url string)) {
	for _, from := range []string{H1, H2} {
		for _, middle := range []string{"", Private} {
			for _, to := range []string{H1, H2} {
				p := path{from, middle, to}
				t.Run(p.String(), func(t *testing.T) {
					addr := way(t, p, origin(t), exchange.Limits{})
					f(t, client(t, from), "http://"+addr)
				})
			}
		}
	}
}

// way starts the proxies of a path and returns the first one's address.
func way(t testing.TB, p path, target string, lim exchange.Limits) string {
	if p.middle == "" {
		return NewProxy(t, p.client, p.app, target, lim).Addr
	}
	b := NewProxy(t, p.middle, p.app, target, lim)
	return NewProxy(t, p.client, p.middle, b.Addr, lim).Addr
}

func origin(t testing.TB) string {
	s := httptest.NewUnstartedServer(app())
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func client(t testing.TB, kind string) *http.Client {
	tr := &http.Transport{Protocols: new(http.Protocols), ExpectContinueTimeout: 5 * time.Second}
	tr.Protocols.SetHTTP1(kind == H1)
	tr.Protocols.SetUnencryptedHTTP2(kind == H2)
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second}
}

func read(t *testing.T, r *http.Response, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatalf("read body: %v after %d bytes", err, len(b))
	}
	return string(b)
}

func TestBodies(t *testing.T) {
	each(t, func(t *testing.T, c *http.Client, url string) {
		for _, n := range []int{0, 1, 1000, 1 << 20} {
			r, err := c.Get(fmt.Sprintf("%s/bytes?n=%d", url, n))
			if got := read(t, r, err); got != string(pattern(n)) {
				t.Errorf("GET of %d bytes gave %d", n, len(got))
			}
			r, err = c.Post(url+"/echo", "text/plain", bytes.NewReader(pattern(n)))
			if got := read(t, r, err); got != string(pattern(n)) || r.Header.Get("X-Length") != fmt.Sprint(n) {
				t.Errorf("POST of %d bytes gave %d, length %s", n, len(got), r.Header.Get("X-Length"))
			}
			r, err = c.Post(url+"/echo", "text/plain", struct{ io.Reader }{bytes.NewReader(pattern(n))})
			if got := read(t, r, err); got != string(pattern(n)) {
				t.Errorf("chunked POST of %d bytes gave %d", n, len(got))
			}
		}
	})
}

func TestNoBodies(t *testing.T) {
	each(t, func(t *testing.T, c *http.Client, url string) {
		r, err := c.Head(url + "/bytes?n=1000")
		if got := read(t, r, err); got != "" || r.ContentLength != 1000 {
			t.Errorf("HEAD gave %q, length %d", got, r.ContentLength)
		}
		for _, status := range []int{204, 304, 404} {
			r, err := c.Get(fmt.Sprintf("%s/status?n=%d", url, status))
			if got := read(t, r, err); got != "" || r.StatusCode != status || r.Header.Get("Etag") != `"x"` {
				t.Errorf("status %d gave %d, %q", status, r.StatusCode, got)
			}
		}
	})
}

func TestFullDuplex(t *testing.T) {
	each(t, func(t *testing.T, c *http.Client, url string) {
		pr, pw := io.Pipe()
		req, _ := http.NewRequest("POST", url+"/stream", pr)
		r, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		for i := range 20 {
			msg := fmt.Sprintf("message %d", i)
			if _, err := io.WriteString(pw, msg); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, len(msg))
			if _, err := io.ReadFull(r.Body, got); err != nil || string(got) != msg {
				t.Fatalf("echo of %q is %q, %v", msg, got, err)
			}
		}
		pw.Close()
		if b, err := io.ReadAll(r.Body); err != nil || len(b) > 0 {
			t.Fatalf("after the end: %q, %v", b, err)
		}
	})
}

func TestTrailers(t *testing.T) {
	each(t, func(t *testing.T, c *http.Client, url string) {
		req, _ := http.NewRequest("POST", url+"/trailers", struct{ io.Reader }{strings.NewReader("hello")})
		req.Trailer = http.Header{"X-Sum": {"42"}}
		r, err := c.Do(req)
		if got := read(t, r, err); got != "body" || r.Trailer.Get("X-After") != "got 42" {
			t.Errorf("body %q, trailers %v", got, r.Trailer)
		}
	})
}

func TestInterim(t *testing.T) {
	each(t, func(t *testing.T, c *http.Client, url string) {
		hints := 0
		ctx := withHints(context.Background(), func(code int, link string) {
			if code == 103 && link == "</a.css>" {
				hints++
			}
		})
		req, _ := http.NewRequestWithContext(ctx, "GET", url+"/hints", nil)
		r, err := c.Do(req)
		if got := read(t, r, err); got != "after" || hints != 1 {
			t.Errorf("body %q, %d hints", got, hints)
		}
		req, _ = http.NewRequest("PUT", url+"/echo", strings.NewReader("expected"))
		req.Header.Set("Expect", "100-continue")
		began := time.Now()
		r, err = c.Do(req)
		if got := read(t, r, err); got != "expected" || time.Since(began) > 4*time.Second {
			t.Errorf("body %q after %v", got, time.Since(began))
		}
	})
}

func TestHeaders(t *testing.T) {
	each(t, func(t *testing.T, c *http.Client, url string) {
		req, _ := http.NewRequest("GET", url+"/headers", nil)
		req.Header["X-Twice"] = []string{"a", "b"}
		req.Header.Set("Cookie", "a=1; b=2; c=3")
		req.Header.Set("Fairlead-Service", "forged")
		req.Host = "example.test:99"
		r, err := c.Do(req)
		read(t, r, err)
		h := r.Header
		if got := strings.Join(h["X-Twice"], ","); got != "a,b" {
			t.Errorf("twice: %q", got)
		}
		if h.Get("X-Cookie") != "a=1; b=2; c=3" || h.Get("X-Host") != "example.test:99" {
			t.Errorf("cookie %q, host %q", h.Get("X-Cookie"), h.Get("X-Host"))
		}
		if h.Get("X-Ours") != "" || h.Get("Fairlead-Version") != "" {
			t.Errorf("fairlead fields came through: %v", h)
		}
	})
}

func TestEarlyResponse(t *testing.T) {
	each(t, func(t *testing.T, c *http.Client, url string) {
		for range 3 {
			r, err := c.Post(url+"/early", "text/plain", bytes.NewReader(pattern(50_000)))
			if got := read(t, r, err); got != "too much" || r.StatusCode != 413 {
				t.Errorf("got %d %q", r.StatusCode, got)
			}
		}
	})
}

func TestAbortedResponse(t *testing.T) {
	each(t, func(t *testing.T, c *http.Client, url string) {
		r, err := c.Get(url + "/abort")
		if err != nil {
			return
		}
		defer r.Body.Close()
		if b, err := io.ReadAll(r.Body); err == nil {
			t.Errorf("an aborted response looks whole: %d bytes", len(b))
		}
	})
}

func TestMany(t *testing.T) {
	each(t, func(t *testing.T, c *http.Client, url string) {
		errs := make(chan error)
		for i := range 40 {
			go func() {
				for j := range 5 {
					r, err := c.Get(fmt.Sprintf("%s/bytes?n=%d", url, 1000*i+j))
					if err != nil {
						errs <- err
						return
					}
					b, err := io.ReadAll(r.Body)
					r.Body.Close()
					if err != nil || len(b) != 1000*i+j {
						errs <- fmt.Errorf("%d bytes, want %d: %v", len(b), 1000*i+j, err)
						return
					}
				}
				errs <- nil
			}()
		}
		for range 40 {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
	})
}

func TestUpstreamGone(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	target := ln.Addr().String()
	ln.Close()
	for _, from := range []string{H1, H2} {
		for _, to := range []string{H1, H2} {
			addr := way(t, path{from, "", to}, target, exchange.Limits{})
			r, err := client(t, from).Get("http://" + addr + "/")
			if got := read(t, r, err); r.StatusCode != 503 || r.Header.Get("X-Fairlead-Error") != "connect" {
				t.Errorf("%s: %d %q %v", from, r.StatusCode, got, r.Header)
			}
		}
	}
}
