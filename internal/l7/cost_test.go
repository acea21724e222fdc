package l7

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2/hpack"

	"fairlead.io/fairlead/internal/l7/balance"
	"fairlead.io/fairlead/internal/l7/h2"
	"fairlead.io/fairlead/internal/l7/routing"
	"fairlead.io/fairlead/internal/mesh"
)

// What a request costs, between a client and an app that cost nothing themselves: bytes that are made before. Lines that come again and
// again cost nothing; one that is new costs an allocation, and so do credentials, which are not remembered.

// caller sends one request and reads its response.
type caller interface {
	call() error
}

// plainCaller speaks HTTP/1.1 on one connection.
type plainCaller struct {
	c             net.Conn
	request, room []byte
}

const fields1 = "Accept: application/json\r\nUser-Agent: lab-client/1.0\r\nX-Request-Id: 6f1d5b3e-5a2c-4f0e-9a53-2f5f3d1f1c11\r\n" +
	"Traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n"

func newPlainCaller(t testing.TB, ln net.Listener) *plainCaller {
	p := &plainCaller{c: longDial(t, ln), request: []byte("GET /api/list?page=2 HTTP/1.1\r\nHost: svc.test\r\n" + fields1 + "\r\n")}
	if _, err := p.c.Write(p.request); err != nil {
		t.Fatal(err)
	}
	var seen bytes.Buffer
	for !strings.HasSuffix(seen.String(), "\r\n\r\nhello") {
		if _, err := io.CopyN(&seen, p.c, 1); err != nil {
			t.Fatal(seen.String(), err)
		}
	}
	p.room = make([]byte, seen.Len())
	return p
}

func (p *plainCaller) call() error {
	if _, err := p.c.Write(p.request); err != nil {
		return err
	}
	_, err := io.ReadFull(p.c, p.room)
	return err
}

// plainApp answers every request head with a few bytes.
func plainApp(c *net.TCPConn) {
	c.SetDeadline(time.Now().Add(time.Minute))
	buf := make([]byte, 16<<10)
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nServer: app\r\nContent-Length: 5\r\n\r\nhello")
	for n := 0; ; {
		k, err := c.Read(buf[n:])
		if err != nil {
			return
		}
		if n += k; bytes.HasSuffix(buf[:n], []byte("\r\n\r\n")) {
			n = 0
			if _, err := c.Write(answer); err != nil {
				return
			}
		}
	}
}

// frames reads HTTP/2 frames without keeping them.
type frames struct {
	c    net.Conn
	room [17 << 10]byte
}

func (f *frames) next() (kind, flags byte, id uint32, err error) {
	if _, err = io.ReadFull(f.c, f.room[:9]); err != nil {
		return
	}
	kind, flags, id = f.room[3], f.room[4], binary.BigEndian.Uint32(f.room[5:])
	_, err = io.ReadFull(f.c, f.room[9:9+int(f.room[1])<<8+int(f.room[2])])
	return
}

// frame appends a whole frame.
func frame(b []byte, kind, flags byte, id uint32, payload string) []byte {
	b = append(b, 0, byte(len(payload)>>8), byte(len(payload)), kind, flags)
	return append(binary.BigEndian.AppendUint32(b, id), payload...)
}

// framedCaller speaks HTTP/2 on one connection, one stream at a time.
type framedCaller struct {
	frames
	block, body string
	id          uint32
	out         []byte
}

