package h1

import (
	"fmt"
	"strings"
	"testing"
	"unsafe"

	"fairlead.io/fairlead/internal/l7/exchange"
)

// TestMemo: lines that come again are the same strings; secrets, long and malformed ones are not remembered, and what is read is
// what is read without a Memo.
func TestMemo(t *testing.T) {
	for _, tt := range []struct {
		line       string
		remembered bool
	}{
		{"Accept: text/html", true},
		{"Host: a.test", true},
		{"X-Own:", true},
		{"Authorization: Basic Zm9v", false},
		{"COOKIE: a=b", false},
		{"set-cookie: a=b", false},
		{"Proxy-Authorization: x", false},
		{"Authorizations: x", true},
		{"X: " + strings.Repeat("y", memoLong), false},
		{"No colon", false},
		{" folded: x", false},
	} {
		var m Memo
		want, wantErr := parseField(tt.line)
		var first, second exchange.Field
		var err error
		for _, l := range []*exchange.Field{&first, &second} {
			if *l, err = m.header([]byte(tt.line)); l.Name != want.Name || l.Value != want.Value || err != wantErr {
				t.Errorf("%q: %v, %v, want %v, %v", tt.line, *l, err, want, wantErr)
			}
		}
		if same := err == nil && unsafe.StringData(first.Name) == unsafe.StringData(second.Name); same != tt.remembered {
			t.Errorf("%q: remembered %t", tt.line, same)
		}
	}
}

// TestMemoIsBounded: whatever comes, a Memo has so many lines, and none of them is taken for another.
func TestMemoIsBounded(t *testing.T) {
	var m Memo
	for i := range 20 * memoSets * memoWays {
		name := fmt.Sprintf("X-%d", i)
		l, err := m.header([]byte(name + ": v"))
		if err != nil || l.Name != name || l.Value != "v" {
			t.Fatal(l, err)
		}
		if s := m.text([]byte(name + ": v")); s != name+": v" {
			t.Fatal(s)
		}
	}
}

// TestWordsAreASCII: a Kelvin sign is no k, and a long s is no s, whatever Unicode says about their cases.
func TestWordsAreASCII(t *testing.T) {
	for _, tt := range []struct {
		option            string
		close, keep, kept bool
	}{
		{"CLOSE", true, false, true},
		{"clo\u017fe", false, false, true},
		{"Keep-Alive", false, true, true},
		{"\u212aeep-alive", false, false, true},
		{"x-\u212aey", false, false, true},
		{"X-KEY", false, false, false},
	} {
		fields, f, err := parseFields([]byte("Connection: "+tt.option+"\r\nX-Key: 1\r\n\r\n"), nil, nil)
		if err != nil || f.close != tt.close || f.keep != tt.keep || len(fields) == 1 != tt.kept {
			t.Errorf("%q: close %v, keep %v, fields %v, %v", tt.option, f.close, f.keep, fields, err)
		}
	}
	if hasOption("trailer\u017f", "trailers") {
		t.Error("TE: a long s was taken for an s")
	}
}
