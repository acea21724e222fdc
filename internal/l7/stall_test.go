package l7

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestClientsThatDoNotRead: what they asked for is held within the windows and buffers of their connections, and their neighbours
// do not wait for them. The ceilings are of the heap of both engines, app and clients included.
func TestClientsThatDoNotRead(t *testing.T) {
	const noWindow, wideWindow = "\x00\x04\x00\x00\x00\x00", "\x00\x04\x7f\xff\xff\xff"
	// Where there are hundreds of streams, Limits.Buffered is the ceiling, of each engine, and as much as that again may be garbage.
	for _, tt := range []struct {
		name    string
		framed  bool
		own     bool // the honest client is of the same pod
		clients int
		ask     func(in *script)
		ceiling uint64
	}{
		{"no window", true, false, 4, func(in *script) { in.frame(4, 0, 0, noWindow).gets(200) }, 256 << 20},
		{"windows, but no reading", true, false, 4, func(in *script) {
			in.frame(4, 0, 0, wideWindow).frame(8, 0, 0, "\x7f\xff\x00\x00").gets(200)
		}, 256 << 20},
		{"HTTP/1", false, false, 60, func(in *script) { in.out = []byte(getBig) }, 128 << 20},
		{"HTTP/1, many at once", false, false, 20, func(in *script) { in.out = bytes.Repeat([]byte(getBig), 1000) }, 128 << 20},
		{"no window, same pod", true, true, 4, func(in *script) { in.frame(4, 0, 0, noWindow).gets(200) }, 256 << 20},
		{"HTTP/1, same pod", false, true, 12, func(in *script) { in.out = []byte(getBig) }, 128 << 20},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := besiege(t, tt.framed, nil, nil)
			if !tt.own {
				s.honest = s.other
			}
			s.during(tt.framed, tt.ceiling, func() {
				var group sync.WaitGroup
				defer group.Wait()
				for range tt.clients {
					c := dial(t, s.out)
					defer c.Close()
					c.SetReadBuffer(4096)
					in := newScript()
					tt.ask(in)
					group.Go(func() { c.Write(in.out) }) // all of it is not taken from every one
				}
				time.Sleep(700 * time.Millisecond) // how long the attack is looked at
			})
		})
	}
}

const getBig = "GET /big HTTP/1.1\r\nHost: a\r\n\r\n"

// gets opens n streams.
func (s *script) gets(n int) *script {
	for i := range n {
		s.frame(1, 5, uint32(2*i+1), s.fields(":method", "GET", ":scheme", "http", ":path", "/big", ":authority", "a.test"))
	}
	return s
}

// TestHostileApps: an app that sends without end is cut off, and its client told; other requests to it are served.
func TestHostileApps(t *testing.T) {
	const chunkedHead = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	for _, tt := range []struct {
		name, first, again string
		want               string // status, or "cut" where the response had begun
		why                string
	}{
		{"interim responses", "", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", "502", "Limits.Interim"},
		{"a field", "HTTP/1.1 200 OK\r\nX: ", strings.Repeat("y", 1000), "502", "Limits.HeadBytes"},
		{"fields", "HTTP/1.1 200 OK\r\n", "X: y\r\n", "502", "Limits.HeadFields"},
		{"a status line", "HTTP/1.1 200 ", strings.Repeat("y", 1000), "502", "Limits.LineBytes"},
		{"fields of interim responses", "HTTP/1.1 103 Early Hints\r\n", "X: y\r\n", "502", "Limits.HeadFields"},
		{"extensions", chunkedHead, "1;" + strings.Repeat("e", 200) + "\r\nx\r\n", "cut", "maxExtensions"},
		{"an extension", chunkedHead + "1;", strings.Repeat("e", 1000), "cut", "maxChunkLine"},
		{"trailers", chunkedHead + "1\r\nx\r\n0\r\n", "X: y\r\n", "cut", "Limits.HeadFields"},
		{"a trailer", chunkedHead + "1\r\nx\r\n0\r\nX: ", strings.Repeat("y", 1000), "cut", "Limits.HeadBytes"},
		{"a response that nobody asked for", "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nservedHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged", "", "200",
			"the connection is not used again"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := besiege(t, false, nil, func(_ *siege, c *net.TCPConn) { hostileApp(c, tt.first, tt.again) })
			s.during(false, 32<<20, func() {
				for range 20 {
					if got := s.hostileCall(t); got != tt.want {
						t.Errorf("the client got %s, want %s (%s)", got, tt.want, tt.why)
					}
				}
			})
		})
	}
}

func (s *siege) hostileCall(t *testing.T) string {
	resp, err := httpClient(t, s.out, false).Post("http://svc.test/hostile", "text/plain", nil)
	if errors.Is(err, syscall.ECONNRESET) { // it may overtake the head
		return "cut"
	}
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	if _, err := io.ReadAll(resp.Body); err != nil {
		return "cut"
	}
	return fmt.Sprint(resp.StatusCode)
}

// hostileApp answers /hostile with first, and then again and again, if there is such; all else as it should.
func hostileApp(c *net.TCPConn, first, again string) {
	buf := make([]byte, 16<<10)
	for n := 0; ; {
		k, err := c.Read(buf[n:])
		if err != nil {
			return
		}
		if n += k; !bytes.HasSuffix(buf[:n], []byte("\r\n\r\n")) {
			continue
		}
		if !bytes.HasPrefix(buf, []byte("POST /hostile")) {
			n = 0
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nserved")
			continue
		}
		io.WriteString(c, first)
		if again == "" {
			io.Copy(io.Discard, c)
			return
		}
		for wave := strings.Repeat(again, 100); err == nil; {
			_, err = io.WriteString(c, wave) // until it is cut off
		}
		return
	}
}
