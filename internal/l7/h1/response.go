package h1

import (
	"fairlead.io/fairlead/internal/l7/exchange"
)

// response is a parsed response head with what it says about its connection.
type response struct {
	head    exchange.Head
	body    kind
	persist bool
	upgrade bool
}

// parse reads a head that ends with its empty line. The body's framing depends on the request: head for HEAD, connect for
// CONNECT. What was in r is gone, but for its room.
func (r *response) parse(block []byte, memo *Memo, head, connect bool) error {
	first, rest := cutLine(block)
	*r = response{head: exchange.Head{Fields: r.head.Fields[:0]}}
	h := &r.head
	if err := r.line(memo.text(first)); err != nil {
		return err
	}
	fields, f, err := parseFields(rest, memo, h.Fields)
	if err != nil {
		return err
	}
	h.Fields, h.Length = fields, f.length
	if f.upgrading || h.Status == 426 {
		h.Protocol = f.upgrade
	}
	r.upgrade = f.upgrading && f.upgrade != ""
	r.persist = !f.close && (h.Version >= exchange.HTTP11 || f.keep)
	if h.Status < 200 || h.Status == 204 || connect && h.Status < 300 {
		h.Fields, h.Length = without(h.Fields, "content-length"), -1
		return nil
	}
	chunked, err := f.framing(h.Version)
	if err != nil {
		return err
	}
	switch {
	case head || h.Status == 304:
	case chunked:
		r.body = chunks
	case h.Length > 0:
		r.body = counted
	case h.Length < 0:
		r.body = untilClose
		r.persist = false
	}
	return nil
}

// line reads "HTTP/1.1 200 OK"; the reason is optional, and dropped.
func (r *response) line(line string) error {
	if len(line) < 12 || line[8] != ' ' || len(line) > 12 && line[12] != ' ' || !exchange.ValidValue(line) {
		return errStatus
	}
	v, err := parseVersion(line[:8])
	if err != nil {
		return errStatus
	}
	status := 0
	for _, c := range []byte(line[9:12]) {
		if c < '0' || c > '9' {
			return errStatus
		}
		status = status*10 + int(c-'0')
	}
	if status < 100 {
		return errStatus
	}
	r.head.Status, r.head.Version = status, v
	return nil
}
