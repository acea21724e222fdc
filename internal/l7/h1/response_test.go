package h1

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"fairlead.io/fairlead/internal/l7/exchange"
	"fairlead.io/fairlead/internal/l7/exchange/wiretest"
)

// ask runs a client that has sent one request over what a server answers, and returns what the downstream was told.
func ask(method, protocol string, in []byte, piece int, lim exchange.Limits) (told string, w *wiretest.Wire) {
	w = &wiretest.Wire{}
	c := NewClient(w, ClientConfig{Limits: lim})
	down := &wiretest.Sink{}
	x := &exchange.Exchange{Down: wiretest.Payer{Sink: down}, Head: method == "HEAD", Tunnel: protocol != "" || method == "CONNECT"}
	h := &exchange.Head{Method: method, Authority: "a:1", Path: "/", Protocol: protocol, Version: exchange.HTTP11, Length: -1}
	if err := c.Send(x, h, !x.Tunnel); err != nil {
		panic(err)
	}
	x.RequestEnded()
	x.Bind(c)
	w.Feed(c, in, piece)
	w.End(c)
	return down.Log.String(), w
}

func TestResponses(t *testing.T) {
	for _, tt := range []struct {
		name, method, in string
		want             string // a part of what the downstream is told; "" means a reset for breaking the protocol
	}{
		{"length", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "hi\nend\n"},
		{"chunks", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nT: v\r\n\r\n", "hitrailers [{T v}]\n\nend\n"},
		{"close", "GET", "HTTP/1.1 200 OK\r\n\r\nhi", "hi\nend\n"},
		{"no reason", "GET", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", " 200 [{Content-Length 0}] 0 end=true"},
		{"odd status", "GET", "HTTP/1.1 799 X\r\nContent-Length: 0\r\n\r\n", " 799 "},
		{"HEAD", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", " 9 end=true"},
		{"204", "GET", "HTTP/1.1 204 OK\r\nContent-Length: 9\r\n\r\n", " 204 [] -1 end=true"},
		{"interim", "GET", "HTTP/1.1 100 C\r\n\r\nHTTP/1.1 103 E\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", " 103 [{A b}] -1 end=false\n"},
		{"equal lengths", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi", "[{Content-Length 2}] 2 end=false\nhi\nend\n"},
		{"two lengths", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi", ""},
		{"length and chunks", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", ""},
		{"many options", "GET", "HTTP/1.1 200 OK\r\nConnection: " + manyOptions + "\r\nContent-Length: 0\r\n\r\n", ""},
		{"coding", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", ""},
		{"unasked 101", "GET", "HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", ""},
		{"fold", "GET", "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", ""},
		{"bare LF", "GET", "HTTP/1.1 200 OK\nA: b\r\n\r\n", ""},
		{"short status", "GET", "HTTP/1.1 20 OK\r\n\r\n", ""},
		{"no HTTP", "GET", "220 smtp ready\r\n", ""},
		{"endless interim", "GET", strings.Repeat("HTTP/1.1 100 C\r\n\r\n", 40), ""},
		{"bad chunk", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", ""},
	} {
		if tt.want == "" {
			tt.want = fmt.Sprintf("\nreset %d\n", exchange.CodeProtocol)
			if tt.name == "no HTTP" {
				tt.want = fmt.Sprintf("\nreset %d\n", exchange.CodeClosed) // no whole head ever came
			}
		}
		for _, piece := range []int{1 << 20, 1} {
			if told, _ := ask(tt.method, "", []byte(tt.in), piece, exchange.Limits{}); !strings.Contains(told, tt.want) {
				t.Errorf("%s in pieces of %d: told %q, want %q", tt.name, piece, told, tt.want)
			}
		}
	}
}

// TestTruncatedResponses cuts responses anywhere: none may look whole.
func TestTruncatedResponses(t *testing.T) {
	for _, whole := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
	} {
		for n := range whole {
			told, _ := ask("GET", "", []byte(whole[:n]), 1<<20, exchange.Limits{})
			if !strings.Contains(told, "\nreset ") || strings.Contains(told, "\nend\n") {
				t.Errorf("%q told %q", whole[:n], told)
			}
		}
	}
}

func TestReuse(t *testing.T) {
	for _, tt := range []struct {
		in   string
		idle bool
	}{
		{"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", true},
		{"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxy", false}, // what comes behind nobody asked for
		{"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx", false},
		{"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx", false},
		{"HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\nx", true},
	} {
		w := &wiretest.Wire{}
		idle := 0
		c := NewClient(w, ClientConfig{OnIdle: func(*Client) { idle++ }})
		x := &exchange.Exchange{Down: wiretest.Payer{Sink: &wiretest.Sink{}}}
		x.RequestEnded()
		if err := c.Send(x, &exchange.Head{Method: "GET", Path: "/", Version: exchange.HTTP11, Length: -1}, true); err != nil {
			t.Fatal(err)
		}
		x.Bind(c)
		if _, err := c.Feed([]byte(tt.in)); err != nil {
			t.Fatal(err)
		}
		if c.Idle() != tt.idle || (idle == 1) != tt.idle || w.Ended == tt.idle {
			t.Errorf("%q: idle %v, closed %v", tt.in, c.Idle(), w.Ended)
		}
	}
}

// TestUnreadInput: a connection that has served, and on which something has come that nobody has asked for, takes no request. On a new one
// a server may have spoken early: that is its first response.
func TestUnreadInput(t *testing.T) {
	w := &wiretest.Wire{Early: true}
	c := NewClient(w, ClientConfig{})
	send := func() error {
		x := &exchange.Exchange{Down: wiretest.Payer{Sink: &wiretest.Sink{}}}
		x.RequestEnded()
		err := c.Send(x, &exchange.Head{Method: "GET", Path: "/", Version: exchange.HTTP11, Length: -1}, true)
		if err == nil {
			x.Bind(c)
		}
		return err
	}
	if err := send(); err != nil {
		t.Fatal(err)
	}
	w.Early = false
	w.Feed(c, []byte("HTTP/1.1 204 N\r\n\r\n"), 1<<20)
	if err := send(); err != nil {
		t.Fatal(err)
	}
	w.Feed(c, []byte("HTTP/1.1 204 N\r\n\r\n"), 1<<20)
	w.Early, w.Out = true, nil
	if err := send(); err != ErrBusy || len(w.Out) > 0 || !w.Ended || c.Idle() {
		t.Errorf("sent %q, %v; closed %v, idle %v", w.Out, err, w.Ended, c.Idle())
	}
}

// TestMismatchedBody gives the writers bodies that do not fit their length: the connection must not go on.
func TestMismatchedBody(t *testing.T) {
	for _, body := range []string{"ab", "abcd"} {
		w := &wiretest.Wire{}
		c := NewClient(w, ClientConfig{})
		x := &exchange.Exchange{Down: wiretest.Payer{Sink: &wiretest.Sink{}}}
		if err := c.Send(x, &exchange.Head{Method: "PUT", Path: "/", Version: exchange.HTTP11, Length: 3}, false); err != nil {
			t.Fatal(err)
		}
		x.Bind(c)
		x.RequestData([]byte(body), true)
		if !w.Aborted || strings.Contains(string(w.Out), "abcd") {
			t.Errorf("request body %q for length 3: aborted %v, wrote %q", body, w.Aborted, w.Out)
		}
		w = &wiretest.Wire{}
		var in *exchange.Exchange
		s := NewServer(w, ServerConfig{Request: func(x *exchange.Exchange, _ *exchange.Head, _ bool) { in = x; x.Bind(&wiretest.Sink{}) }})
		if _, err := s.Feed([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		in.ResponseHead(&exchange.Head{Status: 200, Length: 3}, false)
		in.ResponseData([]byte(body), true)
		if !w.Aborted || strings.Contains(string(w.Out), "abcd") {
			t.Errorf("response body %q for length 3: aborted %v, wrote %q", body, w.Aborted, w.Out)
		}
	}
}

func FuzzH1Response(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
		"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a\r\nhi\r\n0\r\nT: v\r\n\r\n",
		"HTTP/1.0 200 OK\r\n\r\nto the end",
		"HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nraw",
		"HTTP/1.1 304 N\r\nContent-Length: 9\r\n\r\n",
	} {
		for how := range byte(4) {
			f.Add(how, []byte(s))
		}
	}
	f.Fuzz(func(t *testing.T, how byte, in []byte) {
		method, protocol := "GET", ""
		switch how % 4 {
		case 1:
			method = "HEAD"
		case 2:
			method = "CONNECT"
		case 3:
			protocol = "x"
		}
		lim := exchange.Limits{HeadBytes: 2000, LineBytes: 500, HeadFields: 20}
		told, w := ask(method, protocol, in, len(in)+1, lim)
		for _, piece := range []int{1, 7} {
			if told2, w2 := ask(method, protocol, in, piece, lim); told2 != told || w2.Over() != w.Over() {
				t.Fatalf("in pieces of %d:\n%q\nwhole:\n%q", piece, told2, told)
			}
		}
		if method != "GET" || protocol != "" || !strings.Contains(told, "\nend\n") || strings.Contains(told, " 1") {
			return
		}
		// What we take as one whole final response, net/http reads with the same body.
		r, err := http.ReadResponse(bufio.NewReader(strings.NewReader(string(in))), nil)
		if err != nil || r.StatusCode < 200 {
			return
		}
		body, err := io.ReadAll(r.Body)
		if err == nil && !strings.Contains(told, "\n"+string(body)) {
			t.Fatalf("net/http reads the body %q, we told %q", body, told)
		}
	})
}
