package hpack

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"unsafe"
	"weak"

	"fairlead.io/fairlead/internal/l7/exchange"
)

func encode(e *Encoder, f []exchange.Field) []byte {
	var b []byte
	for i := range f {
		b = e.Append(b, f[i].Name, f[i].Value)
	}
	return b
}

// TestSecondTime: a field is in the table from the second time on, and an index from the third.
func TestSecondTime(t *testing.T) {
	e := NewEncoder(false)
	for i, want := range []string{
		"\x00" + str("x-a") + str("1"), "\x40" + str("x-a") + str("1"), "\xbe", "\xbe",
	} {
		if got := e.Append(nil, "x-a", "1"); string(got) != want {
			t.Errorf("%d: %q, want %q", i, got, want)
		}
	}
	if got := e.Append(nil, "x-a", "2"); string(got) != "\x0f\x2f"+str("2") {
		t.Errorf("by the name of the table: %q", got)
	}
	long := strings.Repeat("x", 2100)
	for range 3 {
		if got := e.Append(nil, "via", long); got[0] != 0x0f {
			t.Errorf("a field of more than half of the table begins with %x", got[0])
		}
	}
}

// TestAllThatComesAgain: every field of every head gets into the table, and those that come once do not.
func TestAllThatComesAgain(t *testing.T) {
	e := NewEncoder(false)
	var list []exchange.Field
	for i := range 40 {
		list = append(list, fields(fmt.Sprint("x-", i), "always")...)
	}
	for i := range 300 {
		encode(e, append(list[:40:40], fields("date", fmt.Sprint(i), "x-request-id", fmt.Sprint(i), ":path", fmt.Sprint("/", i))...))
	}
	if b := encode(e, list); e.table.n != 40 || len(b) != 40 {
		t.Errorf("%d of 40 in the table, and %d bytes", e.table.n, len(b))
	}
}

func TestSecrets(t *testing.T) {
	long := strings.Repeat("s", guessable)
	for _, test := range []struct {
		name, value string
		secret      bool
	}{
		{"authorization", "Basic Zm9vOmJhcg==", true},
		{"Authorization", long, true},
		{"proxy-authorization", long, true},
		{"Proxy-Authorization", "", true},
		{"set-cookie", long, true},
		{"SET-COOKIE", "a=b", true},
		{"cookie", long[1:], true},
		{"Cookie", long[1:], true},
		{"cookie", long, false},
		{"cookies", "a=b", false},
		{"proxy-authenticate", "Basic", false},
		{"www-authenticate", "Basic", false},
		{"x-authorization", "a", false},
	} {
		for _, keep := range []bool{false, true} {
			e := NewEncoder(keep)
			d := NewDecoder(plenty, plenty, nil)
			for range 4 {
				got, _, err := d.Decode(nil, e.Append(nil, test.name, test.value))
				if err != nil || got[0].Sensitive != test.secret || test.secret && e.table.n > 0 {
					t.Errorf("%s: %v, %v", test.name, got, err)
				}
			}
			if test.secret == (e.table.n == 1) {
				t.Errorf("%s: %d in the table", test.name, e.table.n)
			}
		}
	}
	e, d := NewEncoder(false), NewDecoder(plenty, plenty, nil)
	for range 3 {
		b := e.AppendField(e.Append(nil, ":method", "GET"), &exchange.Field{Name: ":path", Value: "/", Sensitive: true})
		if got, _, err := d.Decode(nil, b); err != nil || got[0].Sensitive || !got[1].Sensitive || e.table.n > 0 {
			t.Errorf("a caller's secret: %v, %v", got, err)
		}
	}
}

