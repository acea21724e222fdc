package hpack

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	xnet "golang.org/x/net/http2/hpack"

	"fairlead.io/fairlead/internal/l7/exchange"
)

// cutBlocks takes input as blocks, each behind two bytes of length.
func cutBlocks(in []byte) (blocks [][]byte) {
	for len(in) >= 2 {
		n := min(int(in[0])<<8|int(in[1]), len(in)-2)
		blocks = append(blocks, in[2:2+n])
		in = in[2+n:]
	}
	return blocks
}

func joinBlocks(blocks ...[]byte) (out []byte) {
	for _, b := range blocks {
		out = append(append(out, byte(len(b)>>8), byte(len(b))), b...)
	}
	return out
}

func addBlocks(f *testing.F) {
	for _, example := range examples {
		var blocks [][]byte
		for _, v := range example.vectors {
			blocks = append(blocks, unhex(f, v.block))
		}
		f.Add(joinBlocks(blocks...))
	}
	ab := "\x40" + str("a") + str("b")
	for _, b := range []string{
		update(0) + ab, update(100) + update(4096) + ab, ab + update(40), "\x82" + update(0) + ab, update(4097), "\xff\x80\x80\x80\x80\x00",
		"\x1f\x08" + coded("secret"), "\x7e" + coded(strings.Repeat("n", 300)), ab + "\xbe\xbf", "\x40" + coded("a\xff\x00\x16") + coded("\x0a\x0d"),
		"\x01\x82\xff\xfe", "\x01\x84\xff\xff\xff\xff", "\x01\x82\x07\xff", update(1) + update(2) + update(3) + ab,
	} {
		f.Add(joinBlocks([]byte(ab), []byte(b), []byte(ab), []byte("\xbe")))
	}
}

// allowed tells whether we and x/net may disagree on a block, given what each says of it. All that is allowed:
//
//   - Integers of more than four bytes behind the prefix are refused here, and there if they are of more than nine.
//   - Updates behind a field are refused here, and there unless the table is empty.
//   - More than two updates in a block are refused here, and there unless the table is empty.
//   - Two updates are taken here, and there only if the table is empty after the first. (That is why our encoder empties it.)
//   - An update that a smaller setting owes is demanded here, and not there; tests of bytes change no setting.
func allowed(block []byte, ours, theirs error) bool {
	switch {
	case ours == nil:
		if len(block) == 0 || !isUpdate(block[0]) {
			return false
		}
		_, rest, err := readInteger(block, 5)
		return err == nil && len(rest) > 0 && isUpdate(rest[0]) && strings.Contains(theirs.Error(), "beginning of a header block")
	case theirs == nil:
		return errors.Is(ours, errInteger) || errors.Is(ours, errUpdateLate) || errors.Is(ours, errUpdateMany)
	}
	return true
}

// same compares fields, and which of them are never to be indexed.
func same(ours []exchange.Field, theirs []xnet.HeaderField) bool {
	if len(ours) != len(theirs) {
		return false
	}
	for i, f := range theirs {
		if ours[i].Name != f.Name || ours[i].Value != f.Value || ours[i].Sensitive != f.Sensitive {
			return false
		}
	}
	return true
}

// FuzzDecode: the same bytes are the same fields here and in x/net, or are refused by both.
func FuzzDecode(f *testing.F) {
	addBlocks(f)
	f.Fuzz(func(t *testing.T, in []byte) {
		d, x := NewDecoder(plenty, plenty, nil), xnet.NewDecoder(DefaultTable, nil)
		for _, block := range cutBlocks(in) {
			want, theirs := x.DecodeFull(block)
			got, large, ours := d.Decode(nil, block)
			if (ours == nil) != (theirs == nil) && !allowed(block, ours, theirs) {
				t.Fatalf("%x: %v, x/net %v", block, ours, theirs)
			}
			if ours != nil || theirs != nil {
				return
			}
			if large || !same(got, want) {
				t.Fatalf("%x: %v, large %t, x/net %v", block, got, large, want)
			}
			checkTable(t, d)
		}
	})
}

