package h2

import (
	"fmt"
	"strings"
	"testing"

	"fairlead.io/fairlead/internal/l7/exchange"
)

// clauses are the demands of RFC 9113 (and 7541, 9110) that h2spec checks, by section.
var clauses = []struct {
	section, name string
	in            func(p *peer)
	want          string // a frame that is among the last ones
}{
	{"3.4", "bad preface", func(p *peer) { p.Reset(); p.WriteString("GET / HTTP/1.1\r\n\r\n") }, "GOAWAY 0 1"},
	{"3.4", "first frame is not SETTINGS", func(p *peer) { p.Reset(); p.WriteString(Preface); p.frame(framePing, 0, 0, "12345678") }, "GOAWAY 0 1"},
	{"4.2", "DATA too large", func(p *peer) { p.post(1).frame(frameData, 0, 1, strings.Repeat("x", maxFrame+1)) }, "GOAWAY 1 6"},
	{"4.2", "DATA of the greatest size", func(p *peer) {
		p.post(1).frame(frameData, flagEndStream, 1, strings.Repeat("x", maxFrame))
	}, "HEADERS 1 :status=200"},
	{"4.3", "bad block", func(p *peer) { p.frame(frameHeaders, 5, 1, "\x80") }, "GOAWAY 1 9"},
	{"4.3", "PRIORITY within a block", func(p *peer) {
		p.frame(frameHeaders, 1, 1, p.fields(getFields...)).frame(framePriority, 0, 1, "\x00\x00\x00\x00\x01")
	}, "GOAWAY 1 1"},
	{"4.3", "HEADERS within a block", func(p *peer) { p.frame(frameHeaders, 1, 1, p.fields(getFields...)).get(3) }, "GOAWAY 1 1"},
	{"5.1", "DATA on idle", func(p *peer) { p.frame(frameData, 1, 1, "x") }, "GOAWAY 0 1"},
	{"5.1", "RST_STREAM on idle", func(p *peer) { p.frame(frameReset, 0, 1, u32(8)) }, "GOAWAY 0 1"},
	{"5.1", "WINDOW_UPDATE on idle", func(p *peer) { p.frame(frameWindow, 0, 1, u32(8)) }, "GOAWAY 0 1"},
	{"5.1", "CONTINUATION on idle", func(p *peer) { p.frame(frameContinuation, 4, 1, "") }, "GOAWAY 0 1"},
	{"5.1", "DATA on closed", func(p *peer) { p.get(1).frame(frameData, 1, 1, "x") }, "GOAWAY 1 5"},
	{"5.1", "HEADERS on closed", func(p *peer) { p.get(1).get(1) }, "GOAWAY 1 5"},
	{"5.1", "CONTINUATION on closed", func(p *peer) { p.get(1).frame(frameContinuation, 4, 1, "") }, "GOAWAY 1 1"},
	{"5.1", "PRIORITY on closed", func(p *peer) {
		p.get(1).frame(framePriority, 0, 1, "\x00\x00\x00\x00\x01").frame(framePing, 0, 0, "12345678")
	}, "PING flags=1 12345678"},
	{"5.1.1", "even stream", func(p *peer) { p.get(2) }, "GOAWAY 0 1"},
	{"5.1.1", "smaller stream", func(p *peer) { p.get(5).get(3) }, "GOAWAY 5 1"},
	{"5.1.2", "too many streams", func(p *peer) {
		for i := range uint32(5) {
			p.post(2*i + 1)
		}
	}, "RST 9 7"},
	{"5.3.1", "HEADERS depends on itself", func(p *peer) {
		p.frame(frameHeaders, 5|flagPriority, 1, u32(1)+"\x01"+p.fields(getFields...))
	}, "RST 1 1"},
	{"5.3.1", "PRIORITY depends on itself", func(p *peer) { p.post(1).frame(framePriority, 0, 1, u32(1)+"\x01") }, "RST 1 1"},
	{"5.5", "unknown frame", func(p *peer) { p.frame(0x77, 0, 0, "x").get(1) }, "HEADERS 1 :status=200"},
	{"5.5", "unknown frame within a block", func(p *peer) { p.frame(frameHeaders, 1, 1, p.fields(getFields...)).frame(0x77, 0, 1, "") }, "GOAWAY 1 1"},
	{"6.1", "DATA on 0", func(p *peer) { p.frame(frameData, 0, 0, "x") }, "GOAWAY 0 1"},
	{"6.1", "padding too long", func(p *peer) { p.post(1).frame(frameData, flagPadded, 1, "\x05xxxx") }, "GOAWAY 1 1"},
	{"6.2", "HEADERS on 0", func(p *peer) { p.get(0) }, "GOAWAY 0 1"},
	{"6.2", "HEADERS padding too long", func(p *peer) { p.frame(frameHeaders, 5|flagPadded, 1, "\xff"+p.fields(getFields...)) }, "GOAWAY 1 1"},
	{"6.3", "PRIORITY on 0", func(p *peer) { p.frame(framePriority, 0, 0, "\x00\x00\x00\x00\x01") }, "GOAWAY 0 1"},
	{"6.3", "PRIORITY of 4", func(p *peer) { p.post(1).frame(framePriority, 0, 1, u32(0)) }, "RST 1 6"},
	{"6.4", "RST_STREAM on 0", func(p *peer) { p.frame(frameReset, 0, 0, u32(8)) }, "GOAWAY 0 1"},
	{"6.4", "RST_STREAM of 3", func(p *peer) { p.post(1).frame(frameReset, 0, 1, "xxx") }, "GOAWAY 1 6"},
	{"6.5", "acknowledgement with payload", func(p *peer) { p.frame(frameSettings, 1, 0, setting(1, 1)) }, "GOAWAY 0 6"},
	{"6.5", "SETTINGS on a stream", func(p *peer) { p.frame(frameSettings, 0, 1, "") }, "GOAWAY 0 1"},
	{"6.5", "SETTINGS of 3", func(p *peer) { p.frame(frameSettings, 0, 0, "xxx") }, "GOAWAY 0 6"},
	{"6.5.2", "ENABLE_PUSH of 2", func(p *peer) { p.frame(frameSettings, 0, 0, setting(2, 2)) }, "GOAWAY 0 1"},
	{"6.5.2", "window too large", func(p *peer) { p.frame(frameSettings, 0, 0, setting(4, 1<<31)) }, "GOAWAY 0 3"},
	{"6.5.2", "frame size too small", func(p *peer) { p.frame(frameSettings, 0, 0, setting(5, 16383)) }, "GOAWAY 0 1"},
	{"6.5.2", "frame size too large", func(p *peer) { p.frame(frameSettings, 0, 0, setting(5, 1<<24)) }, "GOAWAY 0 1"},
	{"6.5.2", "unknown setting", func(p *peer) { p.frame(frameSettings, 0, 0, setting(0xfff, 1)).get(1) }, "HEADERS 1 :status=200"},
	{"6.6", "PUSH_PROMISE", func(p *peer) { p.post(1).frame(framePush, 4, 1, u32(2)) }, "GOAWAY 1 1"},
	{"6.7", "PING", func(p *peer) { p.frame(framePing, 0, 0, "12345678") }, "PING flags=1 12345678"},
	{"6.7", "PING on a stream", func(p *peer) { p.frame(framePing, 0, 1, "12345678") }, "GOAWAY 0 1"},
	{"6.7", "PING of 6", func(p *peer) { p.frame(framePing, 0, 0, "123456") }, "GOAWAY 0 6"},
	{"6.8", "GOAWAY on a stream", func(p *peer) { p.frame(frameGoAway, 0, 1, u32(0)+u32(0)) }, "GOAWAY 0 1"},
	{"6.9", "WINDOW_UPDATE of 0 on the connection", func(p *peer) { p.frame(frameWindow, 0, 0, u32(0)) }, "GOAWAY 0 1"},
	{"6.9", "WINDOW_UPDATE of 0 on a stream", func(p *peer) { p.post(1).frame(frameWindow, 0, 1, u32(0)) }, "RST 1 1"},
	{"6.9", "WINDOW_UPDATE of 3", func(p *peer) { p.frame(frameWindow, 0, 0, "xxx") }, "GOAWAY 0 6"},
	{"6.9.1", "connection window overflow", func(p *peer) { p.frame(frameWindow, 0, 0, u32(maxWindow)) }, "GOAWAY 0 3"},
	{"6.9.1", "stream window overflow", func(p *peer) { p.post(1).frame(frameWindow, 0, 1, u32(maxWindow)) }, "RST 1 3"},
	{"6.10", "CONTINUATIONs", func(p *peer) {
		b := p.fields(getFields...)
		p.frame(frameHeaders, 1, 1, b[:1]).frame(frameContinuation, 0, 1, b[1:2]).frame(frameContinuation, 4, 1, b[2:])
	}, "HEADERS 1 :status=200"},
	{"6.10", "CONTINUATION on another stream", func(p *peer) { p.frame(frameHeaders, 1, 1, p.fields(getFields...)).frame(frameContinuation, 4, 3, "") }, "GOAWAY 1 1"},
	{"6.10", "CONTINUATION behind END_HEADERS", func(p *peer) { p.post(1).frame(frameContinuation, 4, 1, "") }, "GOAWAY 1 1"},
	{"8.1", "HEADERS without END_STREAM behind DATA", func(p *peer) { p.post(1).frame(frameData, 0, 1, "x").frame(frameHeaders, 4, 1, p.fields("x", "y")) }, "RST 1 1"},
	{"8.1", "half-closed: DATA", func(p *peer) { p.post(1).frame(frameHeaders, 5, 1, p.fields("x", "y")).frame(frameData, 0, 1, "x") }, "GOAWAY 1 5"},
	{"8.1.1", "length too small", func(p *peer) { p.post(1, "content-length", "1").frame(frameData, 1, 1, "xx") }, "RST 1 1"},
	{"8.1.1", "length too large", func(p *peer) {
		p.post(1, "content-length", "3").frame(frameData, 0, 1, "x").frame(frameData, 1, 1, "x")
	}, "RST 1 1"},
	{"8.1.1", "length without body", func(p *peer) { p.get(1, "content-length", "3") }, "RST 1 1"},
	{"8.2", "upper case", func(p *peer) { p.get(1, "X-Upper", "1") }, "RST 1 1"},
	{"8.2.1", "space in name", func(p *peer) { p.get(1, "x y", "1") }, "RST 1 1"},
	{"8.2.1", "line feed in value", func(p *peer) { p.get(1, "x", "a\nb") }, "RST 1 1"},
	{"8.2.1", "NUL in value", func(p *peer) { p.get(1, "x", "a\x00b") }, "RST 1 1"},
	{"8.2.1", "space before value", func(p *peer) { p.get(1, "x", " a") }, "RST 1 1"},
	{"8.2.2", "connection", func(p *peer) { p.get(1, "connection", "keep-alive") }, "RST 1 1"},
	{"8.2.2", "transfer-encoding", func(p *peer) { p.get(1, "transfer-encoding", "chunked") }, "RST 1 1"},
	{"8.2.2", "te", func(p *peer) { p.get(1, "te", "trailers, deflate") }, "RST 1 1"},
	{"8.2.2", "te: trailers", func(p *peer) { p.get(1, "te", "trailers") }, "HEADERS 1 :status=200"},
	{"8.3", "unknown pseudo-field", func(p *peer) { p.get(1, ":test", "x") }, "RST 1 1"},
	{"8.3", "response pseudo-field", func(p *peer) { p.get(1, ":status", "200") }, "RST 1 1"},
	{"8.3", "pseudo-field in trailers", func(p *peer) { p.post(1).frame(frameHeaders, 5, 1, p.fields(":method", "GET")) }, "RST 1 1"},
	{"8.3", "pseudo-field behind a field", func(p *peer) {
		p.frame(frameHeaders, 5, 1, p.fields(":method", "GET", ":scheme", "http", "x", "y", ":path", "/"))
	}, "RST 1 1"},
	{"8.3.1", "empty path", func(p *peer) { p.frame(frameHeaders, 5, 1, p.fields(":method", "GET", ":scheme", "http", ":path", "")) }, "RST 1 1"},
	{"8.3.1", "no method", func(p *peer) { p.frame(frameHeaders, 5, 1, p.fields(":scheme", "http", ":path", "/")) }, "RST 1 1"},
	{"8.3.1", "no scheme", func(p *peer) { p.frame(frameHeaders, 5, 1, p.fields(":method", "GET", ":path", "/")) }, "RST 1 1"},
	{"8.3.1", "no path", func(p *peer) { p.frame(frameHeaders, 5, 1, p.fields(":method", "GET", ":scheme", "http")) }, "RST 1 1"},
	{"8.3.1", "method twice", func(p *peer) { p.get(1, ":method", "GET") }, "RST 1 1"},
	{"8.3.1", "scheme twice", func(p *peer) {
		p.frame(frameHeaders, 5, 1, p.fields(":method", "GET", ":scheme", "http", ":scheme", "http", ":path", "/"))
	}, "RST 1 1"},
	{"8.3.1", "host differs", func(p *peer) { p.get(1, "host", "b") }, "RST 1 1"},
	{"8.5", "CONNECT with path", func(p *peer) {
		p.frame(frameHeaders, 4, 1, p.fields(":method", "CONNECT", ":authority", "a:1", ":path", "/"))
	}, "RST 1 1"},
	{"8441", ":protocol without CONNECT", func(p *peer) { p.get(1, ":protocol", "websocket") }, "RST 1 1"},
	{"7541 4.2", "table size beyond the setting", func(p *peer) { p.frame(frameHeaders, 5, 1, "\x3f\xff\xff\x03"+p.fields(getFields...)) }, "GOAWAY 1 9"},
	{"7541 6.1", "index 0", func(p *peer) { p.frame(frameHeaders, 5, 1, "\x80"+p.fields(getFields...)) }, "GOAWAY 1 9"},
	{"7541 5.2", "Huffman padding", func(p *peer) {
		p.frame(frameHeaders, 5, 1, p.fields(getFields...)+"\x00\x85\xf2\xb2\x4a\x84\xff\x84\x49\x50\x9f\xff")
	}, "GOAWAY 1 9"},
}