func TestCase(t *testing.T) {
	for _, test := range []struct {
		keep         bool
		name, value  string
		first, third string
	}{
		{false, "Content-Type", "text/html", "\x0f\x10" + str("text/html"), "\xbe"},
		{true, "Content-Type", "text/html", "\x00" + str("Content-Type") + str("text/html"), "\xbe"},
		{true, "content-type", "text/html", "\x0f\x10" + str("text/html"), "\xbe"},
		{false, "Accept-Encoding", "gzip, deflate", "\x90", "\x90"},
		{true, "Accept-Encoding", "gzip, deflate", "\x00" + str("Accept-Encoding") + str("gzip, deflate"), "\xbe"},
		{true, "accept-encoding", "gzip, deflate", "\x90", "\x90"},
		{false, "X-Very-Own", "V", "\x00" + str("x-very-own") + str("V"), "\xbe"},
		{true, "X-Very-Own", "V", "\x00" + str("X-Very-Own") + str("V"), "\xbe"},
	} {
		e := NewEncoder(test.keep)
		first := e.Append(nil, test.name, test.value)
		e.Append(nil, test.name, test.value)
		if third := e.Append(nil, test.name, test.value); string(first) != test.first || string(third) != test.third {
			t.Errorf("%s, keep %t: %q and %q, want %q and %q", test.name, test.keep, first, third, test.first, test.third)
		}
	}
	// One name in two cases: two fields if the case is kept, else one.
	for keep, want := range map[bool]int{false: 1, true: 2} {
		e := NewEncoder(keep)
		for range 3 {
			e.Append(e.Append(nil, "X-One", "1"), "x-one", "1")
		}
		if e.table.n != want {
			t.Errorf("keep %t: %d in the table, want %d", keep, e.table.n, want)
		}
	}
	e, d := NewEncoder(false), NewDecoder(plenty, plenty, nil)
	got, _, err := d.Decode(nil, e.Append(nil, "X-Very-Own-Long-Name", "VALUE"))
	if diff := diffFields(fields("x-very-own-long-name", "VALUE"), got); diff != "" || err != nil {
		t.Error(err, diff)
	}
}

func TestResizeOfEncoder(t *testing.T) {
	for _, test := range []struct {
		name   string
		resize []int
		want   string
		left   int
	}{
		{"the same", []int{4096}, "", 1},
		{"larger than we want", []int{10_000}, "", 1},
		{"smaller", []int{100}, update(100), 1},
		{"too small for what is there", []int{30}, update(30), 0},
		{"smaller twice", []int{100, 60}, update(60), 1},
		{"nothing", []int{0}, update(0), 0},
		{"smaller and larger", []int{100, 4096}, update(0) + update(4096), 0},
		{"smaller, larger, smaller", []int{100, 4096, 50}, update(0) + update(50), 0},
	} {
		e, d := NewEncoder(false), NewDecoder(plenty, plenty, nil)
		d.Resize(10_000)
		for range 2 {
			if _, _, err := d.Decode(nil, e.Append(nil, "x-a", "1")); err != nil {
				t.Fatalf("%s: %v", test.name, err)
			}
		}
		for _, n := range test.resize {
			e.Resize(n)
			d.Resize(n)
		}
		b := e.Append(nil, ":method", "GET")
		if string(b) != test.want+"\x82" || e.table.n != test.left {
			t.Errorf("%s: %x, %d left, want %x, %d", test.name, b, e.table.n, test.want, test.left)
		}
		if got, _, err := d.Decode(nil, b); len(got) != 1 || err != nil || d.table.size != e.table.size || d.table.max != e.table.max {
			t.Errorf("%s: %v, %v; table of %d, %d there", test.name, got, err, e.table.size, d.table.size)
		}
		if b := e.Append(nil, ":method", "GET"); string(b) != "\x82" {
			t.Errorf("%s: again %x", test.name, b)
		}
	}
}

