package l7

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/mesh"
)

// hidden is a request that must never be one at the app.
const hidden = "GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n"

// smuggling are requests of HTTP/1 that one parser or another has read in two ways.
var smuggling = []struct {
	name, in string
	want     string // status of the answer; "wait": there is none, more is waited for
	app      string // the whole request that the app sees; none if empty
}{
	// Two lengths, or a length beside a coding.
	{"CL.TE", post("Content-Length: 6", "Transfer-Encoding: chunked") + "0\r\n\r\n" + hidden, "400", ""},
	{"TE.CL", post("Transfer-Encoding: chunked", "Content-Length: 4") + "28\r\n" + hidden + "\r\n0\r\n\r\n", "400", ""},
	{"CL.0 beside TE", post("Content-Length: 0", "Transfer-Encoding: chunked") + "0\r\n\r\n" + hidden, "400", ""},
	{"TE: identity beside CL", post("Transfer-Encoding: identity", "Content-Length: 40") + hidden, "400", ""},
	{"TE: identity", post("Transfer-Encoding: identity") + hidden, "501", ""},
	{"TE: chunked, identity", post("Transfer-Encoding: chunked, identity") + "0\r\n\r\n" + hidden, "501", ""},
	{"TE: identity, chunked", post("Transfer-Encoding: identity, chunked") + "0\r\n\r\n" + hidden, "501", ""},
	{"TE: chunked twice in a list", post("Transfer-Encoding: chunked, chunked") + "0\r\n\r\n" + hidden, "501", ""},
	{"TE: chunked in two lines", post("Transfer-Encoding: chunked", "Transfer-Encoding: chunked") + "0\r\n\r\n" + hidden, "501", ""},
	{"TE: chunked and identity in two lines", post("Transfer-Encoding: chunked", "Transfer-Encoding: identity") + "0\r\n\r\n" + hidden, "501", ""},
	{"TE: an empty element", post("Transfer-Encoding: ,chunked") + "0\r\n\r\n" + hidden, "501", ""},
	{"TE: empty", post("Transfer-Encoding:", "Content-Length: 0") + hidden, "400", ""},
	{"TE: in quotes", post(`Transfer-Encoding: "chunked"`) + "0\r\n\r\n" + hidden, "501", ""},
	{"TE: with a parameter", post("Transfer-Encoding: chunked;q=1") + "0\r\n\r\n" + hidden, "501", ""},
	{"TE: xchunked", post("Transfer-Encoding: xchunked") + "0\r\n\r\n" + hidden, "501", ""},
	{"TE: CHUNKED", post("TRANSFER-ENCODING: CHUNKED") + "28\r\n" + hidden + "\r\n0\r\n\r\n", "200", "POST /p a.test [" + hidden + "]"},
	{"TE: behind a tab", post("Transfer-Encoding:\tchunked") + "1\r\nx\r\n0\r\n\r\n", "200", "POST /p a.test [x]"},
	{"TE: behind a tab, beside CL", post("Transfer-Encoding:\tchunked", "Content-Length: 3") + "0\r\n\r\n" + hidden, "400", ""},
	{"TE: vertical tab", post("Transfer-Encoding: \vchunked", "Content-Length: 5") + "0\r\n\r\n" + hidden, "400", ""},
	{"TE: form feed", post("Transfer-Encoding: chunked\f", "Content-Length: 5") + "0\r\n\r\n" + hidden, "400", ""},
	{"TE: no-break space", post("Transfer-Encoding: \u00a0chunked") + "0\r\n\r\n" + hidden, "501", ""},
	{"TE: long s", post("Tran\u017ffer-Encoding: chunked", "Content-Length: 5") + "0\r\n\r\n" + hidden, "400", ""},
	{"TE: Kelvin sign", post("Transfer-Encoding: chun\u212aed") + "0\r\n\r\n" + hidden, "501", ""},
	{"TE: space before the colon", post("Transfer-Encoding : chunked", "Content-Length: 5") + "0\r\n\r\n" + hidden, "400", ""},
	{"TE: tab before the colon", post("Transfer-Encoding\t: chunked", "Content-Length: 5") + "0\r\n\r\n" + hidden, "400", ""},
	{"TE: space before the name", post("X: 1", " Transfer-Encoding: chunked", "Content-Length: 5") + "0\r\n\r\n" + hidden, "400", ""},
	{"TE: NUL in the name", post("Transfer-Encoding\x00: chunked", "Content-Length: 5") + "0\r\n\r\n" + hidden, "400", ""},
	{"TE: folded", post("Transfer-Encoding:\r\n chunked", "Content-Length: 5") + "0\r\n\r\n" + hidden, "400", ""},
	{"TE: behind a bare CR", post("X: 1\rTransfer-Encoding: chunked", "Content-Length: 5") + "0\r\n\r\n" + hidden, "400", ""},
	{"TE: behind a bare LF", post("X: 1\nTransfer-Encoding: chunked", "Content-Length: 5") + "0\r\n\r\n" + hidden, "400", ""},
	{"TE: with an underscore", post("Transfer_Encoding: chunked", "Content-Length: 45") + "0\r\n\r\n" + hidden, "200", "POST /p a.test [0\r\n\r\n" + hidden + "]"},
	{"TE: taken away by Connection", post("Connection: transfer-encoding", "Transfer-Encoding: chunked") + "1\r\nx\r\n0\r\n\r\n", "200", "POST /p a.test [x]"},
	{"TE in HTTP/1.0", strings.Replace(post("Transfer-Encoding: chunked"), "/1.1", "/1.0", 1) + "0\r\n\r\n" + hidden, "400", ""},
	{"TE in HTTP/1.0 beside CL", strings.Replace(post("Transfer-Encoding: chunked", "Content-Length: 5"), "/1.1", "/1.0", 1) + "0\r\n\r\n" + hidden, "400", ""},
	{"CL: two that differ", post("Content-Length: 0", "Content-Length: 40") + hidden, "400", ""},
	{"CL: two that agree", post("Content-Length: 40", "content-length: 40") + hidden, "400", ""},
	{"CL: list", post("Content-Length: 40, 40") + hidden, "400", ""},
	{"CL: list that differs", post("Content-Length: 0, 40") + hidden, "400", ""},
	{"CL: plus", post("Content-Length: +40") + hidden, "400", ""},
	{"CL: minus", post("Content-Length: -40") + hidden, "400", ""},
	{"CL: hexadecimal", post("Content-Length: 0x28") + hidden, "400", ""},
	{"CL: underscore", post("Content-Length: 4_0") + hidden, "400", ""},
	{"CL: fraction", post("Content-Length: 40.0") + hidden, "400", ""},
	{"CL: inner space", post("Content-Length: 4 0") + hidden, "400", ""},
	{"CL: leading zeros", post("Content-Length: 0040") + hidden, "200", "POST /p a.test [" + hidden + "]"},
	{"CL: over 64 bits", post("Content-Length: 18446744073709551656") + hidden, "400", ""},
	{"CL: over 63 bits", post("Content-Length: 9223372036854775848") + hidden, "400", ""},
	{"CL: empty", post("Content-Length:") + hidden, "400", ""},
	{"CL: Arabic digits", post("Content-Length: \u0664\u0660") + hidden, "400", ""},
	{"CL: folded", post("Content-Length: 4\r\n 0") + hidden, "400", ""},
	{"CL: vertical tab", post("Content-Length:\v40") + hidden, "400", ""},
	{"CL: taken away by Connection", post("Connection: content-length", "Content-Length: 40") + hidden, "200", "POST /p a.test [" + hidden + "]"},
	{"CL: more than comes", post("Content-Length: 41") + hidden, "wait", ""},
	{"CL in a trailer", post("Transfer-Encoding: chunked") + "1\r\nx\r\n0\r\nContent-Length: 40\r\nX-T: 1\r\n\r\n", "200", "POST /p a.test [x] {X-T: 1}"},
	{"TE in a trailer", post("Transfer-Encoding: chunked") + "1\r\nx\r\n0\r\nTransfer-Encoding: chunked\r\nX-T: 1\r\n\r\n", "200", "POST /p a.test [x] {X-T: 1}"},
	{"body of a GET", "GET /p HTTP/1.1\r\nHost: a.test\r\nContent-Length: 40\r\n\r\n" + hidden, "200", "GET /p a.test [" + hidden + "]"},
	{"body of a HEAD", "HEAD /p HTTP/1.1\r\nHost: a.test\r\nContent-Length: 40\r\n\r\n" + hidden, "200", "HEAD /p a.test [" + hidden + "]"},
	{"body behind 100-continue", post("Expect: 100-continue", "Content-Length: 40") + hidden, "200", "POST /p a.test [" + hidden + "]"},
	{"folded expectation", post("Expect: x\r\n 100-continue", "Content-Length: 40") + hidden, "400", ""},

	// Chunks.
	{"chunk: 0x", chunks("0x1\r\nx\r\n0\r\n\r\n") + hidden, "400", ""},
	{"chunk: plus", chunks("+1\r\nx\r\n0\r\n\r\n") + hidden, "400", ""},
	{"chunk: minus", chunks("-1\r\nx\r\n0\r\n\r\n") + hidden, "400", ""},
	{"chunk: leading zeros", chunks("00028\r\n" + hidden + "\r\n000\r\n\r\n"), "200", "POST /p a.test [" + hidden + "]"},
	{"chunk: many zeros", chunks(strings.Repeat("0", 20) + "\r\n\r\n" + hidden), "400", ""},
	{"chunk: over 64 bits", chunks("10000000000000028\r\n" + hidden), "400", ""},
	{"chunk: over 63 bits", chunks("8000000000000028\r\n" + hidden), "400", ""},
	{"chunk: no size", chunks("\r\n" + hidden), "400", ""},
	{"chunk: space before the size", chunks(" 1\r\nx\r\n0\r\n\r\n") + hidden, "400", ""},
	{"chunk: space behind the size", chunks("1 \r\nx\r\n0\r\n\r\n") + hidden, "400", ""},
	{"chunk: underscore", chunks("2_8\r\n" + hidden), "400", ""},
	{"chunk: bare LF behind the size", chunks("28\n" + hidden + "\r\n0\r\n\r\n"), "400", ""},
	{"chunk: bare CR behind the size", chunks("28\r" + hidden + "\r\n0\r\n\r\n"), "400", ""},
	{"chunk: two CR behind the size", chunks("28\r\r\n" + hidden + "\r\n0\r\n\r\n"), "400", ""},
	{"chunk: bare LF behind the data", chunks("1\r\nx\n0\r\n\r\n" + hidden), "400", ""},
	{"chunk: bare CR behind the data", chunks("1\r\nx\r0\r\n\r\n" + hidden), "400", ""},
	{"chunk: nothing behind the data", chunks("1\r\nx0\r\n\r\n" + hidden), "400", ""},
	{"chunk: more data than its size", chunks("1\r\nxGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"), "400", ""},
	{"chunk: last one ends with LF", chunks("0\n\n" + hidden), "400", ""},
	{"chunk: end with LF", chunks("0\r\n\n" + hidden), "400", ""},
	{"chunk: LF in an extension", chunks("1;a=b\nx\r\nx\r\n0\r\n\r\n" + hidden), "400", ""},
	{"chunk: CR in an extension", chunks("1;a=b\rx\r\nx\r\n0\r\n\r\n" + hidden), "400", ""},
	{"chunk: LF in a quoted extension", chunks("28;a=\"\n\"\r\n" + hidden + "\r\n0\r\n\r\n"), "400", ""},
	{"chunk: CRLF in a quoted extension", chunks("1;a=\"\r\n0\r\n\r\n\"\r\n" + hidden), "400", ""},
	{"chunk: NUL in an extension", chunks("1;\x00\r\nx\r\n0\r\n\r\n" + hidden), "400", ""},
	{"chunk: space before an extension", chunks("1 ;a\r\nx\r\n0\r\n\r\n" + hidden), "400", ""},
	{"chunk: quoted extension", chunks("1;a=\"b;c\"\r\nx\r\n0;z\r\n\r\n"), "200", "POST /p a.test [x]"},
	{"chunk: hidden request as a trailer", chunks("0\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"), "400", ""},
	{"trailer: folded", chunks("0\r\nX: 1\r\n 2\r\n\r\n" + hidden), "400", ""},
	{"trailer: bare LF", chunks("0\r\nX: 1\n\r\n" + hidden), "400", ""},
	{"trailer: bare CR", chunks("0\r\nX: 1\rY: 2\r\n\r\n" + hidden), "400", ""},
	{"trailer: NUL", chunks("0\r\nX: \x00\r\n\r\n" + hidden), "400", ""},
	{"trailer: Host", chunks("0\r\nHost: b.test\r\n\r\n"), "200", "POST /p a.test"},
	{"trailer: ours", chunks("0\r\nFairlead-Method: GET\r\n\r\n"), "200", "POST /p a.test"},

	// Request line and lines.
	{"line: bare LF", "GET / HTTP/1.1\nHost: a.test\r\n\r\n" + hidden, "400", ""},
	{"line: bare CR", "GET / HTTP/1.1\rHost: a.test\r\n\r\n" + hidden, "400", ""},
	{"line: CR in the target", "GET /\r HTTP/1.1\r\nHost: a.test\r\n\r\n" + hidden, "400", ""},
	{"line: NUL in the target", "GET /\x00 HTTP/1.1\r\nHost: a.test\r\n\r\n" + hidden, "400", ""},
	{"line: space in the target", "GET /a /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n", "400", ""},
	{"line: version in the target", "GET / HTTP/1.1 /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n", "400", ""},
	{"line: tab in the target", "GET /a\tb HTTP/1.1\r\nHost: a.test\r\n\r\n", "400", ""},
	{"line: two spaces", "GET  / HTTP/1.1\r\nHost: a.test\r\n\r\n", "400", ""},
	{"line: space before the method", " GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", "400", ""},
	{"line: tabs", "GET\t/\tHTTP/1.1\r\nHost: a.test\r\n\r\n", "400", ""},
	{"line: form feed", "GET\f/ HTTP/1.1\r\nHost: a.test\r\n\r\n", "400", ""},
	{"line: space behind the version", "GET / HTTP/1.1 \r\nHost: a.test\r\n\r\n", "400", ""},
	{"line: HTTP/0.9", "GET /\r\n" + hidden, "400", ""},
	{"line: HTTP/1.1x", "GET / HTTP/1.1x\r\nHost: a.test\r\n\r\n", "400", ""},
	{"line: HTTP/01.1", "GET / HTTP/01.1\r\nHost: a.test\r\n\r\n", "400", ""},
	{"line: HTTP/1,1", "GET / HTTP/1,1\r\nHost: a.test\r\n\r\n", "400", ""},
	{"line: lower case version", "GET / http/1.1\r\nHost: a.test\r\n\r\n", "400", ""},
	{"line: HTTP/1.9", "GET /p HTTP/1.9\r\nHost: a.test\r\n\r\n", "200", "GET /p a.test"},
	{"line: HTTP/3.0", "GET / HTTP/3.0\r\nHost: a.test\r\n\r\n", "505", ""},
	{"line: half a preface of HTTP/2", "PRI * HTTP/2.0\r\nHost: a.test\r\n\r\n" + hidden, "505", ""},
	{"line: method with a colon", "GET: / HTTP/1.1\r\nHost: a.test\r\n\r\n", "400", ""},
	{"line: empty lines before it", "\r\n\r\nGET /p HTTP/1.1\r\nHost: a.test\r\n\r\n", "200", "GET /p a.test"},
	{"line: LF before it", "\nGET / HTTP/1.1\r\nHost: a.test\r\n\r\n", "400", ""},
	{"line: CR before it", "\rGET / HTTP/1.1\r\nHost: a.test\r\n\r\n", "400", ""},
	{"end of head: LF", "GET / HTTP/1.1\r\nHost: a.test\r\n\n" + hidden, "400", ""},
	{"end of head: CR", "GET / HTTP/1.1\r\nHost: a.test\r\n\r\r\n" + hidden, "400", ""},
	{"field: no colon", "GET / HTTP/1.1\r\nHost: a.test\r\n" + hidden, "400", ""},
	{"field: NUL in the value", "GET / HTTP/1.1\r\nHost: a.test\r\nX: a\x00\r\n\r\n", "400", ""},
	{"field: empty name", "GET / HTTP/1.1\r\nHost: a.test\r\n: x\r\n\r\n", "400", ""},
	{"field: ours", "GET /p HTTP/1.1\r\nHost: a.test\r\nFairlead-Version: 10\r\nFairlead-Method: POST\r\n\r\n", "200", "GET /p a.test"},

	// Whose request it is.
	{"host: none", "GET / HTTP/1.1\r\n\r\n", "400", ""},
	{"host: two", "GET / HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\n\r\n", "400", ""},
	{"host: two alike", "GET / HTTP/1.1\r\nHost: a.test\r\nhost: a.test\r\n\r\n", "400", ""},
	{"host: list", "GET / HTTP/1.1\r\nHost: a.test, b.test\r\n\r\n", "400", ""},
	{"host: path", "GET / HTTP/1.1\r\nHost: a.test/smuggled\r\n\r\n", "400", ""},
	{"host: user", "GET / HTTP/1.1\r\nHost: a@b.test\r\n\r\n", "400", ""},
	{"host: folded", "GET / HTTP/1.1\r\nHost:\r\n a.test\r\n\r\n", "400", ""},
	{"host: space before the colon", "GET / HTTP/1.1\r\nHost : a.test\r\n\r\n", "400", ""},
	{"host: port with letters", "GET / HTTP/1.1\r\nHost: a.test:8o\r\n\r\n", "400", ""},
	{"absolute form wins over host", "GET http://b.test/p HTTP/1.1\r\nHost: a.test\r\n\r\n", "200", "GET /p b.test"},
	{"absolute form with a user", "GET http://u@b.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", "400", ""},
	{"absolute form without an authority", "GET http:///p HTTP/1.1\r\nHost: a.test\r\n\r\n", "400", ""},
	{"absolute form with a backslash", "GET http://b.test\\@a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", "400", ""},
	{"another scheme", "GET gopher://b.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", "400", ""},
	{"host taken away by Connection", "GET /p HTTP/1.1\r\nHost: a.test\r\nConnection: host, close\r\n\r\n", "200", "GET /p a.test"},
	{"authority-form in a GET", "GET a.test:80 HTTP/1.1\r\nHost: a.test\r\n\r\n", "400", ""},
	{"asterisk in a GET", "GET * HTTP/1.1\r\nHost: a.test\r\n\r\n", "400", ""},

	// Tunnels: what stands behind a request for one is no request if there is none.
	{"CONNECT refused", "CONNECT a.test:80 HTTP/1.1\r\nHost: a.test:80\r\n\r\n" + hidden, "403", "CONNECT a.test:80 a.test:80"},
	{"CONNECT with a length", "CONNECT a.test:80 HTTP/1.1\r\nHost: a.test:80\r\nContent-Length: 40\r\n\r\n" + hidden, "400", ""},
	{"CONNECT with a coding", "CONNECT a.test:80 HTTP/1.1\r\nHost: a.test:80\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden, "400", ""},
	{"CONNECT to a path", "CONNECT /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n", "400", ""},
	{"upgrade accepted", "GET /switch HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n" + hidden, "101", "GET /switch a.test"},
	{"upgrade with a body", post("Connection: upgrade", "Upgrade: x", "Content-Length: 40") + hidden, "200", "POST /p a.test [" + hidden + "]"},
	{"upgrade to h2c with a body", post("Connection: upgrade, http2-settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk", "Content-Length: 40") + hidden, "200", "POST /p a.test [" + hidden + "]"},
	{"upgrade in HTTP/1.0", "GET /switch HTTP/1.0\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n" + hidden, "200", "GET /switch a.test"},
}

// post is the head of a request with those fields.
func post(fields ...string) string {
	return "POST /p HTTP/1.1\r\nHost: a.test\r\n" + strings.Join(fields, "\r\n") + "\r\n\r\n"
}

func chunks(body string) string { return post("Transfer-Encoding: chunked") + body }

// trench is a client pod, an app that records, and one engine between them or two.
type trench struct {
	t      *testing.T
	app    *strict
	out    net.Listener
	spec   *Pod
	world  *world
	server *testPod
	stops  []func()
	fences int
}

func newTrench(t *testing.T, framed, inMesh bool) *trench {
	w := newWorld(t)
	tr := &trench{t: t, app: &strict{}, world: w, server: w.pod(2, inMesh)}
	client := w.pod(1, true)
	serve, protocol := tr.app.serve1, mesh.HTTP1
	if framed {
		serve, protocol = tr.app.serve2, mesh.HTTP2
	}
	in := w.in(tr.server, 8080, w.tcpApp(serve))
	tr.out = w.out(client, w.service("10.96.0.1:80", protocol, w.endpoint(tr.server, 8080)))
	tr.spec = client.spec([]net.Listener{tr.out}, nil)
	one := func(c *Config) { c.Loops = 1 } // so that what is left on a pooled connection meets the next request
	_, stop := w.mortal(nil, one, tr.spec)
	tr.stops = append(tr.stops, stop)
	if inMesh {
		_, stop = w.mortal(nil, one, tr.server.spec(nil, []net.Listener{in}))
		tr.stops = append(tr.stops, stop)
	}
	return tr
}

// judge says what the app has to have seen since before.
func (tr *trench) judge(t *testing.T, heads, whole int, app string) {
	t.Helper()
	var want []string
	if app != "" {
		want = append(want, app)
	}
	h, w, wrong := tr.app.since(heads, whole)
	w, h = without(w, "/fence"), without(h, "/fence")
	if strings.Join(w, "\n") != strings.Join(want, "\n") || len(h) > 1 || len(wrong) > 0 {
		t.Errorf("the app saw heads %q, requests %q, want %q; wrong: %q", h, w, want, wrong)
	}
	for _, line := range h {
		if strings.Contains(line, "smuggled") {
			t.Errorf("smuggled: %q", line)
		}
	}
}

// end stops the engines, so that everything that they had in hand is with the app, and looks at all of it once more.
func (tr *trench) end() {
	for _, stop := range tr.stops {
		stop()
	}
	heads, _, wrong := tr.app.since(0, 0)
	for _, h := range heads {
		if strings.Contains(h, "smuggled") {
			tr.t.Errorf("smuggled: %q", h)
		}
	}
	if len(wrong) > 0 || tr.fences == 0 {
		tr.t.Errorf("after %d cases, wrong: %q", tr.fences, wrong)
	}
}

func without(lines []string, what string) (kept []string) {
	for _, l := range lines {
		if !strings.Contains(l, what) {
			kept = append(kept, l)
		}
	}
	return kept
}

// fence sends an honest request, and wants its own answer next.
func (tr *trench) fence(t *testing.T, c net.Conn, r *bufio.Reader) {
	t.Helper()
	tr.fences++
	path := fmt.Sprintf("/fence-%d", tr.fences)
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: a.test\r\n\r\n", path)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatalf("the request behind it: %v", err)
	}
	body, err := io.ReadAll(resp.Body)
	if resp.StatusCode != 200 || string(body) != path || err != nil {
		t.Errorf("the request behind it: %d %q, %v", resp.StatusCode, body, err)
	}
}

