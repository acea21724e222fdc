package exchangetest_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"fairlead.io/fairlead/internal/l7/exchange"
	. "fairlead.io/fairlead/internal/l7/exchange/exchangetest"
)

// TestWebSocket crosses from HTTP/1.1 to HTTP/2 and back: by private HTTP/2 the handshake arrives as it was, by
// public HTTP/2 (RFC 8441) each end gets a handshake of its own.
func TestWebSocket(t *testing.T) {
	serve := func(nc net.Conn, r *bufio.Reader) {
		req, err := http.ReadRequest(r)
		key := ""
		if err == nil {
			key = req.Header.Get("Sec-WebSocket-Key")
		}
		if err != nil || len(key) != 24 || req.Method != "GET" || req.Header.Get("Upgrade") != "websocket" {
			io.WriteString(nc, "HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n")
			return
		}
		fmt.Fprintf(nc, "HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %s\r\nSec-WebSocket-Protocol: p\r\n\r\n", accept(key))
		io.Copy(nc, r)
	}
	for _, middle := range []string{"", Private, H2} {
		t.Run("middle "+middle, func(t *testing.T) {
			nc, r := dialRaw(t, way(t, path{H1, middle, H1}, rawServer(t, serve), exchange.Limits{}))
			const key = "dGhlIHNhbXBsZSBub25jZQ=="
			fmt.Fprintf(nc, "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n\r\n", key)
			h := strings.ToLower(head(t, r))
			for _, want := range []string{"http/1.1 101 ", "\r\nsec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n", "\r\nsec-websocket-protocol: p\r\n", "\r\nupgrade: websocket\r\n"} {
				if strings.Count(h, want) != 1 {
					t.Errorf("not once %q in %q", want, h)
				}
			}
			io.WriteString(nc, "frames")
			nc.CloseWrite()
			if got, err := io.ReadAll(r); err != nil || string(got) != "frames" {
				t.Errorf("tunnel gave %q, %v", got, err)
			}
		})
	}
}

// TestUpgradeOverPublicH2 is declined by the app with 200, which over HTTP/2 would mean that it was taken.
func TestUpgradeOverPublicH2(t *testing.T) {
	serve := func(nc net.Conn, r *bufio.Reader) {
		if _, err := http.ReadRequest(r); err == nil {
			io.WriteString(nc, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno")
		}
	}
	nc, r := dialRaw(t, way(t, path{H1, H2, H1}, rawServer(t, serve), exchange.Limits{}))
	io.WriteString(nc, "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	if h := head(t, r); !strings.HasPrefix(h, "HTTP/1.1 502 ") {
		t.Errorf("got %q", h)
	}
}
