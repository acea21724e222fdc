package l7

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"testing"

	"golang.org/x/net/http2/hpack"
)

// script writes what a client of HTTP/2 sends, well-formed or not.
type script struct {
	out   []byte
	block bytes.Buffer
	enc   *hpack.Encoder
}

func newScript() *script {
	s := &script{out: frame([]byte(h2Preface), 4, 0, 0, "")}
	s.enc = hpack.NewEncoder(&s.block)
	return s
}

func (s *script) frame(kind, flags byte, id uint32, payload string) *script {
	s.out = frame(s.out, kind, flags, id, payload)
	return s
}

// fields packs names and values.
func (s *script) fields(kv ...string) string {
	s.block.Reset()
	for i := 0; i < len(kv); i += 2 {
		s.enc.WriteField(hpack.HeaderField{Name: kv[i], Value: kv[i+1]})
	}
	return s.block.String()
}

// head opens stream 1 or, sent again, ends it with trailers.
func (s *script) head(end byte, kv ...string) *script { return s.frame(1, 4|end, 1, s.fields(kv...)) }

func (s *script) data(end byte, body string) *script { return s.frame(0, end, 1, body) }

// get is a whole request with more fields, post the head of one with a body.
func (s *script) get(more ...string) *script { return s.head(1, with("GET", more)...) }

func (s *script) post(more ...string) *script { return s.head(0, with("POST", more)...) }

func with(method string, more []string) []string {
	return append([]string{":method", method, ":scheme", "http", ":path", "/p", ":authority", "a.test"}, more...)
}

