package l7

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"fairlead.io/fairlead/internal/mesh"
)

// TestUpgradeToHTTP2: a client of HTTP/1.1 that asks for HTTP/2 in the clear gets it where the port is declared to be HTTP/2. Elsewhere,
// and where it asks in bad order, it is served as it came.
func TestUpgradeToHTTP2(t *testing.T) {
	const good = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
	for _, tt := range []struct {
		name     string
		declared mesh.Protocol
		fields   string
		framed   bool
	}{
		{"declared", mesh.HTTP2, good, true},
		{"lower case, no settings", mesh.HTTP2, "connection: upgrade,http2-settings\r\nupgrade: h2c\r\nhttp2-settings: \r\n", true},
		{"not declared", mesh.Unknown, good, false},
		{"declared to be HTTP/1.1", mesh.HTTP1, good, false},
		{"settings twice", mesh.HTTP2, good + "HTTP2-Settings: AAMAAABk\r\n", false},
		{"settings that Connection does not name", mesh.HTTP2, strings.Replace(good, ", HTTP2-Settings", "", 1), false},
		{"settings cut off", mesh.HTTP2, strings.Replace(good, "AAMAAABk", "AAM", 1), false},
		{"settings that are no base64url", mesh.HTTP2, strings.Replace(good, "AAMA", "A=MA", 1), false},
		{"with a body", mesh.HTTP2, good + "Content-Length: 1\r\n", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			client, server := w.pod(1, true), w.pod(2, true)
			in := w.in(server, 8080, w.httpApp(report))
			out := w.out(client, w.service("10.96.0.1:80", tt.declared, w.endpoint(server, 8080)))
			w.node(nil, nil, client.spec([]net.Listener{out}, nil))
			w.node(nil, nil, server.spec(nil, []net.Listener{in}))
			c := dial(t, out)
			defer c.Close()
			c.SetDeadline(time.Now().Add(10 * time.Second))
			// The preface may come in the same segment.
			var behind bytes.Buffer
			if tt.framed {
				behind.WriteString(http2.ClientPreface)
				http2.NewFramer(&behind, nil).WriteSettings()
			}
			io.WriteString(c, "GET /a HTTP/1.1\r\nHost: svc.test\r\n"+tt.fields+"\r\n"+behind.String())
			if !tt.framed && strings.Contains(tt.fields, "Content-Length") {
				io.WriteString(c, "x")
			}
			r := bufio.NewReader(c)
			resp, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Fatal(err)
			}
			if !tt.framed {
				if resp.StatusCode != 200 || resp.Header.Get("X-Version") != "HTTP/1.1" {
					t.Errorf("%d, the app was spoken to in %s", resp.StatusCode, resp.Header.Get("X-Version"))
				}
				return
			}
			if resp.StatusCode != 101 || resp.Header.Get("Upgrade") != "h2c" {
				t.Fatalf("%s, %v", resp.Status, resp.Header)
			}
			fr := http2.NewFramer(c, r)
			fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
			wantAnswer(t, fr, 1)
			var block bytes.Buffer
			enc := hpack.NewEncoder(&block)
			for _, f := range []string{":method GET", ":scheme http", ":authority svc.test", ":path /b"} {
				name, value, _ := strings.Cut(f, " ")
				enc.WriteField(hpack.HeaderField{Name: name, Value: value})
			}
			fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: true})
			wantAnswer(t, fr, 3)
		})
	}
}

// wantAnswer reads a whole response on a stream, of an app that was spoken to in HTTP/2.
func wantAnswer(t *testing.T, fr *http2.Framer, stream uint32) {
	t.Helper()
	version := ""
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			t.Fatalf("stream %d: %v", stream, err)
		}
		if h, ok := f.(*http2.MetaHeadersFrame); ok && h.StreamID == stream && h.PseudoValue("status") != "" {
			for _, f := range h.Fields {
				if f.Name == "x-version" {
					version = f.Value
				}
			}
			if h.PseudoValue("status") != "200" || version != "HTTP/2.0" {
				t.Fatalf("stream %d: %s, the app was spoken to in %q", stream, h.PseudoValue("status"), version)
			}
		}
		if f.Header().StreamID == stream && f.Header().Flags.Has(http2.FlagDataEndStream) && version != "" {
			return
		}
	}
}
