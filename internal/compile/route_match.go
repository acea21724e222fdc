package compile

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"fairlead.io/fairlead/internal/mesh"
)

// maxProgram bounds what a regular expression becomes, in instructions: each request may be held against it.
const maxProgram = 10_000

var (
	fieldName = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")
	pathChars = regexp.MustCompile(`^(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|%[0-9a-fA-F]{2})+$`)
	methods   = map[gatewayv1.HTTPMethod]bool{
		"GET": true, "HEAD": true, "POST": true, "PUT": true, "DELETE": true, "CONNECT": true, "OPTIONS": true, "TRACE": true, "PATCH": true,
	}
)

// checkRegex takes RE2, of bounded length and size.
func checkRegex(text string, most int) error {
	if len(text) > most {
		return fmt.Errorf("regular expression of %d bytes, at most %d are taken", len(text), most)
	}
	if _, err := syntax.Parse(text, syntax.Perl); err != nil { // by itself, so that none of its parentheses closes ours
		return fmt.Errorf("regular expression (RE2): %w", err)
	}
	re, err := syntax.Parse("^(?:"+text+")$", syntax.Perl) // as it is asked
	if err != nil {
		return fmt.Errorf("regular expression (RE2): %w", err)
	}
	if programSize(re) > maxProgram {
		return errors.New("regular expression: it repeats too much")
	}
	return nil
}

// programSize is about how many instructions a regular expression becomes; beyond the bound it need not be right.
func programSize(re *syntax.Regexp) int {
	n := 1
	if re.Op == syntax.OpLiteral {
		n = len(re.Rune)
	}
	for _, sub := range re.Sub {
		n = min(n+programSize(sub), maxProgram+1)
	}
	if re.Op == syntax.OpRepeat {
		n = min(n*max(re.Min, re.Max, 1), maxProgram+1)
	}
	return n
}

// checkPath holds a path to what can stand in a request.
func checkPath(p string) error {
	switch {
	case len(p) > maxPath:
		return fmt.Errorf("path of %d bytes, at most %d are taken", len(p), maxPath)
	case !strings.HasPrefix(p, "/"):
		return fmt.Errorf("path %.300q does not begin with /", p)
	case !pathChars.MatchString(p):
		return fmt.Errorf("path %.300q has characters that no path has", p)
	}
	for _, no := range []string{"//", "/./", "/../", "%2f", "%2F"} {
		if strings.Contains(p, no) {
			return fmt.Errorf("path %.300q has %q, which no request has that is matched", p, no)
		}
	}
	if strings.HasSuffix(p, "/.") || strings.HasSuffix(p, "/..") {
		return fmt.Errorf("path %.300q ends in a dot element", p)
	}
	return nil
}

// readPath reads a match of a path; without one it is the prefix /. A trailing / of a prefix does not count.
func readPath(p *gatewayv1.HTTPPathMatch) (mesh.PathMatch, error) {
	kind, value := gatewayv1.PathMatchPathPrefix, "/"
	if p != nil && p.Type != nil {
		kind = *p.Type
	}
	if p != nil && p.Value != nil {
		value = *p.Value
	}
	switch kind {
	case gatewayv1.PathMatchExact:
		return mesh.PathMatch{Kind: mesh.PathExact, Value: value}, checkPath(value)
	case gatewayv1.PathMatchPathPrefix:
		if err := checkPath(value); err != nil {
			return mesh.PathMatch{}, err
		}
		if value != "/" {
			value = strings.TrimSuffix(value, "/")
		}
		return mesh.PathMatch{Kind: mesh.PathPrefix, Value: value}, nil
	case gatewayv1.PathMatchRegularExpression:
		return mesh.PathMatch{Kind: mesh.PathRegex, Value: value}, checkRegex(value, maxPath)
	}
	return mesh.PathMatch{}, fmt.Errorf("type %.100q is not supported", kind)
}

func checkField(name string) error {
	if len(name) > maxNameBytes || !fieldName.MatchString(name) {
		return fmt.Errorf("name %.300q is not that of a header field", name)
	}
	return nil
}

// fieldMatch is a match of a header field or a parameter, of any kind of route.
type fieldMatch struct{ kind, name, value string }

// readFields reads matches of header fields or, if they are not lowered, of parameters. Of several with one name the
// first counts.
func readFields(what string, in []fieldMatch, lower bool, most int) ([]mesh.FieldMatch, error) {
	if err := atMost(what, len(in), maxItems); err != nil {
		return nil, err
	}
	var out []mesh.FieldMatch
	seen := map[string]bool{}
	for i, f := range in {
		at := func(err error) error { return fmt.Errorf("%s[%d]: %w", what, i, err) }
		if err := checkField(f.name); err != nil {
			return nil, at(err)
		}
		name := f.name
		if lower {
			name = strings.ToLower(name)
		}
		m := mesh.FieldMatch{Name: name, Value: f.value}
		switch f.kind {
		case "", string(gatewayv1.HeaderMatchExact):
			if len(f.value) > most {
				return nil, at(fmt.Errorf("value of %d bytes, at most %d are taken", len(f.value), most))
			}
		case string(gatewayv1.HeaderMatchRegularExpression):
			if err := checkRegex(f.value, most); err != nil {
				return nil, at(err)
			}
			m.Regex = true
		default:
			return nil, at(fmt.Errorf("type %.100q is not supported", f.kind))
		}
		if f.value == "" {
			return nil, at(errors.New("no value"))
		}
		if !seen[name] {
			seen[name] = true
			out = append(out, m)
		}
	}
	return out, nil
}
