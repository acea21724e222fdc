package hpack

import (
	"bytes"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unsafe"
	"weak"

	xnet "golang.org/x/net/http2/hpack"

	"fairlead.io/fairlead/internal/l7/exchange"
)

// str is a literal without Huffman code.
func str(s string) string { return string(append(appendInteger(nil, 0, 7, len(s)), s...)) }

// coded is one with it.
func coded(s string) string {
	return string(xnet.AppendHuffmanString(appendInteger(nil, 0x80, 7, int(xnet.HuffmanEncodeLength(s))), s))
}

func update(n int) string { return string(appendInteger(nil, 0x20, 5, n)) }

func TestRefused(t *testing.T) {
	ab := "\x40" + str("a") + str("b")
	for _, test := range []struct {
		name   string
		blocks []string // all but the last are taken
		want   error
	}{
		{"index 0", []string{"\x80"}, errIndex},
		{"index past an empty table", []string{"\xbe"}, errIndex},
		{"index past the table", []string{ab, "\xbe\xbf"}, errIndex},
		{"index past all integers of a ring", []string{"\xff\xff\xff\xff\x7f"}, errIndex},
		{"name index past the table", []string{ab, "\x7f\x00" + str("v")}, errIndex},
		{"name index past the table, without indexing", []string{"\x0f\x2f" + str("v")}, errIndex},
		{"index of an evicted field", []string{ab, update(0), "\xbe"}, errIndex},
		{"integer of five bytes", []string{"\xff\x80\x80\x80\x80\x00"}, errInteger},
		{"integer without end", []string{"\xff" + strings.Repeat("\xff", 1000)}, errInteger},
		{"length without end", []string{"\x00\x7f" + strings.Repeat("\x80", 20)}, errInteger},
		{"update without end", []string{"\x3f" + strings.Repeat("\x80", 20)}, errInteger},
		{"integer cut", []string{"\xff\x80"}, errCut},
		{"no name", []string{"\x40"}, errCut},
		{"no value", []string{"\x40" + str("a")}, errCut},
		{"no value behind an index", []string{"\x41"}, errCut},
		{"name cut", []string{"\x00\x05abc"}, errCut},
		{"value cut", []string{"\x01\x05abc"}, errCut},
		{"length above the block", []string{"\x01\x7f\xff\xff\xff\x7f"}, errCut},
		{"padding of zeros", []string{"\x01\x81\x00"}, errPadding},
		{"padding of eight bits", []string{"\x01\x82\x07\xff"}, errPadding},
		{"padding alone", []string{"\x01\x81\xff"}, errPadding},
		{"end of string in Huffman code", []string{"\x01\x84\xff\xff\xff\xff"}, errCode},
		{"end of string behind a symbol", []string{"\x01\x85\x07\xff\xff\xff\xff"}, errCode},
		{"code cut", []string{"\x01\x82\xff\xfe"}, errPadding},
		{"update behind a field", []string{"\x82" + update(100)}, errUpdateLate},
		{"update between fields", []string{ab + update(4096) + ab}, errUpdateLate},
		{"update above the setting", []string{update(4097)}, errUpdateLarge},
		{"second update above the setting", []string{update(0) + update(4097)}, errUpdateLarge},
		{"three updates", []string{update(1) + update(2) + update(3)}, errUpdateMany},
		{"after an error", []string{"\x82"}, nil},
	} {
		d := NewDecoder(plenty, plenty, nil)
		last := len(test.blocks) - 1
		for _, b := range test.blocks[:last] {
			if _, _, err := d.Decode(nil, []byte(b)); err != nil {
				t.Fatalf("%s: %v", test.name, err)
			}
		}
		had := fields("had", "it")
		got, large, err := d.Decode(had, []byte(test.blocks[last]))
		if err != test.want || large || err != nil && !slices.Equal(got, had) {
			t.Errorf("%s: %v, large %t, %v, want %v", test.name, got, large, err, test.want)
		}
		if _, _, again := d.Decode(nil, []byte("\x82")); again != test.want {
			t.Errorf("%s: a good block then gives %v, want %v", test.name, again, test.want)
		}
	}
}

