package h1

import (
	"strings"

	"fairlead.io/fairlead/internal/l7/exchange"
)

// request is a parsed request head with what it says about its connection.
type request struct {
	head     exchange.Head
	body     kind
	persist  bool
	expect   bool
	tunnel   bool
	framed   bool   // it may go on as HTTP/2
	settings string // HTTP2-Settings, if so
}

// parse reads a head that ends with its empty line. What was in r is gone, but for its room.
func (r *request) parse(block []byte, memo *Memo) error {
	first, rest := cutLine(block)
	*r = request{head: exchange.Head{Fields: r.head.Fields[:0]}}
	h := &r.head
	target, err := r.line(memo.text(first))
	if err != nil {
		return err
	}
	fields, f, err := parseFields(rest, memo, h.Fields)
	if err != nil {
		return err
	}
	h.Fields, h.Length = fields, f.length
	if f.lengths > 1 { // RFC 9112 section 6.3: equal ones of a response alone are forgiven
		return errLength
	}
	if f.hosts > 1 || f.hosts == 0 && h.Version >= exchange.HTTP11 || !exchange.ValidHost(f.host) {
		return errHost
	}
	h.Authority, h.Scheme = f.host, "http"
	if err := r.target(target); err != nil {
		return err
	}
	chunked, err := f.framing(h.Version)
	if err != nil {
		return err
	}
	switch {
	case chunked:
		r.body = chunks
	case h.Length > 0:
		r.body = counted
	}
	r.persist = !f.close && (h.Version >= exchange.HTTP11 || f.keep)
	if v, ok := exchange.Get(fields, "expect"); ok {
		r.expect = strings.EqualFold(v, "100-continue")
	}
	if f.upgrading && f.upgrade != "" && h.Version >= exchange.HTTP11 && r.body == none { // one with a body may be ignored
		switch {
		case !hasOption(f.upgrade, "h2c"):
			h.Protocol = f.upgrade
		case len(f.settings) == 1 && h.Method != "CONNECT": // RFC 7540 section 3.2
			r.framed, r.settings = true, f.settings[0]
		}
	}
	return r.tunnels()
}

// tunnels notes whether the request asks for a tunnel.
func (r *request) tunnels() error {
	connect := r.head.Method == "CONNECT"
	if connect && r.body != none {
		return errLength
	}
	if connect {
		r.head.Protocol = ""
	}
	r.tunnel = connect || r.head.Protocol != ""
	return nil
}

// line reads the request line and returns the target.
func (r *request) line(line string) (string, error) {
	method, rest, ok1 := strings.Cut(line, " ")
	target, version, ok2 := strings.Cut(rest, " ")
	if !ok1 || !ok2 || !exchange.ValidToken(method) {
		return "", errLine
	}
	v, err := parseVersion(version)
	if err != nil {
		return "", err
	}
	if !validTarget(target) {
		return "", errTarget
	}
	r.head.Method, r.head.Version = method, v
	return target, nil
}

// target sorts out the four forms (RFC 9112 section 3.2).
func (r *request) target(target string) error {
	h := &r.head
	switch {
	case h.Method == "CONNECT":
		if !exchange.ValidHost(target) || !strings.Contains(target, ":") {
			return errTarget
		}
		h.Authority, h.Scheme = target, ""
	case target[0] == '/':
		h.Path = target
	case target == "*":
		if h.Method != "OPTIONS" {
			return errTarget
		}
		h.Path = target
	default:
		return h1absolute(h, target)
	}
	return nil
}

// h1absolute takes an absolute-form target apart; its authority wins over Host (RFC 9112 section 3.2.2).
func h1absolute(h *exchange.Head, target string) error {
	scheme, rest, ok := strings.Cut(target, "://")
	scheme = strings.ToLower(scheme)
	if !ok || scheme != "http" && scheme != "https" {
		return errTarget
	}
	i := strings.IndexAny(rest, "/?#")
	if i < 0 {
		i = len(rest)
	}
	authority, path := rest[:i], rest[i:]
	if authority == "" || !exchange.ValidHost(authority) || strings.HasPrefix(path, "#") {
		return errTarget
	}
	switch {
	case path == "" && h.Method == "OPTIONS":
		path = "*"
	case path == "" || path[0] != '/':
		path = "/" + path
	}
	h.Scheme, h.Authority, h.Path = scheme, authority, path
	return nil
}

// validTarget refuses control characters, spaces, and percent signs in the path that escape nothing.
func validTarget(s string) bool {
	if s == "" {
		return false
	}
	query := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c <= ' ' || c == 0x7f:
			return false
		case c == '?':
			query = true
		case c == '%' && !query && (i+2 >= len(s) || hex(s[i+1]) < 0 || hex(s[i+2]) < 0):
			return false
		}
	}
	return true
}

func hex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