// TestSmuggling sends each request raw, through one engine and through two, and judges what comes out of the last.
func TestSmuggling(t *testing.T) {
	if len(smuggling) < 60 {
		t.Error("too few cases")
	}
	for _, inMesh := range []bool{false, true} {
		t.Run(fmt.Sprintf("mesh=%v", inMesh), func(t *testing.T) {
			tr := newTrench(t, false, inMesh)
			for _, tt := range smuggling {
				t.Run(tt.name, func(t *testing.T) {
					heads, whole := tr.app.counts()
					c := dial(t, tr.out)
					defer c.Close()
					if _, err := io.WriteString(c, tt.in); err != nil {
						t.Fatal(err)
					}
					tr.answer(t, c, tt.want, strings.HasPrefix(tt.in, "HEAD "))
					other := dial(t, tr.out)
					defer other.Close()
					tr.fence(t, other, bufio.NewReader(other))
					tr.judge(t, heads, whole, tt.app)
				})
			}
			tr.end()
			if raw := strings.Join(tr.app.raw, ""); raw != hidden {
				t.Errorf("through tunnels came %q", raw)
			}
		})
	}
}

// answer reads what the client is told: one response, and behind it either the end or the answer to an honest request.
func (tr *trench) answer(t *testing.T, c *net.TCPConn, want string, head bool) {
	t.Helper()
	if want == "wait" {
		c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if b, err := io.ReadAll(c); len(b) > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("told %q, %v", b, err)
		}
		return
	}
	r := bufio.NewReader(c)
	var req *http.Request
	if head {
		req = &http.Request{Method: "HEAD"}
	}
	resp, err := http.ReadResponse(r, req)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(resp.StatusCode); got != want {
		t.Errorf("answered %s, want %s", got, want)
	}
	if resp.StatusCode == 101 {
		c.CloseWrite()
	} else if _, err := io.ReadAll(resp.Body); err != nil {
		t.Error(err)
	}
	if !resp.Close && resp.StatusCode == 200 {
		tr.fence(t, c, r)
		return
	}
	if rest, _ := io.ReadAll(r); bytes.Contains(rest, []byte("HTTP/")) {
		t.Errorf("a second answer: %q", rest)
	}
}
