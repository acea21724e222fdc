package l7

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/l7/balance"
	"fairlead.io/fairlead/internal/mesh"
)

// interim is an app's many large heads before its answer, for streams of HTTP/2 or for a request of HTTP/1.
func interim(framed bool, streams int) []byte {
	const heads, fields = 20, 30
	if !framed {
		head := "HTTP/1.1 103 Early Hints\r\n" + strings.Repeat("X: "+strings.Repeat("y", 1990)+"\r\n", fields) + "\r\n"
		return []byte(strings.Repeat(head, heads))
	}
	s := newScript()
	s.out = []byte("\x00\x00\x00\x04\x00\x00\x00\x00\x00") // a server's settings
	kv := []string{":status", "103"}
	for k := range fields {
		kv = append(kv, fmt.Sprintf("x%d", k), strings.Repeat("y", 1990))
	}
	for i := range streams {
		for range heads {
			kind, flags := byte(1), byte(0)
			for block := s.fields(kv...); len(block) > 0; kind = 9 {
				n := min(len(block), 16000)
				if n == len(block) {
					flags = 4
				}
				s.frame(kind, flags, uint32(2*i+1), block[:n])
				block = block[n:]
			}
		}
	}
	return s.out
}

// TestInterimHeadsAreBounded: an app that sends heads without end to clients that do not read has us keep what the budget allows.
func TestInterimHeadsAreBounded(t *testing.T) {
	const budget, streams = 4 << 20, 60
	for _, framed := range []bool{false, true} {
		t.Run(fmt.Sprintf("framed %v", framed), func(t *testing.T) {
			w := newWorld(t)
			client, server := w.pod(1, true), w.pod(2, true)
			said, done := interim(framed, streams), make(chan struct{})
			in := w.in(server, 8080, w.tcpApp(func(c *net.TCPConn) {
				c.Read(make([]byte, 4096))
				if framed {
					c.Write(said[:9])
					time.Sleep(200 * time.Millisecond) // for all streams to be there
					c.Write(said[9:])
				} else {
					c.Write(said)
				}
				<-done
			}))
			defer close(done)
			protocol := map[bool]mesh.Protocol{false: mesh.HTTP1, true: mesh.HTTP2}[framed]
			out := w.out(client, w.service("10.96.0.1:80", protocol, w.endpoint(server, 8080)))
			small := func(c *Config) { c.Limits.Buffered = budget }
			engines := []*Engine{w.node(nil, small, client.spec([]net.Listener{out}, nil)), w.node(nil, small, server.spec(nil, []net.Listener{in}))}
			for range map[bool]int{false: streams, true: 1}[framed] {
				c := dial(t, out)
				defer c.Close()
				c.SetReadBuffer(4096)
				if framed {
					c.Write(newScript().gets(streams).out)
				} else {
					io.WriteString(c, getBig)
				}
			}
			var most int64
			for range 100 { // a second
				time.Sleep(10 * time.Millisecond) // between samples
				most = max(most, engines[0].budget.Used(), engines[1].budget.Used())
			}
			if most > budget*5/4 { // what one turn brings comes on top
				t.Errorf("%d KiB were kept, of a budget of %d", most>>10, budget>>10)
			}
		})
	}
}

// TestLongHandshakes: who has not proved to be of the mesh cannot have us keep more than a handshake is long.
func TestLongHandshakes(t *testing.T) {
	w := newWorld(t)
	server := w.pod(2, true)
	in := w.in(server, 8080, w.httpApp(report))
	w.node(nil, nil, server.spec(nil, []net.Listener{in}))
	for size, want := range map[int]string{10 << 10: "error decoding message", 60 << 10: "reset"} {
		chain := [][]byte{server.cert.Certificate[0]}
		for range size / (10 << 10) {
			chain = append(chain, make([]byte, 10<<10))
		}
		c := tls.Client(dial(t, in), &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, NextProtos: []string{ALPNHTTP},
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				return &tls.Certificate{Certificate: chain, PrivateKey: server.cert.PrivateKey}, nil
			}})
		c.SetDeadline(time.Now().Add(5 * time.Second))
		err := c.Handshake()
		if err == nil {
			_, err = c.Read(make([]byte, 1))
		}
		if err == io.EOF { // no alert says why
			err = errors.New("reset")
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("with %d KiB of certificates: %v, want %s", size>>10, err, want)
		}
		c.Close()
	}
}

// TestClientsFaultsAreNotTheEndpoints: a client that breaks the protocol says nothing about who would have answered.
func TestClientsFaultsAreNotTheEndpoints(t *testing.T) {
	w := newWorld(t)
	client, server := w.pod(1, true), w.pod(2, false)
	w.in(server, 8080, w.httpApp(report))
	dst := w.service("10.96.0.1:80", mesh.HTTP1, w.endpoint(server, 8080))
	out := w.out(client, dst)
	w.node(nil, nil, client.spec([]net.Listener{out}, nil))
	ep, err := dst.Cluster.Pick(balance.Choice{})
	if err != nil {
		t.Fatal(err)
	}
	before := ep.Latency()
	c := dial(t, out)
	defer c.Close()
	io.WriteString(c, "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
	time.Sleep(50 * time.Millisecond) // for the request to be on its way
	io.WriteString(c, "zz\r\n")
	if b, _ := io.ReadAll(c); !strings.Contains(string(b), " 400 ") {
		t.Errorf("the client got %q", b)
	}
	if now := ep.Latency(); now > 2*before {
		t.Errorf("the endpoint counts as one of %v, before %v", now, before)
	}
}
