package policy

import (
	"regexp"
	"strings"

	"fairlead.io/fairlead/internal/mesh"
)

// condition is a mesh.Match, ready to be asked.
type condition struct {
	m       *mesh.Match
	path    *regexp.Regexp
	values  []*regexp.Regexp // of the fields, where they are expressions
	unknown bool             // has something that cannot be told here
}

// conditions makes those of an operation. One without any has a part of a later version.
func conditions(o *mesh.Operation) []condition {
	if len(o.Matches) == 0 {
		return []condition{{m: &mesh.Match{}, unknown: true}}
	}
	all := make([]condition, len(o.Matches))
	for i := range o.Matches {
		all[i] = compile(&o.Matches[i])
	}
	return all
}

func compile(m *mesh.Match) condition {
	c := condition{m: m, unknown: m.SNI != "" || m.Path.Kind > mesh.PathRegex}
	if m.Path.Kind == mesh.PathRegex {
		c.path = c.whole(m.Path.Value)
	}
	for _, list := range [][]mesh.FieldMatch{m.Headers, m.Query} {
		for _, f := range list {
			var re *regexp.Regexp
			if f.Regex {
				re = c.whole(f.Value)
			}
			c.values = append(c.values, re)
		}
	}
	return c
}

// whole compiles an expression for a whole value.
func (c *condition) whole(text string) *regexp.Regexp {
	if _, err := regexp.Compile(text); err != nil { // it may be one in brackets only
		c.unknown = true
		return nil
	}
	re, err := regexp.Compile("^(?:" + text + ")$")
	c.unknown = c.unknown || err != nil
	return re
}

// holds tells whether a request meets the condition. What cannot be told is as otherwise says.
func (c *condition) holds(r Request, otherwise bool) bool {
	if c.unknown {
		return otherwise
	}
	path, query, _ := strings.Cut(r.Target(), "?")
	if c.m.Method != "" && c.m.Method != r.Verb() || !c.goes(path, otherwise) {
		return false
	}
	for i, f := range c.m.Headers {
		v, ok := r.Field(f.Name)
		if !ok || !is(v, f.Value, c.values[i]) {
			return false
		}
	}
	for i, f := range c.m.Query {
		v, ok := parameter(query, f.Name)
		if !ok || !is(v, f.Value, c.values[len(c.m.Headers)+i]) {
			return false
		}
	}
	return true
}

func is(v, want string, re *regexp.Regexp) bool {
	if re != nil {
		return re.MatchString(v)
	}
	return v == want
}

// goes compares the path. One that a server may read in another way than it is written ("..", "//", "%2e", "\") is not
// allowed by a condition on paths, and denied by one.
func (c *condition) goes(path string, otherwise bool) bool {
	if c.m.Path.Kind == mesh.PathAny {
		return true
	}
	if ambiguous(path) {
		return otherwise || c.m.Path.Kind == mesh.PathPrefix && c.m.Path.Value == "/"
	}
	switch c.m.Path.Kind {
	case mesh.PathExact:
		return path == c.m.Path.Value
	case mesh.PathPrefix:
		rest, ok := strings.CutPrefix(path, strings.TrimSuffix(c.m.Path.Value, "/"))
		return ok && (rest == "" || rest[0] == '/')
	}
	return c.path.MatchString(path)
}

// ambiguous tells that a path has more than one reading.
func ambiguous(path string) bool {
	if strings.Contains(path, "//") || strings.ContainsAny(path, "\\;") {
		return true
	}
	for i := 0; i < len(path); i++ {
		switch {
		case path[i] == '%' && i+2 < len(path) && plain(path[i+1], path[i+2]):
			return true
		case path[i] == '/' && (strings.HasPrefix(path[i:], "/./") || strings.HasPrefix(path[i:], "/../")),
			path[i] == '/' && (path[i:] == "/." || path[i:] == "/.."):
			return true
		}
	}
	return false
}

// plain tells that an escape stands for a character that could have been written as it is, or separates.
func plain(a, b byte) bool {
	c := unhex(a)<<4 | unhex(b)
	return c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || strings.IndexByte("-._~/\\;", c) >= 0
}

func unhex(c byte) byte {
	switch {
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	case c >= '0' && c <= '9':
		return c - '0'
	}
	return 0
}

// parameter is the first of that name in a query, as it is written.
func parameter(query, name string) (string, bool) {
	for query != "" {
		var part string
		part, query, _ = strings.Cut(query, "&")
		if n, v, _ := strings.Cut(part, "="); n == name {
			return v, true
		}
	}
	return "", false
}