func TestResizeOfDecoder(t *testing.T) {
	for _, test := range []struct {
		name     string
		settings []int
		block    string
		want     error
		max      int
	}{
		{"owed and missing", []int{100}, "\x82", errUpdateNone, 4096},
		{"owed and too large", []int{100}, update(101), errUpdateLarge, 4096},
		{"owed and given", []int{100}, update(100) + "\x82", nil, 100},
		{"owed and given smaller", []int{100}, update(7) + update(100) + "\x82", nil, 100},
		{"an empty block owes nothing yet", []int{100}, "", nil, 4096},
		{"smaller and larger again: missing", []int{100, 4096}, "\x82", errUpdateNone, 4096},
		{"smaller and larger again: only the last", []int{100, 4096}, update(4096), errUpdateLarge, 4096},
		{"smaller and larger again: both", []int{100, 4096}, update(100) + update(4096), nil, 4096},
		{"larger obliges to nothing", []int{9000}, "\x82", nil, 4096},
		{"larger is allowed", []int{9000}, update(9000), nil, 9000},
		{"larger has an end", []int{9000}, update(9001), errUpdateLarge, 4096},
	} {
		d := NewDecoder(plenty, plenty, nil)
		for _, n := range test.settings {
			d.Resize(n)
		}
		if _, _, err := d.Decode(nil, []byte(test.block)); err != test.want || d.table.max != test.max {
			t.Errorf("%s: %v, want %v; size %d, want %d", test.name, err, test.want, d.table.max, test.max)
		}
	}
}

func TestLarge(t *testing.T) {
	long := strings.Repeat("x", 5000)
	for _, test := range []struct {
		name        string
		list, count int
		block       string
		fields      []exchange.Field
		large       bool
		table       []exchange.Field // youngest first
	}{
		{"at the limit of bytes", 42 + 34, 9, "\x82\x40" + str("a") + str("b"), fields(":method", "GET", "a", "b"), false, fields("a", "b")},
		{"a byte beyond", 42 + 33, 9, "\x82\x40" + str("a") + str("b"), fields(":method", "GET"), true, fields("a", "b")},
		{"at the limit of fields", plenty, 2, "\x82\x83", fields(":method", "GET", ":method", "POST"), false, nil},
		{"a field beyond", plenty, 2, "\x82\x83\x40" + coded("a") + coded("b"), fields(":method", "GET", ":method", "POST"), true, fields("a", "b")},
		{"nothing small after it", 100, 9, "\x00" + str("a") + str(long) + "\x82", nil, true, nil},
		{"a long one empties the table", 200, 9, "\x40" + str("a") + str("b") + "\x40" + str("a") + str(long), fields("a", "b"), true, nil},
		{"a long one in Huffman code too", 200, 9, "\x40" + str("a") + str("b") + "\x40" + str("a") + coded(long), fields("a", "b"), true, nil},
		{"by an index", 100, 9, "\x40" + str("a") + str("b") + "\xbe\xbe", fields("a", "b", "a", "b"), true, fields("a", "b")},
	} {
		d := NewDecoder(test.list, test.count, nil)
		got, large, err := d.Decode(nil, []byte(test.block))
		if diff := diffFields(test.fields, got); diff != "" || large != test.large || err != nil {
			t.Errorf("%s: large %t, %v\n%s", test.name, large, err, diff)
		}
		var table []exchange.Field
		for i := range d.table.n {
			table = append(table, *d.table.at(i))
		}
		if diff := diffFields(test.table, table); diff != "" {
			t.Errorf("%s: table\n%s", test.name, diff)
		}
		if got, large, err := d.Decode(nil, []byte("\x82")); len(got) != 1 || large || err != nil {
			t.Errorf("%s: then %v, %t, %v", test.name, got, large, err)
		}
	}
}

// TestErrorsBeyondLimits: what is not kept is still read as the rules say.
func TestErrorsBeyondLimits(t *testing.T) {
	d := NewDecoder(10, 1, nil)
	if _, _, err := d.Decode(nil, []byte("\x82\x00"+str("a")+"\x81\x00")); err != errPadding {
		t.Errorf("%v, want %v", err, errPadding)
	}
}