func checkTable(t *testing.T, d *Decoder) {
	t.Helper()
	size := 0
	for i := range d.table.n {
		f := d.table.at(i)
		size += len(f.Name) + len(f.Value) + overhead
	}
	if size != d.table.size || size > d.table.max || d.table.max > d.setting && d.owed < 0 {
		t.Fatalf("a table of %d says %d, at most %d, setting %d", size, d.table.size, d.table.max, d.setting)
	}
}

// FuzzLimits: narrow limits change nothing but how many fields come out, and an error is the same at whatever limit.
func FuzzLimits(f *testing.F) {
	addBlocks(f)
	f.Fuzz(func(t *testing.T, in []byte) {
		wide, narrow := NewDecoder(plenty, plenty, nil), NewDecoder(200, 3, nil)
		for _, block := range cutBlocks(in) {
			all, _, err := wide.Decode(nil, block)
			some, large, err2 := narrow.Decode(nil, block)
			if err != err2 {
				t.Fatalf("%x: %v and %v", block, err, err2)
			}
			if err != nil {
				return
			}
			fit, size := 0, 0
			for _, f := range all {
				if size += len(f.Name) + len(f.Value) + overhead; size > 200 || fit == 3 {
					break
				}
				fit++
			}
			if !slices.Equal(some, all[:fit]) || large != (fit < len(all)) {
				t.Fatalf("%x: %v, large %t, of %q", block, some, large, all)
			}
			checkTable(t, narrow)
			if narrow.table.n != wide.table.n || narrow.table.size != wide.table.size {
				t.Fatalf("%x: tables differ", block)
			}
		}
	})
}

// FuzzCut: a part of a block is the fields that are whole in it, or cut short, and nothing else.
func FuzzCut(f *testing.F) {
	addBlocks(f)
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) > 300 {
			return
		}
		var memo Memo
		all, _, wholeErr := NewDecoder(plenty, plenty, &memo).Decode(nil, in)
		for i := range len(in) {
			d := NewDecoder(plenty, plenty, &memo)
			got, _, err := d.Decode(nil, in[:i:i])
			switch {
			case wholeErr == nil && err != nil && err != errCut:
				t.Fatalf("%x: the first %d bytes: %v", in, i, err)
			case wholeErr == nil && !slices.Equal(got, all[:len(got)]):
				t.Fatalf("%x: the first %d bytes: %v, all %q", in, i, got, all)
			case wholeErr != nil && err != nil && err != errCut && err != wholeErr:
				t.Fatalf("%x: the first %d bytes: %v, all %v", in, i, err, wholeErr)
			}
			checkTable(t, d)
		}
	})
}

// script is what a fuzzer's input does to a connection's two ends.
type script struct{ in []byte }

var words = []string{
	":method", "GET", ":path", "/", ":status", "200", "204", "accept-encoding", "gzip, deflate", "authorization", "cookie", "set-cookie", "a=b",
	"Content-Type", "content-type", "x-request-id", "X-Request-Id", "", "te", "trailers", strings.Repeat("long", 30), strings.Repeat("longer", 400), "\x00\xff",
}

func (s *script) byte() byte {
	if len(s.in) == 0 {
		return 0
	}
	c := s.in[0]
	s.in = s.in[1:]
	return c
}

func (s *script) word() string {
	c := int(s.byte())
	if c < 0xc0 {
		return words[c%len(words)]
	}
	n := min(c-0xc0, len(s.in))
	w := string(s.in[:n])
	s.in = s.in[n:]
	return w
}

// next is the settings that change before a block, and the block's fields.
func (s *script) next() (settings []int, list []xnet.HeaderField) {
	for c := s.byte(); c < 0x40 && c > 0 && len(settings) < 4; c = s.byte() {
		settings = append(settings, int(c-1)*int(s.byte()))
	}
	for n := s.byte() % 16; n > 0; n-- {
		list = append(list, xnet.HeaderField{Name: s.word(), Value: s.word()})
	}
	return settings, list
}

func addScripts(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 30 {
		b := make([]byte, 200)
		for i := range b {
			b[i] = byte(r.Uint32())
			if r.IntN(3) > 0 {
				b[i] %= byte(len(words))
			}
		}
		f.Add(b[0], b[1:])
	}
}

