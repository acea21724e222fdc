package l7

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/l7/h2"
	"fairlead.io/fairlead/internal/mesh"
)

func TestDetect(t *testing.T) {
	for _, tc := range []struct {
		in   string
		want Kind
	}{
		{"", KindUnknown},
		{"G", KindUnknown},
		{"GET / HT", KindUnknown},
		{"GET / HTTP/1.1\r\n", KindHTTP1},
		{"GET / HTTP/1.0\n", KindHTTP1},
		{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", KindHTTP2},
		{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nmore", KindHTTP2},
		{"PRI * HTTP/2.0\r\n\r\n", KindUnknown},
		{"PRI * HTTP/3.0\r\n\r\n", KindTCP},
		{"PROPFIND /a HTTP/1.1\r\n", KindHTTP1},
		{"P", KindUnknown},
		{"CONNECT a:1 HTTP/1.1\r\n", KindHTTP1},
		{"M-SEARCH * HTTP/1.1\r\n", KindHTTP1},
		{"GET key\r\n", KindTCP},    // memcached
		{"PING\r\n", KindTCP},       // redis
		{"EHLO there\r\n", KindTCP}, // SMTP
		{"EHLO there", KindUnknown},
		{"*1\r\n$4\r\nPING\r\n", KindTCP},
		{"\x00\x00\x00\x08\x04\xd2\x16\x2f", KindTCP}, // postgres
		{"\x16", KindUnknown},
		{"\x16\x03\x01\x02\x00\x01", KindTLS},
		{"\x16\x03\x01\x02\x00\x02", KindTCP},
		{"\x16\x04", KindTCP},
		{"GET /\x00", KindTCP},
		{strings.Repeat("A", 40), KindTCP},
		{"GET /" + strings.Repeat("a", detectBytes), KindHTTP1},
		{"XYZ " + strings.Repeat("a", detectBytes), KindTCP},
	} {
		if got := detect([]byte(tc.in)); got != tc.want {
			t.Errorf("%.30q: %v, want %v", tc.in, got, tc.want)
		}
	}
}

func TestGuess(t *testing.T) {
	for in, want := range map[string]Kind{
		"GET ": KindHTTP1, "GET /long": KindHTTP1, "POST http://x/": KindHTTP1, "GET key": KindTCP, "EHLO": KindTCP,
		"\x16\x03": KindTLS, "QUIT": KindTCP,
	} {
		if got := guess([]byte(in)); got != want {
			t.Errorf("%q: %v, want %v", in, got, want)
		}
	}
}

// FuzzDetect checks that a verdict, once given, does not change with more bytes, and that it comes in the end.
func FuzzDetect(f *testing.F) {
	for _, s := range []string{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", h2Preface, "\x16\x03\x01\x02\x00\x01\x00", "EHLO x\r\n", "PUT k v"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		verdict := KindUnknown
		for i := range min(len(b), 200) + 1 {
			k := detect(b[:i])
			if verdict != KindUnknown && k != verdict {
				t.Fatalf("%q was %v, with more %v", b[:i], verdict, k)
			}
			verdict = k
		}
		if len(b) > 0 && guess(b) == KindUnknown {
			t.Fatalf("no guess for %q", b)
		}
		if long := append(bytes.Clone(b), make([]byte, detectBytes)...); detect(long) == KindUnknown {
			t.Fatalf("no verdict for %q and zeroes", b)
		}
	})
}

// helloOf is what crypto/tls sends first.
func helloOf(t testing.TB, cfg *tls.Config) []byte {
	t.Helper()
	c, s := net.Pipe()
	done := make(chan []byte, 1)
	go func() {
		buf := make([]byte, 16<<10)
		n, _ := s.Read(buf)
		s.Close()
		done <- buf[:n]
	}()
	tls.Client(c, cfg).Handshake() // ends when the other end closes
	c.Close()
	return <-done
}

func TestParseHello(t *testing.T) {
	b := helloOf(t, &tls.Config{ServerName: "db.test", NextProtos: []string{"x", ALPNTCP}})
	h, p := parseHello(b)
	if p != parsed || h.SNI != "db.test" || !slices.Equal(h.ALPN, []string{"x", ALPNTCP}) || !h.ours() {
		t.Fatalf("%+v, %v", h, p)
	}
	for i := range b {
		if _, p := parseHello(b[:i]); p != needMore {
			t.Fatalf("%d of %d bytes: %v", i, len(b), p)
		}
	}
	// The same, in records of 100 bytes.
	var split []byte
	for msg := b[5:]; len(msg) > 0; {
		n := min(100, len(msg))
		split = append(append(split, 22, 3, 1, 0, byte(n)), msg[:n]...)
		msg = msg[n:]
	}
	if h, p := parseHello(split); p != parsed || !h.ours() {
		t.Errorf("in many records: %+v, %v", h, p)
	}
	if h, p := parseHello(helloOf(t, &tls.Config{ServerName: "a", NextProtos: []string{"h2"}})); p != parsed || h.ours() {
		t.Errorf("foreign: %+v, %v", h, p)
	}
}

func FuzzClientHello(f *testing.F) {
	f.Add(helloOf(f, &tls.Config{ServerName: "a.test", NextProtos: []string{ALPNHTTP}}))
	f.Add([]byte{22, 3, 1, 0, 5, 1, 0, 0, 1, 0})
	f.Add(helloWithTicket(f, 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, p := parseHello(b)
		if (h != nil) != (p == parsed) {
			t.Fatalf("%v, %v", h, p)
		}
		if len(b) > helloBytes && p == needMore {
			t.Fatal("asks for more than it would ever look at")
		}
	})
}

func TestPreface(t *testing.T) {
	for _, p := range []preface{{}, {Service: mesh.Name{Namespace: "a", Name: "b"}, Port: 80}} {
		r := bytes.NewReader(append(p.append(nil), "rest"...))
		got, err := readPreface(r)
		if err != nil || got != p {
			t.Errorf("%+v, %v, want %+v", got, err, p)
		}
		if rest, _ := io.ReadAll(r); string(rest) != "rest" {
			t.Errorf("left %q", rest)
		}
	}
	unknown := []byte("FLT1\x00\x05\x63\x00\x02ab")
	if p, err := readPreface(bytes.NewReader(unknown)); err != nil || p != (preface{}) {
		t.Errorf("unknown type: %+v, %v", p, err)
	}
	for _, bad := range []string{"FLT2\x00\x00", "FLT1\x02\x00", "FLT1\x00\x02\x01\x00", "FLT1\x00\x04\x01\x00\x01x", "FLT1\x00\x09"} {
		if _, err := readPreface(strings.NewReader(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func FuzzPreface(f *testing.F) {
	f.Add(preface{Service: mesh.Name{Namespace: "a", Name: "b"}, Port: 80}.append(nil))
	f.Add([]byte("FLT1\x00\x05\x63\x00\x02ab"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := readPreface(bytes.NewReader(b))
		if err != nil {
			return
		}
		again, err := readPreface(bytes.NewReader(p.append(nil)))
		if err != nil || again != p {
			t.Fatalf("%+v became %+v, %v", p, again, err)
		}
	})
}

// TestAServerOfHTTP2ThatSpeaksFirst: its client is slow, but speaks HTTP/2 nevertheless. What only begins like that is passed on.
func TestAServerOfHTTP2ThatSpeaksFirst(t *testing.T) {
	settings := string([]byte{0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 100})
	for name, tt := range map[string]struct {
		server, client string
		want           Kind
	}{
		"HTTP/2":                   {settings, h2.Preface + string([]byte{0, 0, 0, 4, 0, 0, 0, 0, 0}), KindHTTP2},
		"a client that says else":  {settings, "something else entirely", KindTCP},
		"a server that says else":  {"220 welcome\r\n", h2.Preface, KindTCP},
		"a greeting of a database": {string([]byte{0x4a, 0, 0, 0, 10}) + "8.0.36", h2.Preface, KindTCP},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			client, server := w.pod(1, true), w.pod(2, false)
			w.in(server, 8080, w.tcpApp(func(c *net.TCPConn) {
				io.WriteString(c, tt.server)
				io.Copy(io.Discard, c)
			}))
			out := w.out(client, w.service("10.96.0.1:80", mesh.Unknown, w.endpoint(server, 8080)))
			rec := &ledger{}
			w.node(rec, func(c *Config) { c.Limits.Detect = 5 * time.Millisecond }, client.spec([]net.Listener{out}, nil))
			c := dial(t, out)
			time.Sleep(100 * time.Millisecond) // the server has long spoken
			io.WriteString(c, tt.client)
			if tt.want == KindTCP {
				if _, err := io.ReadFull(c, make([]byte, len(tt.server))); err != nil {
					t.Errorf("what the server has said: %v", err)
				}
			} else if _, err := io.ReadFull(c, make([]byte, 9)); err != nil {
				t.Errorf("our own SETTINGS: %v", err)
			}
			c.Close()
			rec.conn(t, "the connection", func(r *ConnRecord) bool { return r.Kind == tt.want })
		})
	}
}