// TestTables: encoder and decoder have the same table through thousands of fields, and numbers that wrap around.
func TestTables(t *testing.T) {
	e, d := NewEncoder(false), NewDecoder(plenty, plenty, nil)
	e.table.next = ^uint32(0) - 3000
	for i := range 10_000 {
		f := fields("x-"+fmt.Sprint(i/2%97), strings.Repeat("v", i/2%331), "X-Always", "there", "x-other", fmt.Sprint(i/3))
		got, _, err := d.Decode(nil, encode(e, f))
		f[1].Name = "x-always"
		if diff := diffFields(f, got); diff != "" || err != nil {
			t.Fatal(i, err, diff)
		}
		if e.table.n != d.table.n || e.table.size != d.table.size {
			t.Fatalf("%d: %d fields of %d, there %d of %d", i, e.table.n, e.table.size, d.table.n, d.table.size)
		}
		for age := range e.table.n {
			entry, there := e.table.entry(e.table.next-1-uint32(age)), d.table.at(age)
			if string(e.table.nameOf(entry)) != there.Name || string(e.table.valueOf(entry)) != there.Value {
				t.Fatalf("%d: entry %d differs", i, age)
			}
		}
	}
	if e.table.n < 10 || cap(e.table.data) > 2*DefaultTable || len(e.table.ring) > 2*DefaultTable/overhead {
		t.Errorf("%d fields, %d bytes of them in %d, ring of %d", e.table.n, len(e.table.data), cap(e.table.data), len(e.table.ring))
	}
}

// TestEncoderKeepsNoString: a head is garbage although fields of it are in the table.
func TestEncoderKeepsNoString(t *testing.T) {
	type array [1 << 16]byte
	head := new(array)
	copy(head[:], "x-name: value")
	all := unsafe.String(&head[0], len(head))
	e := NewEncoder(true)
	for range 3 {
		e.Append(nil, all[:6], all[8:13])
	}
	old := weak.Make(head)
	head, all = nil, ""
	runtime.GC()
	if old.Value() != nil {
		t.Error("the head lives on")
	}
	if b := e.Append(nil, "x-name", "value"); !bytes.Equal(b, []byte{0xbe}) {
		t.Errorf("its field is %x", b)
	}
}

// TestIdle: a connection without traffic has no table.
func TestIdle(t *testing.T) {
	if n := unsafe.Sizeof(Encoder{}) + unsafe.Sizeof(Decoder{}); n > 400 {
		t.Errorf("an encoder and a decoder have %d bytes", n)
	}
	if n := testing.AllocsPerRun(100, func() {
		keep = NewDecoder(plenty, plenty, nil)
		keepEncoder = NewEncoder(false)
	}); n > 2 {
		t.Errorf("%v allocations for them", n)
	}
	e, d := NewEncoder(false), NewDecoder(plenty, plenty, nil)
	if _, _, err := d.Decode(nil, encode(e, fields(":method", "GET", ":path", "/", ":status", "200"))); err != nil || e.table.chains != nil || d.memo != nil {
		t.Errorf("fields of the static table made tables, %v", err)
	}
}

var (
	keep        *Decoder
	keepEncoder *Encoder
)

// TestNotes: a field with notes is written as one without, in any state of the table.
func TestNotes(t *testing.T) {
	for _, keep := range []bool{false, true} {
		with, without := NewEncoder(keep), NewEncoder(keep)
		for i := range 400 {
			if i%97 == 0 {
				with.Resize(200 + i)
				without.Resize(200 + i)
			}
			f := exchange.Field{Name: []string{"x-a", "X-A", "cookie", "authorization", "x-rather-long-name"}[i%5], Value: []string{"1", "two", "a value of some length"}[i/7%3],
				Sensitive: i%29 == 0}
			var want []byte
			if f.Sensitive {
				want = without.append(nil, f.Name, f.Value, true)
			} else {
				want = without.Append(nil, f.Name, f.Value)
			}
			f.Notes = exchange.Note(f.Name, f.Value)
			if got := with.AppendField(nil, &f); !bytes.Equal(got, want) {
				t.Fatalf("%d: %v is %x, want %x", i, f, got, want)
			}
		}
	}
}
