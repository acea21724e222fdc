package routing

import (
	"fmt"
	"net/url"
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
	value, ok := fieldValue(fields, f.name)
	return ok && f.test(value)
}

// fieldValue is the value of all fields of a name, joined.
func fieldValue(fields []exchange.Field, name string) (value string, ok bool) {
	for i := range fields {
		switch {
		case !exchange.Same(fields[i].Name, name):
		case ok:
			value += "," + fields[i].Value
		default:
			value, ok = fields[i].Value, true
		}
	}
	return value, ok
}

func (f *fieldCondition) inQuery(query string) bool {
	value, ok := parameter(query, f.name)
	return ok && f.test(value)
}

// parameter is the first value of a parameter. What is escaped badly is taken as it stands.
func parameter(query, name string) (string, bool) {
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		key, value, _ := strings.Cut(pair, "=")
		if unescaped(key) == name {
			return unescaped(value), true
		}
	}
	return "", false
}

func unescaped(s string) string {
	if strings.IndexByte(s, '%') < 0 && strings.IndexByte(s, '+') < 0 {
		return s
	}
	u, err := url.QueryUnescape(s)
	if err != nil {
		return s
	}
	return u
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
