package routing

import (
	"fmt"
	"regexp"
	"strings"

	"fairlead.io/fairlead/internal/l7/exchange"
	"fairlead.io/fairlead/internal/mesh"
)

// condition is one match, ready for use.
type condition struct {
	match   *mesh.Match
	rule    *Rule
	path    *regexp.Regexp
	headers []fieldCondition
	query   []fieldCondition
}

type fieldCondition struct {
	name, value string
	regex       *regexp.Regexp
}

// maxRegex bounds the text of a regular expression, as the Gateway API does.
const maxRegex = 4096

func newCondition(m *mesh.Match) (c condition, err error) {
	c.match = m
	if m.Path.Kind == mesh.PathRegex {
		if c.path, err = whole(m.Path.Value); err != nil {
			return c, fmt.Errorf("path: %w", err)
		}
	}
	if c.headers, err = newFieldConditions(m.Headers); err != nil {
		return c, fmt.Errorf("header %w", err)
	}
	if c.query, err = newFieldConditions(m.Query); err != nil {
		return c, fmt.Errorf("query parameter %w", err)
	}
	return c, nil
}

func newFieldConditions(from []mesh.FieldMatch) ([]fieldCondition, error) {
	var out []fieldCondition
	for _, m := range from {
		f := fieldCondition{name: m.Name, value: m.Value}
		if m.Regex {
			var err error
			if f.regex, err = whole(m.Value); err != nil {
				return nil, fmt.Errorf("%s: %w", m.Name, err)
			}
		}
		out = append(out, f)
	}
	return out, nil
}

// whole makes an expression that matches whole texts only.
func whole(text string) (*regexp.Regexp, error) {
	if len(text) > maxRegex {
		return nil, fmt.Errorf("expression of %d bytes, at most %d are taken", len(text), maxRegex)
	}
	if _, err := regexp.Compile(text); err != nil { // so that no parenthesis of it closes one of ours
		return nil, err
	}
	return regexp.Compile(`^(?:` + text + `)$`)
}

// holds asks for everything, the path too.
func (c *condition) holds(q *Request, path, query string) bool {
	if m := c.match; m.Method != "" && m.Method != q.Method || !c.matchesPath(path) {
		return false
	}
	for i := range c.headers {
		if !c.headers[i].inFields(q.Fields) {
			return false
		}
	}
	for i := range c.query {
		if !c.query[i].inQuery(query) {
			return false
		}
	}
	return true
}

func (c *condition) matchesPath(path string) bool {
	switch p := &c.match.Path; p.Kind {
	case mesh.PathExact:
		return path == p.Value
	case mesh.PathPrefix:
		return hasPrefix(path, trimmed(p.Value))
	case mesh.PathRegex:
		return c.path.MatchString(path)
	}
	return true
}

// trimmed is a prefix without the slash at its end, which says nothing.
func trimmed(prefix string) string { return strings.TrimSuffix(prefix, "/") }

// hasPrefix compares whole elements.
func hasPrefix(path, prefix string) bool {
	return strings.HasPrefix(path, prefix) && (prefix == "" || len(path) == len(prefix) || path[len(prefix)] == '/')
}

func (f *fieldCondition) test(value string) bool {
	if f.regex != nil {
		return f.regex.MatchString(value)
	}
	return f.value == value
}

func (f *fieldCondition) inFields(fields []exchange.Field) bool {
	value, at, more := firstField(fields, f.name)
	if !more {
		return at >= 0 && f.test(value)
	}
	var room [scratch]byte
	all := joinedFields(room[:0], fields[at:], f.name)
	if f.regex != nil {
		return f.regex.MatchString(string(all))
	}
	return f.value == string(all)
}

// scratch is how long a value may be that is put together without the heap.
const scratch = 512

// firstField finds the first field of a name, at -1 if there is none, and tells whether there are more of it.
func firstField(fields []exchange.Field, name string) (value string, at int, more bool) {
	at = -1
	for i := range fields {
		switch {
		case !exchange.Same(fields[i].Name, name):
		case at >= 0:
			return value, at, true
		default:
			value, at = fields[i].Value, i
		}
	}
	return value, at, false
}

// joinedFields is the value of all fields of a name (RFC 9110 section 5.2).
func joinedFields(to []byte, fields []exchange.Field, name string) []byte {
	n := 0
	for i := range fields {
		if !exchange.Same(fields[i].Name, name) {
			continue
		}
		if n++; n > 1 {
			to = append(to, ", "...)
		}
		to = append(to, fields[i].Value...)
	}
	return to
}

func (f *fieldCondition) inQuery(query string) bool {
	value, ok := parameter(query, f.name)
	if !ok || !isEscaped(value) {
		return ok && f.test(value)
	}
	var room [scratch]byte
	plain := unescaped(room[:0], value)
	if f.regex != nil {
		return f.regex.MatchString(string(plain))
	}
	return f.value == string(plain)
}

// parameter is the first value of a parameter, as it stands.
func parameter(query, name string) (value string, ok bool) {
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		key, value, _ := strings.Cut(pair, "=")
		if isNamed(key, name) {
			return value, true
		}
	}
	return "", false
}

func isNamed(key, name string) bool {
	if !isEscaped(key) {
		return key == name
	}
	if len(key) > 3*len(name) {
		return false // no byte takes more than three
	}
	var room [scratch]byte
	return string(unescaped(room[:0], key)) == name
}

func isEscaped(s string) bool {
	return strings.IndexByte(s, '%') >= 0 || strings.IndexByte(s, '+') >= 0
}

// unescaped is a part of a query in plain. What is escaped badly is taken as it stands, all of it.
func unescaped(to []byte, s string) []byte {
	start := len(to)
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case '+':
			to = append(to, ' ')
		case '%':
			if i+2 >= len(s) || digit(s[i+1]) < 0 || digit(s[i+2]) < 0 {
				return append(to[:start], s...)
			}
			to = append(to, byte(digit(s[i+1])<<4|digit(s[i+2])))
			i += 2
		default:
			to = append(to, c)
		}
	}
	return to
}

func digit(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return int(c|0x20-'a') + 10
	}
	return -1
}

// sameHost tells whether a name of a TLS handshake is meant by a host name of a route, which may begin with "*.": any labels in
// the place of the star, at least one. An empty one means all.
func sameHost(want, sni string) bool {
	if want == "" {
		return true
	}
	if end, ok := strings.CutPrefix(want, "*"); ok && strings.HasPrefix(end, ".") {
		return len(sni) > len(end) && strings.EqualFold(sni[len(sni)-len(end):], end)
	}
	return exchange.Same(sni, want)
}
