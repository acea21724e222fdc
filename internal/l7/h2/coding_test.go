package h2

import (
	"testing"

	"golang.org/x/net/http2/hpack"

	"fairlead.io/fairlead/internal/l7/exchange"
	"fairlead.io/fairlead/internal/l7/exchange/wiretest"
)

// TestNeverIndexedTravelsOn: a field that came as never indexed goes out so, whatever its name, in heads and in trailers.
func TestNeverIndexedTravelsOn(t *testing.T) {
	for _, private := range []bool{false, true} {
		in, up, out := newPeer(true), &wiretest.Wire{}, &wiretest.Wire{}
		in.block.Reset()
		in.fields(getFields...)
		for _, f := range []hpack.HeaderField{{Name: "x-token", Value: "s", Sensitive: true}, {Name: "x-plain", Value: "p"}} {
			in.enc.WriteField(f)
		}
		in.frame(frameHeaders, flagEndHeaders, 1, in.block.String())
		in.block.Reset()
		in.enc.WriteField(hpack.HeaderField{Name: "x-last", Value: "s", Sensitive: true})
		in.frame(frameHeaders, flagEndHeaders|flagEndStream, 1, in.block.String())
		c := NewClient(up, ClientConfig{Private: private})
		s := NewServer(out, ServerConfig{Request: func(x *exchange.Exchange, h *exchange.Head, end bool) {
			if err := c.Send(x, h, end); err != nil {
				t.Fatal(err)
			}
			x.Bind(c)
		}})
		if _, err := s.Feed(in.Bytes()); err != nil {
			t.Fatal(err)
		}
		got := map[string]bool{}
		dec := hpack.NewDecoder(4096, func(f hpack.HeaderField) { got[f.Name] = f.Sensitive })
		for b := up.Out[len(Preface):]; len(b) > 0; b = b[9+int(b[1])<<8+int(b[2]):] {
			if b[3] == frameHeaders {
				if _, err := dec.Write(b[9 : 9+int(b[1])<<8+int(b[2])]); err != nil {
					t.Fatal(err)
				}
			}
		}
		if !got["x-token"] || !got["x-last"] || got["x-plain"] || got[":path"] || len(got) < 7 {
			t.Errorf("private %t: never indexed %v", private, got)
		}
	}
}