func TestConformance(t *testing.T) {
	for _, c := range clauses {
		p := newPeer(true)
		c.in(p)
		for _, piece := range []int{1 << 20, 1} {
			_, w := serve(t, p.Bytes(), piece, ServerConfig{Limits: exchange.Limits{Streams: 4}})
			frames := said(t, w.Out)
			ok, died := false, false
			for _, f := range frames[2:] {
				died = died || strings.HasPrefix(f, "GOAWAY")
				ok = ok || f == c.want || died && sameFarewell(f, c.want)
			}
			if !ok || died != strings.HasPrefix(c.want, "GOAWAY") {
				t.Errorf("%s %s, in pieces of %d: want %q among %q", c.section, c.name, piece, c.want, frames[2:])
			}
		}
	}
}

// sameFarewell compares two GOAWAYs by their code alone.
func sameFarewell(a, b string) bool {
	x, y := strings.Fields(a), strings.Fields(b)
	return x[0] == "GOAWAY" && y[0] == "GOAWAY" && x[2] == y[2]
}

func TestFloods(t *testing.T) {
	lim := exchange.Limits{Resets: 50, Controls: 50}
	for name, one := range map[string]func(p *peer, i uint32){
		"rapid reset":  func(p *peer, i uint32) { p.post(2*i+1).frame(frameReset, 0, 2*i+1, u32(8)) },
		"malformed":    func(p *peer, i uint32) { p.get(2*i+1, "X", "1") },
		"PING":         func(p *peer, i uint32) { p.frame(framePing, 0, 0, "12345678") },
		"SETTINGS":     func(p *peer, i uint32) { p.frame(frameSettings, 0, 0, setting(4, i)) },
		"PRIORITY":     func(p *peer, i uint32) { p.frame(framePriority, 0, 9, "\x00\x00\x00\x00\x01") },
		"unknown":      func(p *peer, i uint32) { p.frame(99, 0, 0, "") },
		"empty DATA":   func(p *peer, i uint32) { p.frame(frameData, 0, 1, "") },
		"CONTINUATION": func(p *peer, i uint32) { p.frame(frameContinuation, 0, 1, "") },
	} {
		p := newPeer(true)
		switch name {
		case "empty DATA":
			p.post(1)
		case "CONTINUATION":
			p.frame(frameHeaders, 0, 1, p.fields(getFields...))
		}
		for i := range uint32(200) {
			one(p, i)
		}
		_, w := serve(t, p.Bytes(), 1<<20, ServerConfig{Limits: lim})
		frames := said(t, w.Out)
		if last := frames[len(frames)-1]; !strings.HasPrefix(last, "GOAWAY") || !strings.HasSuffix(last, " 11") {
			t.Errorf("%s: the last frame is %q", name, last)
		}
	}
}

// TestLargeHead sends more fields, and a block that unpacks to more, than the limits allow.
func TestLargeHead(t *testing.T) {
	p := newPeer(true)
	big := strings.Repeat("v", 3000)
	p.get(1, "x", big, "x", big, "x", big) // the second and third are references of one byte
	p.get(3)
	_, w := serve(t, p.Bytes(), 1<<20, ServerConfig{Limits: exchange.Limits{HeadBytes: 8000}})
	frames := strings.Join(said(t, w.Out), "\n")
	for _, want := range []string{"HEADERS 1 :status=431", "HEADERS 3 :status=200"} {
		if !strings.Contains(frames, want) {
			t.Errorf("no %q in\n%s", want, frames)
		}
	}
	var many []string
	for i := range 130 {
		many = append(many, fmt.Sprint("x", i), "v")
	}
	_, w = serve(t, newPeer(true).get(1, many...).Bytes(), 1<<20, ServerConfig{})
	if frames := strings.Join(said(t, w.Out), "\n"); !strings.Contains(frames, "HEADERS 1 :status=431") {
		t.Errorf("130 fields: %s", frames)
	}
}
