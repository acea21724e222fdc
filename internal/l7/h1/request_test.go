package h1

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"

	"fairlead.io/fairlead/internal/l7/exchange"
)

// hostile are requests that one parser or another has read in two ways, and what we answer.
var hostile = []struct {
	name, in string
	status   string // of the answer
}{
	{"CL.TE", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nX", "400"},
	{"TE.CL", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n8\r\nSMUGGLED\r\n0\r\n\r\n", "400"},
	{"TE.TE two", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", "501"},
	{"TE twice chunked", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "501"},
	{"TE xchunked", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", "501"},
	{"TE Kelvin sign", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chun\u212aed\r\n\r\n0\r\n\r\n", "501"},
	{"TE list", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "501"},
	{"TE vertical tab", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \vchunked\r\n\r\n0\r\n\r\n", "400"},
	{"TE before colon", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n", "400"},
	{"TE in 1.0", "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"},
	{"CL differ", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "400"},
	{"CL equal", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na", "400"},
	{"CL list", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 2\r\n\r\nab", "400"},
	{"CL plus", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na", "400"},
	{"CL minus", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", "400"},
	{"CL hex", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1\r\n\r\na", "400"},
	{"CL empty", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", "400"},
	{"CL huge", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n", "400"},
	{"obs-fold", "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n", "400"},
	{"fold first", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", "400"},
	{"bare LF line", "GET / HTTP/1.1\nHost: a\r\n\r\n", "400"},
	{"bare LF header", "GET / HTTP/1.1\r\nHost: a\nX: 1\r\n\r\n", "400"},
	{"bare LF end", "GET / HTTP/1.1\r\nHost: a\r\n\n", "400"},
	{"bare CR", "GET / HTTP/1.1\r\nHost: a\r\nX: 1\rY: 2\r\n\r\n", "400"},
	{"NUL", "GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n", "400"},
	{"space before colon", "GET / HTTP/1.1\r\nHost : a\r\n\r\n", "400"},
	{"space in name", "GET / HTTP/1.1\r\nHost: a\r\nX Y: 1\r\n\r\n", "400"},
	{"no colon", "GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", "400"},
	{"empty name", "GET / HTTP/1.1\r\nHost: a\r\n: 1\r\n\r\n", "400"},
	{"no host", "GET / HTTP/1.1\r\n\r\n", "400"},
	{"two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "400"},
	{"bad host", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "400"},
	{"host list", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "400"},
	{"two spaces", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
	{"tab", "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
	{"trailing space", "GET / HTTP/1.1 \r\nHost: a\r\n\r\n", "400"},
	{"no version", "GET /\r\nHost: a\r\n\r\n", "400"},
	{"bad method", "G(T / HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
	{"version 2", "GET / HTTP/2.0\r\nHost: a\r\n\r\n", "505"},
	{"version 0.9", "GET / HTTP/0.9\r\nHost: a\r\n\r\n", "505"},
	{"lower version", "GET / http/1.1\r\nHost: a\r\n\r\n", "400"},
	{"relative target", "GET x HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
	{"control in target", "GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
	{"bad escape", "GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
	{"star", "GET * HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
	{"user in target", "GET http://u@h/ HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
	{"CONNECT path", "CONNECT /x HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
	{"CONNECT body", "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nContent-Length: 1\r\n\r\nx", "400"},
	{"long line", "GET /" + strings.Repeat("a", 17<<10) + " HTTP/1.1\r\nHost: a\r\n\r\n", "414"},
	{"large head", "GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("a", 65<<10) + "\r\n\r\n", "431"},
	{"many fields", "GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X: 1\r\n", 200) + "\r\n", "431"},
	{"chunk 0x", chunked("0x1\r\na\r\n0\r\n\r\n"), "400"},
	{"chunk plus", chunked("+1\r\na\r\n0\r\n\r\n"), "400"},
	{"chunk space", chunked("1 \r\na\r\n0\r\n\r\n"), "400"},
	{"chunk leading space", chunked(" 1\r\na\r\n0\r\n\r\n"), "400"},
	{"chunk empty size", chunked("\r\na\r\n0\r\n\r\n"), "400"},
	{"chunk huge", chunked("1000000000000000\r\na\r\n0\r\n\r\n"), "400"},
	{"chunk overflow", chunked("ffffffffffffffff1\r\na\r\n0\r\n\r\n"), "400"},
	{"chunk bare LF", chunked("1\na\r\n0\r\n\r\n"), "400"},
	{"chunk without CRLF", chunked("1\r\nab\r\n0\r\n\r\n"), "400"},
	{"chunk LF in extension", chunked("1;a\nb\r\na\r\n0\r\n\r\n"), "400"},
	{"chunk CR in extension", chunked("1;a\rb\r\na\r\n0\r\n\r\n"), "400"},
	{"chunk long extension", chunked("1;" + strings.Repeat("a", 300) + "\r\na\r\n0\r\n\r\n"), "400"},
	{"many extensions", chunked(strings.Repeat("1;"+strings.Repeat("a", 200)+"\r\na\r\n", 100) + "0\r\n\r\n"), "400"},
	{"large trailer", chunked("0\r\nX: " + strings.Repeat("a", 65<<10) + "\r\n\r\n"), "431"},
	{"trailer fold", chunked("0\r\nX: 1\r\n 2\r\n\r\n"), "400"},
	{"trailer bare LF", chunked("0\r\nX: 1\n\r\n"), "400"},
}

func chunked(body string) string {
	return "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + body
}

func TestHostileRequests(t *testing.T) {
	for _, tt := range hostile {
		for _, piece := range []int{1 << 20, 1} {
			told, answered, w := serve([]byte(tt.in), piece, exchange.Limits{})
			if !strings.HasPrefix(answered, "HTTP/1.1 "+tt.status+" ") || !strings.Contains(answered, "Connection: close\r\n") || !w.Over() {
				t.Errorf("%s in pieces of %d: answered %.60q, over %v", tt.name, piece, answered, w.Over())
			}
			if strings.Contains(told, "SMUGGLED") || strings.Contains(told, "\nend\n") {
				t.Errorf("%s: the upstream was told %q", tt.name, told)
			}
		}
	}
}

// TestStricterThanNetHTTP holds our parser against net/http's: what that refuses, we refuse.
func TestStricterThanNetHTTP(t *testing.T) {
	refused := 0
	for _, base := range seeds {
		for at := 0; at < len(base); at++ {
			for _, b := range []string{"", " ", "\t", "\r", "\n", "\x00", ":", "\r\n", "0", "x", "\x7f", "\x80", ",", "%", "#"} {
				for _, in := range []string{base[:at] + b + base[at:], base[:at] + b + base[at+1:]} {
					if theirs(in) || strings.HasPrefix(in, "\r\n") { // RFC 9112 section 2.2 forgives that
						continue
					}
					refused++
					told, answered, _ := serve([]byte(in), 1<<20, exchange.Limits{})
					if strings.HasPrefix(answered, "HTTP/1.1 204") && strings.Count(told, "head ") == 1 {
						t.Errorf("net/http refuses %q; we answered %.40q and told %q", in, answered, told)
					}
				}
			}
		}
	}
	if refused < 100 {
		t.Errorf("only %d requests were refused: the test tests nothing", refused)
	}
}

// theirs tells whether net/http takes the one request in s.
func theirs(s string) bool {
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(s)))
	if err != nil {
		return false
	}
	if r.ProtoAtLeast(1, 1) && r.Host == "" && r.Header.Get("Host") == "" && !strings.Contains(s, "\r\nHost: \r\n") {
		return strings.Contains(s, "ost:") // its server checks Host behind the parser
	}
	_, err = io.Copy(io.Discard, r.Body)
	return err == nil
}

var seeds = []string{
	"GET / HTTP/1.1\r\nHost: a.test\r\nAccept: */*\r\n\r\n",
	"POST /p?q=%20 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
	"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n3;e=v\r\nabc\r\n0\r\nX: y\r\n\r\n",
	"GET http://h.test:80/x HTTP/1.1\r\nHost: h.test:80\r\nConnection: close, x\r\nX: 1\r\n\r\n",
	"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
	"HEAD / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
}

func TestFormsOfTarget(t *testing.T) {
	for _, tt := range []struct{ line, method, scheme, authority, path string }{
		{"GET /a?b", "GET", "http", "h", "/a?b"},
		{"GET http://x.test", "GET", "http", "x.test", "/"},
		{"GET HTTPS://x.test:8443/p", "GET", "https", "x.test:8443", "/p"},
		{"GET http://x.test?q", "GET", "http", "x.test", "/?q"},
		{"OPTIONS *", "OPTIONS", "http", "h", "*"},
		{"OPTIONS http://x.test", "OPTIONS", "http", "x.test", "*"},
		{"CONNECT [::1]:443", "CONNECT", "", "[::1]:443", ""},
	} {
		var r request
		if err := r.parse([]byte(tt.line+" HTTP/1.1\r\nHost: h\r\n\r\n"), nil); err != nil {
			t.Errorf("%s: %v", tt.line, err)
			continue
		}
		if h := r.head; h.Method != tt.method || h.Scheme != tt.scheme || h.Authority != tt.authority || h.Path != tt.path {
			t.Errorf("%s: %+v", tt.line, h)
		}
	}
}

// FuzzH1Request: however the bytes come, they are the same requests, and net/http reads the first head as we do, but for what
// stricter and laxer list.
func FuzzH1Request(f *testing.F) {
	for _, in := range allSeeds() {
		f.Add(in)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		lim := exchange.Limits{HeadBytes: 2000, LineBytes: 500, HeadFields: 20}
		told, answered, w := serve(in, len(in)+1, lim)
		for _, piece := range []int{1, 7} {
			told2, answered2, w2 := serve(in, piece, lim)
			if told2 != told || answered2 != answered || w2.Over() != w.Over() {
				t.Fatalf("in pieces of %d:\n%q\n%q\nwhole:\n%q\n%q", piece, told2, answered2, told, answered)
			}
		}
		memo := &Memo{}
		for range 2 {
			if told2, answered2, _ := serveWith(memo, in, len(in)+1, lim); told2 != told || answered2 != answered {
				t.Fatalf("with a memory:\n%q\n%q\nwithout:\n%q\n%q", told2, answered2, told, answered)
			}
		}
		if how := differ(in); how != "" {
			t.Fatalf("%q: %s", in, how)
		}
	})
}