// framedSmuggling are requests of HTTP/2 that would be two, or others, if they were written down as they are.
var framedSmuggling = []struct {
	name string
	in   func(s *script)
	want string // status, "rst code" of the stream or "goaway code"
	app  string
}{
	{"content-length below DATA", func(s *script) { s.post("content-length", "0").data(1, hidden) }, "rst 1", ""},
	{"content-length within DATA", func(s *script) { s.post("content-length", "5").data(1, "12345"+hidden) }, "rst 1", ""},
	{"content-length over DATA", func(s *script) { s.post("content-length", "50").data(1, hidden) }, "rst 1", ""},
	{"content-length over no DATA", func(s *script) { s.get("content-length", "40") }, "rst 1", ""},
	{"content-length before trailers", func(s *script) { s.post("content-length", "41").data(0, hidden).head(1, "x", "1") }, "rst 1", ""},
	{"content-length twice", func(s *script) { s.post("content-length", "40", "content-length", "0").data(1, hidden) }, "rst 1", ""},
	{"content-length list", func(s *script) { s.post("content-length", "40, 40").data(1, hidden) }, "rst 1", ""},
	{"content-length plus", func(s *script) { s.post("content-length", "+40").data(1, hidden) }, "rst 1", ""},
	{"content-length space", func(s *script) { s.post("content-length", " 40").data(1, hidden) }, "rst 1", ""},
	{"content-length agrees", func(s *script) { s.post("content-length", "40").data(0, hidden[:7]).data(1, hidden[7:]) }, "200", "POST /p a.test [" + hidden + "]"},
	{"content-length in trailers", func(s *script) { s.post().data(0, "x").head(1, "content-length", "40", "x", "1") }, "200", "POST /p a.test [x] {x: 1}"},
	{"padding is no body", func(s *script) { s.post("content-length", "1").frame(0, 9, 1, "\x28x"+hidden) }, "200", "POST /p a.test [x]"},
	{"content-length repeated", func(s *script) {
		s.post("fairlead-version", "11", "content-length", "40", "Content-Length", "40").data(1, hidden)
	}, "rst 1", ""},
	{"transfer-encoding", func(s *script) { s.post("transfer-encoding", "chunked").data(1, "0\r\n\r\n"+hidden) }, "rst 1", ""},
	{"transfer-encoding in trailers", func(s *script) { s.post().data(0, "x").head(1, "transfer-encoding", "chunked") }, "rst 1", ""},
	{"chunks are body", func(s *script) { s.post().data(1, "0\r\n\r\n"+hidden) }, "200", "POST /p a.test [0\r\n\r\n" + hidden + "]"},
	{"connection", func(s *script) { s.get("connection", "close") }, "rst 1", ""},
	{"keep-alive", func(s *script) { s.get("keep-alive", "1") }, "rst 1", ""},
	{"proxy-connection", func(s *script) { s.get("proxy-connection", "close") }, "rst 1", ""},
	{"upgrade", func(s *script) { s.get("upgrade", "x") }, "rst 1", ""},
	{"te: chunked", func(s *script) { s.get("te", "chunked") }, "rst 1", ""},
	{"te: with a long s", func(s *script) { s.get("te", "trailer\u017f") }, "rst 1", ""},
	{"CRLF in a value", func(s *script) { s.get("x", "1\r\n\r\n"+hidden) }, "rst 1", ""},
	{"CRLF in a common value", func(s *script) { s.get("accept", "1\r\ntransfer-encoding: chunked") }, "rst 1", ""},
	{"LF in a value", func(s *script) { s.get("x", "1\ntransfer-encoding: chunked") }, "rst 1", ""},
	{"CR in a value", func(s *script) { s.get("x", "1\rtransfer-encoding: chunked") }, "rst 1", ""},
	{"NUL in a value", func(s *script) { s.get("x", "1\x002") }, "rst 1", ""},
	{"space around a value", func(s *script) { s.get("x", " 1") }, "rst 1", ""},
	{"CRLF in a cookie", func(s *script) { s.get("cookie", "a=b\r\n\r\n"+hidden) }, "rst 1", ""},
	{"CRLF in a name", func(s *script) { s.get("x: 1\r\ntransfer-encoding", "chunked") }, "rst 1", ""},
	{"colon in a name", func(s *script) { s.get("transfer-encoding: chunked\r\nx", "1") }, "rst 1", ""},
	{"colon behind a name", func(s *script) { s.get("transfer-encoding:", "chunked") }, "rst 1", ""},
	{"space in a name", func(s *script) { s.get("transfer-encoding ", "chunked") }, "rst 1", ""},
	{"capital letters in a name", func(s *script) { s.get("Transfer-Encoding", "chunked") }, "rst 1", ""},
	{"empty name", func(s *script) { s.get("", "x") }, "rst 1", ""},
	{"CRLF in a trailer", func(s *script) { s.post().data(0, "x").head(1, "x", "1\r\n\r\n"+hidden) }, "rst 1", ""},
	{"pseudo-field in trailers", func(s *script) { s.post().data(0, "x").head(1, ":path", "/smuggled") }, "rst 1", ""},
	{"trailers that do not end", func(s *script) { s.post().data(0, "x").head(0, with("GET", nil)...) }, "rst 1", ""},
	{":method twice", func(s *script) { s.get(":method", "POST") }, "rst 1", ""},
	{":path twice", func(s *script) { s.head(1, append(with("GET", nil), ":path", "/smuggled")...) }, "rst 1", ""},
	{":path late", func(s *script) {
		s.head(1, ":method", "GET", ":scheme", "http", ":authority", "a.test", "x", "1", ":path", "/smuggled")
	}, "rst 1", ""},
	{":status in a request", func(s *script) { s.get(":status", "200") }, "rst 1", ""},
	{"unknown pseudo-field", func(s *script) { s.head(1, append([]string{":host", "b.test"}, with("GET", nil)...)...) }, "rst 1", ""},
	{":path with a space", func(s *script) { s.path("/ HTTP/1.1") }, "rst 1", ""},
	{":path with CRLF", func(s *script) { s.path("/ HTTP/1.1\r\nHost: a.test\r\n\r\nGET /smuggled") }, "rst 1", ""},
	{":path with a tab", func(s *script) { s.path("/\tHTTP/1.1") }, "rst 1", ""},
	{":path empty", func(s *script) { s.path("") }, "rst 1", ""},
	{":path relative", func(s *script) { s.path("smuggled") }, "rst 1", ""},
	{":path absolute", func(s *script) { s.path("http://b.test/smuggled") }, "rst 1", ""},
	{":method with CRLF", func(s *script) { s.method("GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\nGET") }, "rst 1", ""},
	{":method with a space", func(s *script) { s.method("GET /smuggled") }, "rst 1", ""},
	{":method empty", func(s *script) { s.method("") }, "rst 1", ""},
	{":scheme with a target", func(s *script) {
		s.head(1, ":method", "GET", ":scheme", "http://b.test/smuggled?", ":path", "/", ":authority", "a.test")
	}, "rst 1", ""},
	{":authority with CRLF", func(s *script) { s.authority("a.test\r\n\r\n" + hidden) }, "rst 1", ""},
	{":authority with a user", func(s *script) { s.authority("u@a.test") }, "rst 1", ""},
	{":authority with a path", func(s *script) { s.authority("a.test/smuggled") }, "rst 1", ""},
	{":authority against host", func(s *script) { s.get("host", "b.test") }, "rst 1", ""},
	{":authority and the same host", func(s *script) { s.get("host", "A.test") }, "200", "GET /p a.test"},
	{"host twice", func(s *script) { s.get("host", "a.test", "host", "a.test") }, "rst 1", ""},
	{"CONNECT with a path", func(s *script) { s.head(1, with("CONNECT", nil)...) }, "rst 1", ""},
	{"CONNECT with a protocol of two lines", func(s *script) {
		s.head(0, append([]string{":protocol", "x\r\n\r\n" + hidden}, with("CONNECT", nil)...)...)
	}, "rst 1", ""},
	{"a protocol without CONNECT", func(s *script) { s.head(1, append([]string{":protocol", "x"}, with("GET", nil)...)...) }, "rst 1", ""},
	{"fields of ours", func(s *script) { s.get("fairlead-version", "11", "fairlead-method", "POST") }, "200", "GET /p a.test"},
	{"HEADERS within a block", func(s *script) {
		s.frame(1, 1, 1, s.fields(with("GET", nil)...)).frame(1, 5, 3, s.fields(with("GET", nil)...))
	}, "goaway 1", ""},
	{"CONTINUATION of another stream", func(s *script) { s.frame(1, 1, 1, s.fields(with("GET", nil)...)).frame(9, 4, 3, "") }, "goaway 1", ""},
}

