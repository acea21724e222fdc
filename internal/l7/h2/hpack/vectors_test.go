package hpack

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	xnet "golang.org/x/net/http2/hpack"

	"fairlead.io/fairlead/internal/l7/exchange"
)

// plenty is a limit that no test reaches by accident.
const plenty = 1 << 20

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// fields makes fields of names and values that alternate.
func fields(kv ...string) []exchange.Field {
	var f []exchange.Field
	for i := 0; i < len(kv); i += 2 {
		f = append(f, exchange.Field{Name: kv[i], Value: kv[i+1]})
	}
	return f
}

// fieldOf is a field whose case is not kept.
func fieldOf(f exchange.Field) (out field) {
	out.set(f.Name, f.Value, false)
	return out
}

type vector struct {
	block  string
	fields []exchange.Field
	size   int // of the table afterwards
}

var request = [][]exchange.Field{
	fields(":method", "GET", ":scheme", "http", ":path", "/", ":authority", "www.example.com"),
	fields(":method", "GET", ":scheme", "http", ":path", "/", ":authority", "www.example.com", "cache-control", "no-cache"),
	fields(":method", "GET", ":scheme", "https", ":path", "/index.html", ":authority", "www.example.com", "custom-key", "custom-value"),
}

const (
	date1, date2 = "Mon, 21 Oct 2013 20:13:21 GMT", "Mon, 21 Oct 2013 20:13:22 GMT"
	site         = "https://www.example.com"
	setCookie    = "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"
)

var response = [][]exchange.Field{
	fields(":status", "302", "cache-control", "private", "date", date1, "location", site),
	fields(":status", "307", "cache-control", "private", "date", date1, "location", site),
	fields(":status", "200", "cache-control", "private", "date", date2, "location", site, "content-encoding", "gzip", "set-cookie", setCookie),
}

// The examples of RFC 7541 appendix C.3 to C.6, each a connection.
var examples = []struct {
	name    string
	plain   bool
	table   int
	vectors []vector
}{
	{"C.3", true, 4096, []vector{
		{"8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d", request[0], 57},
		{"8286 84be 5808 6e6f 2d63 6163 6865", request[1], 110},
		{"8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65", request[2], 164},
	}},
	{"C.4", false, 4096, []vector{
		{"8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", request[0], 57},
		{"8286 84be 5886 a8eb 1064 9cbf", request[1], 110},
		{"8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf", request[2], 164},
	}},
	{"C.5", true, 256, []vector{
		{"4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d 546e " +
			"1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d", response[0], 222},
		{"4803 3330 37c1 c0bf", response[1], 222},
		{"88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 666f 6f3d " +
			"4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 " +
			"6572 7369 6f6e 3d31", response[2], 215},
	}},
	{"C.6", false, 256, []vector{
		{"4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b " +
			"97c8 e9ae 82ae 43d3", response[0], 222},
		{"4883 640e ffc1 c0bf", response[1], 222},
		{"88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 dfdf " +
			"cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07", response[2], 215},
	}},
}

func TestExamples(t *testing.T) {
	for _, example := range examples {
		d, e := NewDecoder(plenty, plenty, nil), NewEncoder(false)
		d.setting, d.table.max, e.table.max = example.table, example.table, example.table
		for i, v := range example.vectors {
			block := unhex(t, v.block)
			got, large, err := d.Decode(nil, block)
			if diff := diffFields(v.fields, got); diff != "" || large || err != nil || d.table.size != v.size {
				t.Errorf("%s.%d: large %t, error %v, table %d, want %d\n%s", example.name, i+1, large, err, d.table.size, v.size, diff)
			}
			// The examples index whatever they can: our policy is left out.
			var out []byte
			for _, f := range v.fields {
				f := fieldOf(f)
				out = e.public(out, &f, true)
			}
			if example.plain && !bytes.Equal(out, block) || e.table.size != v.size {
				t.Errorf("%s.%d: encoded as\n%x with a table of %d, want\n%x with %d", example.name, i+1, out, e.table.size, block, v.size)
			}
		}
	}
}

// The examples of appendix C.1 and C.2.
func TestSmallExamples(t *testing.T) {
	for _, test := range []struct {
		bytes  string
		prefix uint
		n      int
	}{{"0a", 5, 10}, {"1f9a0a", 5, 1337}, {"2a", 8, 42}} {
		b := unhex(t, test.bytes)
		if n, rest, err := readInteger(b, test.prefix); n != test.n || len(rest) > 0 || err != nil {
			t.Errorf("%s: read %d, %x, %v", test.bytes, n, rest, err)
		}
		if out := appendInteger(nil, 0, test.prefix, test.n); !bytes.Equal(out, b) {
			t.Errorf("%d: written %x, want %x", test.n, out, b)
		}
	}
	for _, test := range []struct {
		block  string
		fields []exchange.Field
		size   int
	}{
		{"400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572", fields("custom-key", "custom-header"), 55},
		{"040c 2f73 616d 706c 652f 7061 7468", fields(":path", "/sample/path"), 0},
		{"1008 7061 7373 776f 7264 0673 6563 7265 74", []exchange.Field{{Name: "password", Value: "secret", Sensitive: true}}, 0},
		{"82", fields(":method", "GET"), 0},
	} {
		d := NewDecoder(plenty, plenty, nil)
		got, large, err := d.Decode(nil, unhex(t, test.block))
		if diff := diffFields(test.fields, got); diff != "" || large || err != nil || d.table.size != test.size {
			t.Errorf("%s: large %t, error %v, table %d\n%s", test.block, large, err, d.table.size, diff)
		}
	}
}

// TestHuffman holds the code, which we derive from its lengths, to the one of x/net.
func TestHuffman(t *testing.T) {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	for from := range all {
		for _, s := range []string{string(all[from : from+1]), string(all[from:]) + string(all[:from])} {
			wire := xnet.AppendHuffmanString(nil, s)
			if got, err := appendDecoded(nil, wire); string(got) != s || err != nil {
				t.Fatalf("%x is %q, %v, want %q", wire, got, err, s)
			}
		}
	}
}

func TestStaticTable(t *testing.T) {
	d := xnet.NewDecoder(4096, nil)
	for i := 1; i < dynamic; i++ {
		want, err := d.DecodeFull([]byte{0x80 | byte(i)})
		if err != nil || want[0].Name != static[i].Name || want[0].Value != static[i].Value {
			t.Errorf("%d is %v, want %v, %v", i, static[i], want, err)
		}
		first := staticName(exchange.HashName(static[i].Name), static[i].Name)
		if up := strings.ToUpper(static[i].Name); staticName(exchange.HashName(up), up) != first || static[first].Name != static[i].Name ||
			static[first-1].Name == static[i].Name {
			t.Errorf("%s is found at %d", up, first)
		}
		if got := staticPair(first, static[i].Value); got != i {
			t.Errorf("%v is found at %d, want %d", static[i], got, i)
		}
	}
	for _, name := range []string{"", "x", "x-none", ":authorit", ":authority2", "cookie\x00"} {
		if i := staticName(exchange.HashName(name), name); i != 0 {
			t.Errorf("%q is found at %d", name, i)
		}
	}
}