// FuzzEncode: what we write is read here and by x/net, whatever the options and however the table's size changes.
func FuzzEncode(f *testing.F) {
	addScripts(f)
	f.Fuzz(func(t *testing.T, options byte, in []byte) {
		keep := options&1 > 0
		e, d, x := NewEncoder(keep), NewDecoder(plenty, plenty, nil), xnet.NewDecoder(DefaultTable, nil)
		for s := (script{in}); len(s.in) > 0; {
			settings, list := s.next()
			for _, n := range settings {
				e.Resize(n)
				d.Resize(n)
				x.SetAllowedMaxDynamicTableSize(uint32(n))
			}
			var block []byte
			for i, f := range list {
				index := staticName(exchange.HashName(f.Name), f.Name)
				if list[i].Sensitive = len(f.Value) == 3 || secret(index, f.Value); len(f.Value) == 3 {
					block = e.AppendField(block, &exchange.Field{Name: f.Name, Value: f.Value, Sensitive: true})
				} else {
					block = e.Append(block, f.Name, f.Value)
				}
				if !keep {
					name := []byte(f.Name)
					makeLower(name)
					list[i].Name = string(name)
				}
			}
			got, large, err := d.Decode(nil, block)
			theirs, theirErr := x.DecodeFull(block)
			if err != nil || theirErr != nil || large || !same(got, list) || !slices.Equal(theirs, list) {
				t.Fatalf("%v is %x: %v, %v; x/net %v, %v", list, block, got, err, theirs, theirErr)
			}
			if len(block) > 0 && (e.table.n != d.table.n || e.table.size != d.table.size || e.table.max != d.table.max) {
				t.Fatalf("%d fields of %d, there %d of %d", e.table.n, e.table.size, d.table.n, d.table.size)
			}
		}
	})
}

// FuzzDecodeEncoded: what x/net writes is read here.
func FuzzDecodeEncoded(f *testing.F) {
	addScripts(f)
	f.Fuzz(func(t *testing.T, options byte, in []byte) {
		var out bytes.Buffer
		x, d := xnet.NewEncoder(&out), NewDecoder(plenty, plenty, nil)
		x.SetMaxDynamicTableSizeLimit(uint32(DefaultTable) << (options % 3))
		for s := (script{in}); len(s.in) > 0; {
			settings, list := s.next()
			for _, n := range settings {
				x.SetMaxDynamicTableSize(uint32(n))
				d.Resize(n)
			}
			out.Reset()
			for i := range list {
				list[i].Sensitive = len(list[i].Value) == 3
				if err := x.WriteField(list[i]); err != nil {
					t.Fatal(err)
				}
			}
			got, large, err := d.Decode(nil, out.Bytes())
			if err != nil || large || !same(got, list) {
				t.Fatalf("%v is %x: %v, %v", list, out.Bytes(), got, err)
			}
			checkTable(t, d)
		}
	})
}

// FuzzHuffman: any bytes stand for the same string here and in x/net, or for none; and there is one way to write a string.
func FuzzHuffman(f *testing.F) {
	for _, s := range []string{"", "\xff", "\x07", "\xff\xff\xff\xff", "\xff\xff\xff\xfc\x00", "\xff\xfe", "\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff"} {
		f.Add([]byte(s))
	}
	f.Add(xnet.AppendHuffmanString(nil, "a\x00\x01\n\r\x16\x7f\x80\xf9\xff zZ"))
	f.Fuzz(func(t *testing.T, in []byte) {
		got, ours := appendDecoded([]byte("had"), in)
		want, theirs := xnet.HuffmanDecodeToString(in)
		if (ours == nil) != (theirs == nil) || ours == nil && string(got) != "had"+want {
			t.Fatalf("%x: %q, %v; x/net %q, %v", in, got, ours, want, theirs)
		}
		if ours == nil && !bytes.Equal(xnet.AppendHuffmanString(nil, want), in) {
			t.Fatalf("%x: %q is written in another way", in, want)
		}
		s := string(in)
		wire := xnet.AppendHuffmanString(nil, s)
		if back, err := appendDecoded(nil, wire); string(back) != s || err != nil {
			t.Fatalf("%q is %x, and back %q, %v", s, wire, back, err)
		}
	})
}
