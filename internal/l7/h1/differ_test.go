package h1

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"fairlead.io/fairlead/internal/l7/exchange"
)

// manyOptions are more than are taken.
var manyOptions = func() (text string) {
	for i := range maxOptions + 1 {
		text += "x" + strings.Repeat("y", i) + ","
	}
	return text
}()

// stricter are the errors for which we refuse a head that net/http's parser takes, each with the reason and a head for which it is so.
var stricter = []struct {
	err          error
	reason, seed string
}{
	{errBare, "it takes a bare LF for the end of a line (RFC 9112 section 2.2 allows both)", "GET / HTTP/1.1\nHost: a\n\n"},
	{errFold, "it unfolds lines (section 5.2 has a server refuse or replace them)", "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n"},
	{errBoth, "it lets the coding win over the length (section 6.3 allows both)", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"},
	{errOld, "it ignores a coding in HTTP/1.0 (section 6.1 has it that the framing is faulty)", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"},
	{errHost, "its server looks at Host behind the parser", "GET / HTTP/1.1\r\n\r\n"},
	{errName, "it takes spaces within names and behind them (section 5.1 has a server refuse them)", "GET / HTTP/1.1\r\nHost: a\r\nX Y : 1\r\n\r\n"},
	{errVersion, "its server looks at the version behind the parser", "GET / HTTP/3.0\r\nHost: a\r\n\r\n"},
	{errTarget, "it takes any URI for a target: other schemes, users, * and CONNECT to paths", "GET mailto:a HTTP/1.1\r\nHost: a\r\n\r\n"},
	{errLength, "it takes lengths of 19 digits and equal ones, and bodies of CONNECT", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000000000000\r\n\r\n"},
	{errOptions, "it has no limit of them", "GET / HTTP/1.1\r\nHost: a\r\nConnection: " + manyOptions + "\r\n\r\n"},
	{errLong, "it has no limit of lines; its server has one of heads", "GET /" + strings.Repeat("a", 17<<10) + " HTTP/1.1\r\nHost: a\r\n\r\n"},
	{errLarge, "it has no limit; its server has one of heads", "GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X: y\r\n", 200) + "\r\n"},
}

// laxer are the heads that we take and net/http's parser refuses.
var laxer = []struct {
	is           func(in string) bool
	reason, seed string
}{
	{begun("\r\n"), "empty lines before a request are forgiven (section 2.2); its parser leaves that to its caller", "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"},
	{regexp.MustCompile(`(?i)^\S+ (https?://)?[^/?# ]*[%\[\]][^/?# ]*`).MatchString, "RFC 3986 has escapes and literals in a host that its URLs have not",
		"GET http://%41/ HTTP/1.1\r\nHost: a\r\n\r\n"},
	{regexp.MustCompile(`(?i)\r\ntrailer:`).MatchString, "it refuses an announcement of trailers that may not be; we drop the trailers themselves",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: Content-Length\r\n\r\n"},
}

func begun(s string) func(string) bool {
	return func(in string) bool { return strings.HasPrefix(in, s) }
}

// ours reads the first head of in, as a Server does.
func ours(in []byte) (*request, error) {
	for bytes.HasPrefix(in, crlf) {
		in = in[2:]
	}
	lim := exchange.Limits{}.WithDefaults()
	var s scanner
	end, err := s.scan(in, &lim)
	if err != nil {
		return nil, err
	}
	if end == 0 {
		return nil, errUnended
	}
	r := &request{}
	return r, r.parse(in[:end], nil)
}

var errUnended = errors.New("no end")

// differ tells how we and net/http differ about the head in in, if there is no reason for it.
func differ(in []byte) string {
	mine, err := ours(in)
	theirs, theirErr := http.ReadRequest(bufio.NewReader(bytes.NewReader(in)))
	switch {
	case err != nil && theirErr != nil:
		return ""
	case err != nil:
		for _, s := range stricter {
			if s.err == err {
				return ""
			}
		}
		return fmt.Sprintf("we refuse it (%v)", err)
	case theirErr != nil:
		for _, l := range laxer {
			if l.is(string(in)) {
				return ""
			}
		}
		return fmt.Sprintf("net/http refuses it (%v)", theirErr)
	}
	return compare(mine, theirs)
}

func compare(mine *request, theirs *http.Request) string {
	h := &mine.head
	length := max(h.Length, 0)
	if mine.body == chunks {
		length = -1
	}
	// Of HTTP/1.0 a host is not asked for; where there is none, nothing is compared.
	if h.Method != theirs.Method || length != theirs.ContentLength || (mine.body == chunks) != (len(theirs.TransferEncoding) == 1) ||
		h.Authority != theirs.Host {
		return fmt.Sprintf("we read %s %s of %d bytes, net/http %s %s of %d", h.Method, h.Authority, length, theirs.Method, theirs.Host, theirs.ContentLength)
	}
	if strings.HasPrefix(theirs.RequestURI, "/") && h.Method != "CONNECT" && h.Path != theirs.RequestURI {
		return fmt.Sprintf("we read the target %q, net/http %q", h.Path, theirs.RequestURI)
	}
	return ""
}

// TestDifferences: each reason is one, and there is none for what both read alike.
func TestDifferences(t *testing.T) {
	for _, s := range stricter {
		if _, err := ours([]byte(s.seed)); err != s.err {
			t.Errorf("%s: we say %v, want %v", s.reason, err, s.err)
		}
		if _, err := http.ReadRequest(bufio.NewReader(strings.NewReader(s.seed))); err != nil {
			t.Errorf("%s: net/http refuses %.80q, too: %v", s.reason, s.seed, err)
		}
	}
	for _, l := range laxer {
		if _, err := ours([]byte(l.seed)); err != nil || !l.is(l.seed) {
			t.Errorf("%s: %.80q: %v", l.reason, l.seed, err)
		}
		if _, err := http.ReadRequest(bufio.NewReader(strings.NewReader(l.seed))); err == nil {
			t.Errorf("%s: net/http takes %.80q, too", l.reason, l.seed)
		}
	}
	for _, in := range allSeeds() {
		if how := differ(in); how != "" {
			t.Errorf("%.200q: %s", in, how)
		}
	}
}

// allSeeds are the inputs that fuzzing begins with.
func allSeeds() (all [][]byte) {
	for _, s := range seeds {
		all = append(all, []byte(s), []byte(s+s))
	}
	for _, tt := range hostile {
		if len(tt.in) < 1000 {
			all = append(all, []byte(tt.in))
		}
	}
	for _, s := range stricter {
		if len(s.seed) < 1000 {
			all = append(all, []byte(s.seed))
		}
	}
	for _, l := range laxer {
		all = append(all, []byte(l.seed))
	}
	return append(all, []byte("GET /c HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nbytes"))
}