func TestNeverIndexed(t *testing.T) {
	const credentials = "Basic Zm9vOmJhcg=="
	secret := "\x1f\x08" + coded(credentials)
	d := NewDecoder(plenty, plenty, nil)
	var values []string
	for range 3 {
		got, _, err := d.Decode(fields("had", "it"), []byte("\x82"+secret+"\x84"))
		if err != nil || len(got) != 4 || got[1].Sensitive || !got[2].Sensitive || got[3].Sensitive {
			t.Fatalf("%v, %v", got, err)
		}
		values = append(values, got[2].Value)
	}
	if unsafe.StringData(values[0]) != unsafe.StringData(values[2]) {
		t.Error("a connection does not remember its last secret")
	}
	other := NewDecoder(plenty, plenty, d.memo)
	if got, _, err := other.Decode(nil, []byte(secret)); err != nil || unsafe.StringData(got[0].Value) == unsafe.StringData(values[0]) {
		t.Errorf("another connection has the secret, %v", err)
	}
	if _, _, err := d.Decode(nil, []byte(secret+"\x80")); err != errIndex {
		t.Error(err)
	}
	if left := d.memo.scratch[:cap(d.memo.scratch)]; bytes.Contains(left, []byte(credentials)) || cap(left) == 0 {
		t.Errorf("the scratch has %q", left)
	}
}

// TestOwnStrings: nothing of a block or of the scratch is in what comes out.
func TestOwnStrings(t *testing.T) {
	d := NewDecoder(plenty, plenty, nil)
	type array [1 << 16]byte
	block := new(array)
	used := copy(block[:], "\x40"+coded("name-one")+coded("value one")+"\x00"+str("name-two")+str("value two")+"\x01"+str(strings.Repeat("h", 300)))
	got, _, err := d.Decode(nil, block[:used])
	if err != nil {
		t.Fatal(err)
	}
	old := weak.Make(block)
	clear(block[:])
	clear(d.memo.scratch[:cap(d.memo.scratch)])
	if diff := diffFields(fields("name-one", "value one", "name-two", "value two", ":authority", strings.Repeat("h", 300)), got); diff != "" {
		t.Error(diff)
	}
	block = nil
	runtime.GC()
	if old.Value() != nil {
		t.Error("the block lives on")
	}
	runtime.KeepAlive(got)
	runtime.KeepAlive(d)
}

func TestMemo(t *testing.T) {
	var m Memo
	one, two := NewDecoder(plenty, plenty, &m), NewDecoder(plenty, plenty, &m)
	block := []byte("\x00" + coded("name") + str("value") + "\x00" + str("value") + coded("name"))
	first, _, _ := one.Decode(nil, block)
	second, _, _ := two.Decode(nil, block)
	for i := range first {
		if first[i] != second[i] || unsafe.StringData(first[i].Value) != unsafe.StringData(second[i].Value) {
			t.Errorf("%v came again as another %v", first[i], second[i])
		}
	}
	// The same bytes with and without Huffman code are two literals.
	wire := xnet.AppendHuffmanString(nil, "00000000")
	both := "\x00\x01a" + str(string(wire)) + "\x00\x01a" + coded("00000000")
	for range 3 {
		got, _, err := one.Decode(nil, []byte(both+both))
		want := fields("a", string(wire), "a", "00000000", "a", string(wire), "a", "00000000")
		if diff := diffFields(want, got); diff != "" || err != nil {
			t.Fatal(err, diff)
		}
	}
	// What comes always stays while others come once.
	d := NewDecoder(plenty, plenty, nil)
	var hot *byte
	changes := 0
	for i := range 20_000 {
		got, _, err := d.Decode(nil, []byte("\x01"+str("hot")+"\x01"+str(strings.Repeat("z", i%50)+string(rune('a'+i%26))+string(rune(i)))))
		if err != nil {
			t.Fatal(err)
		}
		if p := unsafe.StringData(got[0].Value); p != hot {
			hot = p
			changes++
		}
	}
	if changes > 1 {
		t.Errorf("a string of every block was made %d times", changes)
	}
}