func newFramedCaller(t testing.TB, ln net.Listener, grpc bool) *framedCaller {
	c := &framedCaller{frames: frames{c: longDial(t, ln)}, id: 1, out: make([]byte, 0, 2048)}
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	e.SetMaxDynamicTableSize(0) // so that the same block can be sent again
	block.Reset()
	list := [][2]string{{":method", "GET"}, {":scheme", "http"}, {":path", "/api/list?page=2"}, {":authority", "svc.test"}}
	if grpc {
		list = [][2]string{{":method", "POST"}, {":scheme", "http"}, {":path", "/shop.v1.Cart/Add"}, {":authority", "svc.test"},
			{"content-type", "application/grpc"}, {"te", "trailers"}, {"grpc-timeout", "4S"}}
		c.body = "\x00\x00\x00\x00\x20" + strings.Repeat("m", 32)
	}
	for line := range strings.SplitSeq(strings.TrimSpace(fields1), "\r\n") {
		name, value, _ := strings.Cut(line, ": ")
		list = append(list, [2]string{strings.ToLower(name), value})
	}
	for _, f := range list {
		e.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	c.block = strings.TrimPrefix(block.String(), "\x20")
	if _, err := c.c.Write(frame(frame([]byte(h2.Preface), 4, 0, 0, ""), 4, 1, 0, "")); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *framedCaller) call() error {
	if c.body == "" {
		c.out = frame(c.out[:0], 1, 0x5, c.id, c.block)
	} else {
		c.out = frame(frame(c.out[:0], 1, 0x4, c.id, c.block), 0, 1, c.id, c.body)
	}
	c.id += 2
	if _, err := c.c.Write(c.out); err != nil {
		return err
	}
	for {
		kind, flags, id, err := c.next()
		switch {
		case err != nil:
			return err
		case kind == 3 || kind == 7:
			return fmt.Errorf("frame %d", kind)
		case (kind == 0 || kind == 1) && flags&1 > 0:
			if id != c.id-2 {
				return fmt.Errorf("stream %d", id)
			}
			return nil
		}
	}
}

// framedApp answers every request of HTTP/2.
func framedApp(c *net.TCPConn) {
	c.SetDeadline(time.Now().Add(time.Minute))
	f := &frames{c: c}
	if _, err := io.ReadFull(c, f.room[:len(h2.Preface)]); err != nil {
		return
	}
	var taken int
	out := frame(nil, 4, 0, 0, "")
	for {
		if _, err := c.Write(out); err != nil {
			return
		}
		kind, flags, id, err := f.next()
		if err != nil {
			return
		}
		out = out[:0]
		switch {
		case kind == 4 && flags == 0:
			out = frame(out, 4, 1, 0, "")
		case kind == 0 && flags&1 > 0: // gRPC
			if taken++; taken%256 == 0 {
				out = frame(out, 8, 0, 0, "\x00\x00\x40\x00")
			}
			// :status 200, content-type application/grpc; grpc-status 0, both as literals that no table has
			out = frame(out, 1, 4, id, "\x88\x0f\x10\x10application/grpc")
			out = frame(out, 0, 0, id, "\x00\x00\x00\x00\x05hello")
			out = frame(out, 1, 5, id, "\x00\x0bgrpc-status\x010")
		case kind == 1 && flags&1 > 0:
			out = frame(frame(out, 1, 4, id, "\x88\x0f\x10\x10application/json"), 0, 1, id, "hello")
		}
	}
}

// longDial is dial without a deadline that ends a benchmark.
func longDial(t testing.TB, ln net.Listener) net.Conn {
	c := dial(t, ln)
	c.SetDeadline(time.Now().Add(time.Minute))
	return c
}

// passages are the ways of a request that are measured.
var passages = []struct {
	name     string
	framed   bool
	grpc     bool
	inMesh   bool // through two engines and mutual TLS, or else through one
	rules    bool // the service has routes
	allocate float64
}{
	{"http1", false, false, false, false, 0},
	{"http2", true, false, false, false, 0},
	{"grpc", true, true, false, false, 0},
	{"http1 mesh", false, false, true, false, 4},
	{"http2 mesh", true, false, true, false, 4},
	{"grpc mesh", true, true, true, false, 4},
	{"http1 rules", false, false, false, true, 0},
	{"http2 rules", true, false, false, true, 0},
	{"grpc rules", true, true, false, true, 0},
	{"http2 mesh rules", true, false, true, true, 4},
}

// passage makes engines, app and caller.
func passage(t testing.TB, framed, grpc, inMesh, rules bool) caller {
	w := newWorld(t)
	client, server := w.pod(1, true), w.pod(2, inMesh)
	app := plainApp
	if framed {
		app = framedApp
	}
	in := w.in(server, 8080, w.tcpApp(app))
	protocol := mesh.HTTP1
	if framed {
		protocol = mesh.HTTP2
	}
	dst := w.service("10.96.0.1:80", protocol, w.endpoint(server, 8080))
	if rules {
		dst.Routes = plainRules(t, dst.Cluster)
	}
	out := w.out(client, dst)
	one := func(c *Config) { c.Loops = 1 }
	w.node(nil, one, client.spec([]net.Listener{out}, nil))
	if inMesh {
		w.node(nil, one, server.spec(nil, []net.Listener{in}))
	}
	if framed {
		return newFramedCaller(t, out, grpc)
	}
	return newPlainCaller(t, out)
}

// plainRules are fifty rules, the last of which edits headers both ways, and splits.
func plainRules(t testing.TB, c *balance.Cluster) *routing.Live {
	rules := make([]mesh.Rule, 50)
	for i := range rules {
		rules[i] = mesh.Rule{Title: fmt.Sprintf("/none/%d", i), Backends: to("svc", "v2")}
	}
	set := &mesh.FieldEdit{Set: []mesh.FieldValue{{Name: "content-type", Value: "application/grpc"}}}
	rules[49].Title, rules[49].Filters = "/", mesh.Filters{Request: set, Response: set}
	table, err := routing.New(httpRow(rules...), func(mesh.Name, uint16) *balance.Cluster { return c })
	if err != nil {
		t.Fatal(err)
	}
	live := &routing.Live{}
	live.Set(table)
	return live
}

// BenchmarkPassage is what a request costs in time and memory, client and app included.
func BenchmarkPassage(b *testing.B) {
	for _, p := range passages {
		b.Run(p.name, func(b *testing.B) {
			c := passage(b, p.framed, p.grpc, p.inMesh, p.rules)
			b.ReportAllocs()
			for b.Loop() {
				if err := c.call(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
