package h2

import (
	"bytes"
	"strings"
	"testing"

	"fairlead.io/fairlead/internal/l7/exchange"
)

var fuzzLimits = exchange.Limits{HeadBytes: 2000, HeadFields: 20, Streams: 5, Block: 3000}

func FuzzH2Server(f *testing.F) {
	for _, c := range clauses {
		p := newPeer(true)
		c.in(p)
		if p.Len() < 1000 {
			f.Add(false, p.Bytes())
		}
	}
	p := newPeer(true)
	f.Add(true, p.post(1, fieldVersion, "11", "X-Case", "v").frame(frameData, 8, 1, "\x01ab\x00").frame(frameHeaders, 5, 1, p.fields("t", "v")).Bytes())
	f.Fuzz(func(t *testing.T, private bool, in []byte) {
		cfg := ServerConfig{Limits: fuzzLimits, Private: private}
		told, w := serve(t, in, len(in)+1, cfg)
		if len(w.Out) > 20*len(in)+10_000 {
			t.Fatalf("%d bytes in gave %d bytes out", len(in), len(w.Out))
		}
		if strings.Contains(strings.ToLower(told), "fairlead-") && !bytes.Contains(in, []byte("fairlead-")) {
			t.Fatalf("a private field came through: %q", told)
		}
		for _, piece := range []int{1, 13} {
			told2, w2 := serve(t, in, piece, cfg)
			if told2 != told || !bytes.Equal(w2.Out, w.Out) {
				t.Fatalf("in pieces of %d:\n%q\n%q\nwhole:\n%q\n%q", piece, told2, w2.Out, told, w.Out)
			}
		}
		cfg.Shared = &Shared{}
		for range 3 {
			if told2, w2 := serve(t, in, len(in)+1, cfg); told2 != told || !bytes.Equal(w2.Out, w.Out) {
				t.Fatalf("with streams used again:\n%q\n%q\nwithout:\n%q\n%q", told2, w2.Out, told, w.Out)
			}
			cfg.Shared.Turn()
		}
	})
}

func FuzzH2Client(f *testing.F) {
	add := func(g func(p *peer)) {
		p := newPeer(false)
		g(p)
		f.Add(false, p.Bytes())
		f.Add(true, p.Bytes())
	}
	add(func(p *peer) { p.frame(frameHeaders, 5, 1, p.fields(":status", "204")) })
	add(func(p *peer) {
		p.frame(frameHeaders, 4, 1, p.fields(":status", "103", "link", "x")).frame(frameHeaders, 4, 1, p.fields(":status", "200", "content-length", "2"))
		p.frame(frameData, 8, 1, "\x02hi\x00\x00").frame(frameHeaders, 5, 1, p.fields("t", "v"))
	})
	add(func(p *peer) {
		p.frame(frameHeaders, 4, 5, p.fields(":status", "200", fieldStatus, "101")).frame(frameData, 1, 5, "raw")
	})
	add(func(p *peer) { p.frame(frameReset, 0, 1, u32(7)).frame(frameGoAway, 0, 0, u32(1)+u32(0)) })
	add(func(p *peer) { p.frame(framePush, 4, 1, u32(2)) })
	f.Fuzz(func(t *testing.T, private bool, in []byte) {
		cfg := ClientConfig{Limits: fuzzLimits, Private: private}
		told, w := ask(in, len(in)+1, cfg, "GET", "POST", "CONNECT")
		if len(w.Out) > 20*len(in)+10_000 {
			t.Fatalf("%d bytes in gave %d bytes out", len(in), len(w.Out))
		}
		for _, piece := range []int{1, 13} {
			told2, w2 := ask(in, piece, cfg, "GET", "POST", "CONNECT")
			if told2 != told || !bytes.Equal(w2.Out, w.Out) {
				t.Fatalf("in pieces of %d:\n%q\nwhole:\n%q", piece, told2, told)
			}
		}
		cfg.Shared = &Shared{}
		for range 3 {
			if told2, w2 := ask(in, len(in)+1, cfg, "GET", "POST", "CONNECT"); told2 != told || !bytes.Equal(w2.Out, w.Out) {
				t.Fatalf("with streams used again:\n%q\nwithout:\n%q", told2, told)
			}
			cfg.Shared.Turn()
		}
	})
}
