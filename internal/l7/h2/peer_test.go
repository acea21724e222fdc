package h2

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/net/http2/hpack"

	"fairlead.io/fairlead/internal/l7/exchange"
	"fairlead.io/fairlead/internal/l7/exchange/wiretest"
)

// peer writes frames as the other end of a connection would, well-formed or not.
type peer struct {
	bytes.Buffer
	block bytes.Buffer
	enc   *hpack.Encoder
}

func newPeer(client bool) *peer {
	p := &peer{}
	p.enc = hpack.NewEncoder(&p.block)
	if client {
		p.WriteString(Preface)
	}
	return p.frame(frameSettings, 0, 0, "")
}

func (p *peer) frame(kind, flags byte, id uint32, payload string) *peer {
	p.Write(appendFrameHeader(nil, len(payload), kind, flags, id))
	p.WriteString(payload)
	return p
}

func (p *peer) fields(kv ...string) string {
	p.block.Reset()
	for i := 0; i < len(kv); i += 2 {
		p.enc.WriteField(hpack.HeaderField{Name: kv[i], Value: kv[i+1]})
	}
	return p.block.String()
}

var getFields = []string{":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a"}
var postFields = []string{":method", "POST", ":scheme", "http", ":path", "/", ":authority", "a"}

// get opens a stream with a whole request, post one that goes on.
func (p *peer) get(id uint32, more ...string) *peer {
	return p.frame(frameHeaders, flagEndHeaders|flagEndStream, id, p.fields(append(getFields[:8:8], more...)...))
}

func (p *peer) post(id uint32, more ...string) *peer {
	return p.frame(frameHeaders, flagEndHeaders, id, p.fields(append(postFields[:8:8], more...)...))
}

func u32(v uint32) string { return string(binary.BigEndian.AppendUint32(nil, v)) }

func setting(id uint16, v uint32) string { return string(appendSetting(nil, id, v)) }

// said lists the frames in b, in short.
func said(t testing.TB, b []byte) []string {
	t.Helper()
	var out []string
	dec := hpack.NewDecoder(4096, nil)
	for len(b) > 0 {
		n := int(b[0])<<16 | int(b[1])<<8 | int(b[2])
		id := binary.BigEndian.Uint32(b[5:])
		payload := b[9 : 9+n]
		switch b[3] {
		case frameHeaders:
			f, err := dec.DecodeFull(payload)
			if err != nil {
				t.Fatal(err)
			}
			s := fmt.Sprintf("HEADERS %d", id)
			for _, hf := range f {
				s += " " + hf.Name + "=" + hf.Value
			}
			out = append(out, s)
		case frameReset:
			out = append(out, fmt.Sprintf("RST %d %d", id, binary.BigEndian.Uint32(payload)))
		case frameGoAway:
			out = append(out, fmt.Sprintf("GOAWAY %d %d", binary.BigEndian.Uint32(payload), binary.BigEndian.Uint32(payload[4:])))
		case frameData:
			out = append(out, fmt.Sprintf("DATA %d %d flags=%d", id, n, b[4]))
		case framePing:
			out = append(out, fmt.Sprintf("PING flags=%d %s", b[4], payload))
		case frameWindow:
			out = append(out, fmt.Sprintf("WINDOW %d %d", id, binary.BigEndian.Uint32(payload)))
		case frameSettings:
			out = append(out, fmt.Sprintf("SETTINGS flags=%d", b[4]))
		default:
			out = append(out, fmt.Sprintf("frame %d on %d", b[3], id))
		}
		b = b[9+n:]
	}
	return out
}

// serve runs a server over in. Each request is answered with 200 when it ends.
func serve(t testing.TB, in []byte, piece int, cfg ServerConfig) (told string, w *wiretest.Wire) {
	w = &wiretest.Wire{}
	var logs []*wiretest.Sink
	cfg.Request = func(x *exchange.Exchange, h *exchange.Head, end bool) {
		up := &wiretest.Sink{Answer: &exchange.Head{Status: 200, Length: -1}}
		logs = append(logs, up)
		up.WriteHead(x, h, end)
		x.Bind(wiretest.Credit{Sink: up})
		if end {
			up.Done(x)
		}
	}
	s := NewServer(w, cfg)
	w.Feed(s, in, piece)
	w.End(s)
	for _, l := range logs {
		told += l.Log.String() + "--\n"
	}
	return told, w
}

// ask runs a client that has sent three requests over what a server answers.
func ask(in []byte, piece int, cfg ClientConfig, methods ...string) (told string, w *wiretest.Wire) {
	w = &wiretest.Wire{}
	c := NewClient(w, cfg)
	var logs []*wiretest.Sink
	for _, m := range methods {
		down := &wiretest.Sink{}
		logs = append(logs, down)
		x := &exchange.Exchange{Down: wiretest.Payer{Sink: down}, Head: m == "HEAD", Tunnel: m == "CONNECT"}
		end := m != "POST" && m != "CONNECT"
		if err := c.Send(x, &exchange.Head{Method: m, Scheme: "http", Authority: "a:1", Path: "/", Length: -1}, end); err != nil {
			panic(err)
		}
		if end {
			x.RequestEnded()
		}
		x.Bind(c)
	}
	w.Feed(c, in, piece)
	w.End(c)
	for _, l := range logs {
		told += strings.TrimSpace(l.Log.String()) + "\n--\n"
	}
	return told, w
}
