package hpack

import (
	"bytes"
	"fmt"
	"testing"

	xnet "golang.org/x/net/http2/hpack"

	"fairlead.io/fairlead/internal/l7/exchange"
)

// head is a request as a proxy sees it.
var head = fields(
	":method", "GET", ":scheme", "https", ":path", "/api/v1/items?page=2", ":authority", "shop.example.com",
	"user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/128.0 Safari/537.36", "accept", "application/json",
	"accept-encoding", "gzip, deflate, br", "accept-language", "en-GB,en;q=0.9", "cache-control", "no-cache", "x-tenant", "blue",
)

// unique is the head with an identifier of its own.
func unique(i int) []exchange.Field {
	return append(head[:len(head):len(head)], fields("x-request-id", fmt.Sprintf("7f9c1d2e-%012d", i))...)
}

// literals writes all fields without indexing.
func literals(f []exchange.Field, lit func(string) string) []byte {
	var b []byte
	for i := range f {
		b = append(b, "\x00"+lit(f[i].Name)+lit(f[i].Value)...)
	}
	return b
}

// decoding are blocks of a connection in its steady state: the first ones are read once.
func decoding() []struct {
	name          string
	before, block []byte
} {
	var before []byte
	for _, f := range head {
		f := fieldOf(f)
		before = append(before, NewEncoder(false).public(nil, &f, true)...)
	}
	e := NewEncoder(false)
	var first []byte
	for range 100 {
		first = append(first, encode(e, head)...)
	}
	return []struct {
		name          string
		before, block []byte
	}{
		{"indexed", first, encode(e, head)},
		{"plain", nil, literals(head, str)},
		{"huffman", nil, literals(head, coded)},
		{"churn", before, before}, // indexed anew each time, as some servers do
	}
}

func TestNoAllocations(t *testing.T) {
	for _, test := range decoding() {
		d, dst := NewDecoder(plenty, plenty, nil), make([]exchange.Field, 0, 32)
		for _, b := range [][]byte{test.before, test.block, test.block} {
			if _, _, err := d.Decode(nil, b); err != nil {
				t.Fatal(test.name, err)
			}
		}
		if n := testing.AllocsPerRun(1000, func() {
			if got, _, err := d.Decode(dst, test.block); err != nil || len(got) != len(head) {
				t.Fatal(test.name, got, err)
			}
		}); n != 0 {
			t.Errorf("decode %s: %v allocations", test.name, n)
		}
	}
	many := make([][]exchange.Field, 2000)
	for i := range many {
		many[i] = unique(i)
	}
	for _, keep := range []bool{false, true} {
		e, dst, i := NewEncoder(keep), make([]byte, 0, 4096), 0
		run := func() {
			b := dst
			for _, f := range many[i%len(many)] {
				b = e.Append(b, f.Name, f.Value)
			}
			b = e.Append(b, "Authorization", "Bearer of nothing")
			e.Append(b, "X-Tenant", "Blue")
			i++
		}
		// Until the table has been full: what is seen for the second time there comes of hashes by chance only.
		for range 10 {
			run()
		}
		if n := testing.AllocsPerRun(1000, run); n != 0 {
			t.Errorf("encode, keep %t: %v allocations", keep, n)
		}
	}
	// A table that is full and changes all the time.
	e, dst, i := NewEncoder(false), make([]byte, 0, 4096), 0
	run := func() {
		for _, f := range many[i%len(many)] {
			f := fieldOf(f)
			e.public(dst, &f, true)
		}
		i++
	}
	for range 1000 {
		run()
	}
	if n := testing.AllocsPerRun(1000, run); n != 0 {
		t.Errorf("encode into a full table: %v allocations", n)
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, test := range decoding() {
		b.Run(test.name+"/ours", func(b *testing.B) {
			d, dst := NewDecoder(plenty, plenty, nil), make([]exchange.Field, 0, 32)
			if _, _, err := d.Decode(nil, test.before); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := d.Decode(dst, test.block); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(test.name+"/xnet", func(b *testing.B) {
			dst := make([]exchange.Field, 0, 32)
			d := xnet.NewDecoder(DefaultTable, func(f xnet.HeaderField) { dst = append(dst, exchange.Field{Name: f.Name, Value: f.Value}) })
			read := func(block []byte) {
				dst = dst[:0]
				if _, err := d.Write(block); err != nil || d.Close() != nil {
					b.Fatal(err)
				}
			}
			read(test.before)
			b.ReportAllocs()
			for b.Loop() {
				read(test.block)
			}
		})
	}
}

// BenchmarkDecodeUnique reads literals that the memo has never seen.
func BenchmarkDecodeUnique(b *testing.B) {
	for _, kind := range []struct {
		name string
		lit  func(string) string
	}{{"plain", str}, {"huffman", coded}} {
		blocks := make([][]byte, 5000)
		for i := range blocks {
			blocks[i] = literals(fields("x-request-id", fmt.Sprintf("7f9c1d2e-%012d", i)), kind.lit)
		}
		b.Run(kind.name+"/ours", func(b *testing.B) {
			d, dst := NewDecoder(plenty, plenty, nil), make([]exchange.Field, 0, 32)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, _, err := d.Decode(dst, blocks[i%len(blocks)]); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(kind.name+"/xnet", func(b *testing.B) {
			d := xnet.NewDecoder(DefaultTable, func(xnet.HeaderField) {})
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, err := d.Write(blocks[i%len(blocks)]); err != nil || d.Close() != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkEncode(b *testing.B) {
	many := make([][]exchange.Field, 5000)
	for i := range many {
		many[i] = unique(i)
	}
	for _, test := range []struct {
		name  string
		heads [][]exchange.Field
	}{{"same", [][]exchange.Field{head}}, {"unique", many}} {
		b.Run(test.name+"/ours", func(b *testing.B) {
			e, dst := NewEncoder(false), make([]byte, 0, 4096)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				out := dst
				for _, f := range test.heads[i%len(test.heads)] {
					out = e.Append(out, f.Name, f.Value)
				}
			}
		})
		b.Run(test.name+"/xnet", func(b *testing.B) {
			var out bytes.Buffer
			e := xnet.NewEncoder(&out)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				out.Reset()
				for _, f := range test.heads[i%len(test.heads)] {
					_ = e.WriteField(xnet.HeaderField{Name: f.Name, Value: f.Value})
				}
			}
		})
	}
}
