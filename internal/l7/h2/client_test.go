package h2

import (
	"fmt"
	"strings"
	"testing"

	"fairlead.io/fairlead/internal/l7/exchange"
	"fairlead.io/fairlead/internal/l7/exchange/wiretest"
)

// TestResponses feeds a client that has sent GET on stream 1 and HEAD on stream 3.
func TestResponses(t *testing.T) {
	for _, tt := range []struct {
		name  string
		in    func(p *peer)
		told  string // a part of what the first exchange is told; "" means a reset for breaking the protocol
		wrote string // a frame
	}{
		{"whole", func(p *peer) {
			p.frame(frameHeaders, 4, 1, p.fields(":status", "200", "content-length", "2")).frame(frameData, 1, 1, "hi")
		}, "hi\nend", ""},
		{"trailers", func(p *peer) {
			p.frame(frameHeaders, 4, 1, p.fields(":status", "200")).frame(frameHeaders, 5, 1, p.fields("t", "v"))
		}, "trailers [{t v}]", ""},
		{"interim", func(p *peer) {
			p.frame(frameHeaders, 4, 1, p.fields(":status", "103", "link", "x")).frame(frameHeaders, 5, 1, p.fields(":status", "204"))
		}, " 103 [{link x}] -1 end=false\n", ""},
		{"our fields", func(p *peer) {
			p.frame(frameHeaders, 5, 1, p.fields(":status", "200", "fairlead-status", "101", "a", "b"))
		}, " 200 [{a b}] -1 end=true", ""},
		{"HEAD", func(p *peer) { p.frame(frameHeaders, 5, 3, p.fields(":status", "200", "content-length", "9")) }, " 9 end=true", ""},
		{"interim at the end", func(p *peer) { p.frame(frameHeaders, 5, 1, p.fields(":status", "103")) }, "", "RST 1 1"},
		{"101", func(p *peer) { p.frame(frameHeaders, 4, 1, p.fields(":status", "101")) }, "", "RST 1 1"},
		{"no status", func(p *peer) { p.frame(frameHeaders, 5, 1, p.fields("a", "b")) }, "", "RST 1 1"},
		{"long status", func(p *peer) { p.frame(frameHeaders, 5, 1, p.fields(":status", "2000")) }, "", "RST 1 1"},
		{"request's pseudo-field", func(p *peer) { p.frame(frameHeaders, 5, 1, p.fields(":status", "200", ":path", "/")) }, "", "RST 1 1"},
		{"upper case", func(p *peer) { p.frame(frameHeaders, 5, 1, p.fields(":status", "200", "A", "b")) }, "", "RST 1 1"},
		{"line feed", func(p *peer) { p.frame(frameHeaders, 5, 1, p.fields(":status", "200", "a", "b\r\nc: d")) }, "", "RST 1 1"},
		{"connection", func(p *peer) { p.frame(frameHeaders, 5, 1, p.fields(":status", "200", "connection", "close")) }, "", "RST 1 1"},
		{"DATA first", func(p *peer) { p.frame(frameData, 1, 1, "x") }, "", "RST 1 1"},
		{"too long", func(p *peer) {
			p.frame(frameHeaders, 4, 1, p.fields(":status", "200", "content-length", "1")).frame(frameData, 1, 1, "xx")
		}, "", "RST 1 1"},
		{"too short", func(p *peer) {
			p.frame(frameHeaders, 4, 1, p.fields(":status", "200", "content-length", "3")).frame(frameData, 1, 1, "xx")
		}, "", "RST 1 1"},
		{"DATA for HEAD", func(p *peer) { p.frame(frameHeaders, 4, 3, p.fields(":status", "200")).frame(frameData, 1, 3, "xx") }, "", "RST 3 1"},
		{"trailers go on", func(p *peer) {
			p.frame(frameHeaders, 4, 1, p.fields(":status", "200")).frame(frameHeaders, 4, 1, p.fields("t", "v"))
		}, "", "RST 1 1"},
		{"push", func(p *peer) { p.frame(framePush, 4, 1, u32(2)) }, "", "GOAWAY 0 1"},
		{"stream of the server's", func(p *peer) { p.frame(frameHeaders, 5, 2, p.fields(":status", "200")) }, "", "GOAWAY 0 1"},
		{"stream nobody opened", func(p *peer) { p.frame(frameHeaders, 5, 9, p.fields(":status", "200")) }, "", "GOAWAY 0 1"},
		{"push allowed", func(p *peer) { p.frame(frameSettings, 0, 0, setting(setPush, 1)) }, "", "GOAWAY 0 1"},
	} {
		p := newPeer(false)
		tt.in(p)
		if tt.told == "" {
			tt.told = fmt.Sprintf("reset %d\n", exchange.CodeProtocol)
		}
		for _, piece := range []int{1 << 20, 1} {
			told, w := ask(p.Bytes(), piece, ClientConfig{}, "GET", "HEAD")
			if !strings.Contains(told, tt.told) {
				t.Errorf("%s: told %q, want %q", tt.name, told, tt.told)
			}
			if frames := "\n" + strings.Join(said(t, w.Out[len(Preface):]), "\n") + "\n"; !strings.Contains(frames, tt.wrote+"\n") {
				t.Errorf("%s: wrote %q, want %q", tt.name, frames, tt.wrote)
			}
		}
	}
}

