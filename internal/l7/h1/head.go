package h1

import (
	"bytes"
	"slices"
	"strings"

	"fairlead.io/fairlead/internal/l7/exchange"
)

// scanner finds the end of a head or of trailers in bytes that come in pieces, looking at each byte once.
type scanner struct {
	at, lines int
}

// scan returns the length of the block up to and with its empty line, or 0 if that has not come yet.
func (s *scanner) scan(b []byte, lim *exchange.Limits) (int, error) {
	for {
		i := bytes.IndexByte(b[s.at:], '\n')
		if i < 0 {
			return 0, s.bound(len(b), lim)
		}
		end := s.at + i + 1
		if err := s.bound(end, lim); err != nil {
			return 0, err
		}
		if i < 1 || b[end-2] != '\r' {
			return 0, errBare
		}
		s.at = end
		if i == 1 {
			*s = scanner{}
			return end, nil
		}
		s.lines++
	}
}

func (s *scanner) bound(n int, lim *exchange.Limits) error {
	switch {
	case s.lines == 0 && n > lim.LineBytes:
		return errLong
	case n > lim.HeadBytes, s.lines > lim.HeadFields+1:
		return errLarge
	}
	return nil
}

// cutLine splits the first line, without its CRLF, from b.
func cutLine(b []byte) (line, rest []byte) {
	i := bytes.IndexByte(b, '\n')
	return b[:i-1], b[i+1:]
}

// parseField splits one header line.
func parseField(line string) (exchange.Field, error) {
	if line == "" {
		return exchange.Field{}, errName
	}
	if line[0] == ' ' || line[0] == '\t' {
		return exchange.Field{}, errFold
	}
	name, value, ok := strings.Cut(line, ":")
	if !ok || !exchange.ValidToken(name) {
		return exchange.Field{}, errName
	}
	value = strings.Trim(value, " \t")
	if !exchange.ValidValue(value) {
		return exchange.Field{}, errValue
	}
	return exchange.Field{Name: name, Value: value}, nil
}

// keptFields is how many fields a connection has room for while it is idle.
const keptFields = 32

// forget lets go of a head's strings, and of room that is seldom needed.
func forget(h *exchange.Head) {
	fields := h.Fields
	clear(fields)
	if cap(fields) > keptFields {
		fields = nil
	}
	*h = exchange.Head{Fields: fields[:0]}
}

func (r *request) forget()  { forget(&r.head) }
func (r *response) forget() { forget(&r.head) }

// facts are what the hop-by-hop and framing fields of a head say.
type facts struct {
	host          string
	hosts         int
	length        int64
	lengths       int
	coding        string
	codings       int
	close, keep   bool
	te, upgrading bool
	upgrade       string
	options       []string // names in Connection, beyond the known options
	settings      []string // the values of HTTP2-Settings, if Connection names it
}

// parseFields reads the header lines of b, which ends with an empty one, behind those in fields. Fields that concern this
// connection only, Host, and fairlead-* go into facts or away; the others are returned in order.
func parseFields(b []byte, memo *Memo, fields []exchange.Field) ([]exchange.Field, facts, error) {
	f := facts{length: -1}
	for len(b) > len(crlf) {
		var text []byte
		text, b = cutLine(b)
		field, err := memo.header(text)
		if err != nil {
			return fields, f, err
		}
		keep, err := f.note(&field)
		if err != nil {
			return fields, f, err
		}
		if keep {
			fields = append(fields, field)
		}
	}
	if len(f.options) > 0 {
		fields = f.dropOptions(fields)
	}
	if f.te {
		fields = append(fields, exchange.Field{Name: "TE", Value: "trailers"})
	}
	return fields, f, nil
}

// note takes in one field and tells whether it travels on.
func (f *facts) note(field *exchange.Field) (bool, error) {
	value, about := field.Value, field.Notes.About
	if !field.Notes.Known {
		about = exchange.About(field.Name)
	}
	switch about {
	case exchange.AboutHost:
		f.host, f.hosts = value, f.hosts+1
	case exchange.AboutLength:
		n, ok := exchange.ParseLength(value)
		if !ok || f.length >= 0 && f.length != n {
			return false, errLength
		}
		f.length, f.lengths = n, f.lengths+1
		return f.lengths == 1, nil
	case exchange.AboutCoding:
		f.coding, f.codings = value, f.codings+1
	case exchange.AboutConnection:
		return false, f.connection(value)
	case exchange.AboutUpgrade:
		if f.upgrade != "" {
			f.upgrade += ", "
		}
		f.upgrade += value
	case exchange.AboutTE:
		f.te = f.te || hasOption(value, "trailers")
	case exchange.AboutHop, exchange.AboutUs:
	default:
		return true, nil
	}
	return false, nil
}

func (f *facts) connection(value string) error {
	for o := range strings.SplitSeq(value, ",") {
		o = strings.Trim(o, " \t")
		switch about := exchange.About(o); {
		case exchange.Same(o, "close"):
			f.close = true
		case exchange.Same(o, "keep-alive"):
			f.keep = true
		case about == exchange.AboutUpgrade:
			f.upgrading = true
		case o == "", about == exchange.AboutTE, about == exchange.AboutHost, about == exchange.AboutLength, about == exchange.AboutCoding:
			// TE has been dealt with; the others are not the client's to take away.
		default:
			if !slices.Contains(f.options, o) {
				f.options = append(f.options, o)
			}
			if len(f.options) > maxOptions {
				return errOptions
			}
		}
	}
	return nil
}

// maxOptions bounds the names in Connection: each is compared with each field.
const maxOptions = 32

func (f *facts) dropOptions(fields []exchange.Field) []exchange.Field {
	kept := fields[:0]
next:
	for _, field := range fields {
		for _, o := range f.options {
			if exchange.Same(field.Name, o) {
				if exchange.Same(o, "http2-settings") {
					f.settings = append(f.settings, field.Value)
				}
				continue next
			}
		}
		kept = append(kept, field)
	}
	return kept
}

func hasOption(list, option string) bool {
	for o := range strings.SplitSeq(list, ",") {
		o, _, _ = strings.Cut(o, ";")
		if exchange.Same(strings.Trim(o, " \t"), option) {
			return true
		}
	}
	return false
}

// framing checks the fields that say how long the body is, and tells whether it is chunked.
func (f *facts) framing(v exchange.Version) (chunked bool, err error) {
	switch {
	case f.codings == 0:
		return false, nil
	case f.length >= 0:
		return false, errBoth
	case v < exchange.HTTP11:
		return false, errOld
	case f.codings > 1 || !exchange.Same(f.coding, "chunked"):
		return false, errCoding
	}
	return true, nil
}

// parseVersion reads "HTTP/1.x".
func parseVersion(s string) (exchange.Version, error) {
	if len(s) != 8 || s[:5] != "HTTP/" || s[6] != '.' || s[5] < '0' || s[5] > '9' || s[7] < '0' || s[7] > '9' {
		return 0, errLine
	}
	switch {
	case s[5] != '1':
		return 0, errVersion
	case s[7] == '0':
		return exchange.HTTP10, nil
	}
	return exchange.HTTP11, nil
}