func (s *script) path(p string) {
	s.head(1, ":method", "GET", ":scheme", "http", ":path", p, ":authority", "a.test")
}

func (s *script) method(m string) {
	s.head(1, ":method", m, ":scheme", "http", ":path", "/p", ":authority", "a.test")
}

func (s *script) authority(a string) {
	s.head(1, ":method", "GET", ":scheme", "http", ":path", "/p", ":authority", a)
}

// privateSmuggling is what a node of the mesh could send, if it were not ours: what HTTP/2 carries for clients of HTTP/1 is written
// down as HTTP/1 at the other end, where a wrong byte is worth more.
var privateSmuggling = []struct {
	name string
	in   func(s *script)
	want string
	app  string
}{
	{"honest", func(s *script) { s.post(v11...).data(1, hidden) }, "200", "POST /p a.test [" + hidden + "]"},
	{"content-length below DATA", func(s *script) { s.post("fairlead-version", "11", "content-length", "0").data(1, hidden) }, "rst 1", ""},
	{"content-length over DATA", func(s *script) { s.post("fairlead-version", "11", "content-length", "99").data(1, hidden) }, "rst 1", ""},
	{"content-length twice", func(s *script) {
		s.post("fairlead-version", "11", "content-length", "40", "Content-Length", "0").data(1, hidden)
	}, "rst 1", ""},
	{"transfer-encoding", func(s *script) { s.post("fairlead-version", "11", "Transfer-Encoding", "chunked").data(1, hidden) }, "rst 1", ""},
	{"connection", func(s *script) { s.get("fairlead-version", "11", "Connection", "content-length") }, "rst 1", ""},
	{"upgrade", func(s *script) { s.get("fairlead-version", "11", "Upgrade", "x") }, "rst 1", ""},
	{"CRLF in a value", func(s *script) { s.get("fairlead-version", "11", "X", "1\r\n\r\n"+hidden) }, "rst 1", ""},
	{"CRLF in a name", func(s *script) { s.get("fairlead-version", "11", "X: 1\r\nTransfer-Encoding", "chunked") }, "rst 1", ""},
	{"CRLF in :path", func(s *script) {
		s.head(1, ":method", "GET", ":scheme", "http", ":path", "/ HTTP/1.1\r\n\r\n"+hidden, ":authority", "a.test", "fairlead-version", "11")
	}, "rst 1", ""},
	{"space in :path", func(s *script) {
		s.head(1, ":method", "GET", ":scheme", "http", ":path", "/smuggled HTTP/1.0", ":authority", "a.test", "fairlead-version", "11")
	}, "rst 1", ""},
	{"CRLF in :authority", func(s *script) {
		s.head(1, ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a\r\n\r\n"+hidden, "fairlead-version", "11")
	}, "rst 1", ""},
	{"CRLF in fairlead-version", func(s *script) { s.get("fairlead-version", "11\r\n") }, "rst 1", ""},
	{"fairlead-method of a request that is no tunnel", func(s *script) { s.get("fairlead-version", "11", "fairlead-method", "POST") }, "200", "GET /p a.test"},
	{"fairlead-method with CRLF", func(s *script) {
		s.tunnel("x", "/p", "fairlead-version", "11", "fairlead-method", "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\nGET").data(1, hidden)
	}, "rst 1", ""},
	{"fairlead-method with a target", func(s *script) {
		s.tunnel("x", "/p", "fairlead-version", "11", "fairlead-method", "GET /smuggled").data(1, hidden)
	}, "200", "GET /p a.test"},
	{"fairlead-method CONNECT with a path", func(s *script) {
		s.tunnel("x", "/p", "fairlead-version", "11", "fairlead-method", "CONNECT").data(1, hidden)
	}, "200", "GET /p a.test"},
	{"CRLF in :protocol", func(s *script) { s.tunnel("x\r\n\r\n"+hidden, "/p", v11...) }, "rst 1", ""},
	{"hidden behind a refused tunnel", func(s *script) { s.tunnel("x", "/p", v11...).data(1, hidden) }, "200", "GET /p a.test"},
	{"hidden behind a refused CONNECT", func(s *script) {
		s.head(0, ":method", "CONNECT", ":authority", "a.test:80", "fairlead-version", "11").data(1, hidden)
	}, "403", "CONNECT a.test:80 a.test:80"},
	{"chunks in a body without a length", func(s *script) { s.post(v11...).data(1, "0\r\n\r\n"+hidden) }, "200", "POST /p a.test [0\r\n\r\n" + hidden + "]"},
	{"framing in trailers", func(s *script) { s.post(v11...).data(0, "x").head(1, "Content-Length", "40", "X", "1") }, "200", "POST /p a.test [x] {X: 1}"},
	{"coding in trailers", func(s *script) { s.post(v11...).data(0, "x").head(1, "Transfer-Encoding", "chunked") }, "rst 1", ""},
	{"body in HTTP/1.0", func(s *script) { s.post("fairlead-version", "10").data(1, hidden) }, "200", "POST /p a.test [" + hidden + "]"},
}

var v11 = []string{"fairlead-version", "11"}

// tunnel asks for one as extended CONNECT (RFC 8441).
func (s *script) tunnel(protocol, path string, more ...string) *script {
	return s.head(0, append([]string{":method", "CONNECT", ":protocol", protocol, ":scheme", "http", ":path", path, ":authority", "a.test"}, more...)...)
}

// heard is what a client of HTTP/2 reads until stream id has ended.
func heard(f *frames, dec *hpack.Decoder, id uint32) (what, body string) {
	for {
		kind, flags, on, err := f.next()
		payload := f.room[9 : 9+int(f.room[1])<<8+int(f.room[2])]
		switch {
		case err != nil:
			return "end", body
		case kind == 7:
			return fmt.Sprint("goaway ", binary.BigEndian.Uint32(payload[4:])), body
		case kind == 3 && on == id && what == "":
			return fmt.Sprint("rst ", binary.BigEndian.Uint32(payload)), body
		case kind == 3 && on == id:
			return what, body
		case kind == 1:
			fields, err := dec.DecodeFull(payload)
			if err != nil {
				return err.Error(), body
			}
			if on == id && what == "" {
				what = fields[0].Value
			}
		case kind == 0 && on == id:
			body += string(payload)
		}
		if on == id && kind < 2 && flags&1 > 0 {
			return what, body
		}
	}
}

// fenced sends an honest request on a connection of HTTP/2.
func (tr *trench) fenced(t *testing.T, s *script, f *frames, dec *hpack.Decoder, id uint32) {
	t.Helper()
	tr.fences++
	path := fmt.Sprintf("/fence-%d", tr.fences)
	s.out = s.out[:0]
	s.frame(1, 5, id, s.fields(":method", "GET", ":scheme", "http", ":path", path, ":authority", "a.test", "fairlead-version", "11"))
	f.c.Write(s.out)
	if what, body := heard(f, dec, id); what != "200" || body != path {
		t.Errorf("the request behind it: %s %q", what, body)
	}
}

// attempt sends one script and judges.
func (tr *trench) attempt(t *testing.T, connect func() net.Conn, in func(*script), want, app string) {
	t.Helper()
	heads, whole := tr.app.counts()
	s, f, dec := newScript(), &frames{c: connect()}, hpack.NewDecoder(4096, nil)
	defer f.c.Close()
	in(s)
	if _, err := f.c.Write(s.out); err != nil {
		t.Fatal(err)
	}
	got, _ := heard(f, dec, 1)
	if got != want {
		t.Errorf("answered %q, want %q", got, want)
	}
	if !strings.HasPrefix(got, "goaway") {
		tr.fenced(t, s, f, dec, 101)
	}
	s, f, dec = newScript(), &frames{c: connect()}, hpack.NewDecoder(4096, nil)
	defer f.c.Close()
	f.c.Write(s.out)
	tr.fenced(t, s, f, dec, 1)
	tr.judge(t, heads, whole, app)
}

// TestSmugglingOverHTTP2 is TestSmuggling for clients and an app of HTTP/2.
func TestSmugglingOverHTTP2(t *testing.T) {
	for _, inMesh := range []bool{false, true} {
		t.Run(fmt.Sprintf("mesh=%v", inMesh), func(t *testing.T) {
			tr := newTrench(t, true, inMesh)
			for _, tt := range framedSmuggling {
				t.Run(tt.name, func(t *testing.T) {
					tr.attempt(t, func() net.Conn { return dial(t, tr.out) }, tt.in, tt.want, tt.app)
				})
			}
			tr.end()
		})
	}
}

// TestSmugglingBetweenNodes has a client with the identity of a pod that speaks as a node does, to a node whose app speaks HTTP/1.
func TestSmugglingBetweenNodes(t *testing.T) {
	tr := newTrench(t, false, true)
	e := tr.world.endpoint(tr.server, 8080)
	connect := func() net.Conn {
		c, err := tr.world.Dial(context.Background(), tr.spec, e.Addr)
		if err != nil {
			t.Fatal(err)
		}
		cfg, _ := tr.world.ClientTLS(tr.spec, &e, ALPNHTTP)
		return tls.Client(c, cfg)
	}
	for _, tt := range privateSmuggling {
		t.Run(tt.name, func(t *testing.T) { tr.attempt(t, connect, tt.in, tt.want, tt.app) })
	}
	tr.end()
}