func TestLimitOfStreams(t *testing.T) {
	w := &wiretest.Wire{}
	ready := 0
	c := NewClient(w, ClientConfig{OnReady: func(*Client) { ready++ }})
	w.Feed(c, newPeer(false).frame(frameSettings, 0, 0, setting(setStreams, 2)).Bytes(), 1<<20)
	if ready == 0 {
		t.Fatal("not ready behind SETTINGS")
	}
	ready = 1
	send := func() error {
		x := &exchange.Exchange{Down: wiretest.Payer{Sink: &wiretest.Sink{}}}
		x.RequestEnded()
		err := c.Send(x, &exchange.Head{Method: "GET", Path: "/", Length: -1}, true)
		if err == nil {
			x.Bind(c)
		}
		return err
	}
	for i, want := range []error{nil, nil, ErrFull} {
		if err := send(); err != want {
			t.Fatalf("request %d: %v", i, err)
		}
	}
	p := newPeer(false)
	p.Reset()
	w.Feed(c, p.frame(frameHeaders, 5, 1, p.fields(":status", "204")).Bytes(), 1<<20)
	if ready != 2 || !c.CanSend() || send() != nil {
		t.Errorf("ready %d times, can send %v", ready, c.CanSend())
	}
}

// TestPrivate carries what HTTP/1 said over private HTTP/2 and back.
func TestPrivate(t *testing.T) {
	req := &exchange.Head{Method: "POST", Scheme: "http", Authority: "a", Path: "/", Protocol: "chat/1", Version: exchange.HTTP11,
		Fields: []exchange.Field{{Name: "X-Case", Value: "1"}, {Name: "x-case", Value: "2"}, {Name: "Fairlead-Forged", Value: "x"}}, Length: -1, Service: "shop/web:80"}
	var got exchange.Head
	a, b := &wiretest.Wire{}, &wiretest.Wire{}
	c := NewClient(a, ClientConfig{Private: true})
	s := NewServer(b, ServerConfig{Private: true, Request: func(x *exchange.Exchange, h *exchange.Head, _ bool) {
		got = h.Clone()
		x.ResponseHead(&exchange.Head{Status: 101, Protocol: "chat/1", Version: exchange.HTTP11, Length: -1}, false)
	}})
	down := &wiretest.Sink{}
	x := &exchange.Exchange{Down: wiretest.Payer{Sink: down}, Tunnel: true}
	if err := c.Send(x, req, false); err != nil {
		t.Fatal(err)
	}
	x.Bind(c)
	b.Feed(s, a.Out, 1<<20)
	a.Feed(c, b.Out, 1<<20)
	if got.Method != "POST" || got.Protocol != "chat/1" || got.Version != exchange.HTTP11 || got.Service != "shop/web:80" {
		t.Errorf("the request arrived as %+v", got)
	}
	if f := fmt.Sprint(got.Fields); f != "[{X-Case 1} {x-case 2}]" {
		t.Errorf("fields %s", f)
	}
	if told := down.Log.String(); !strings.Contains(told, `"chat/1" 101 `) {
		t.Errorf("the response arrived as %q", told)
	}
}
