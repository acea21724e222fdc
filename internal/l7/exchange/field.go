package exchange

import "strings"

// token marks the bytes of a field name or method (RFC 9110 section 5.6.2).
var token = func() (t [256]bool) {
	for c := '0'; c <= '9'; c++ {
		t[c] = true
	}
	for c := 'a'; c <= 'z'; c++ {
		t[c], t[c-'a'+'A'] = true, true
	}
	for _, c := range "!#$%&'*+-.^_`|~" {
		t[c] = true
	}
	return t
}()

// ValidToken tells whether s is a token: a field name or a method.
func ValidToken(s string) bool {
	for i := 0; i < len(s); i++ {
		if !token[s[i]] {
			return false
		}
	}
	return s != ""
}

// ValidValue tells whether s may be a field value: no control characters but the tab. White space around it is
// the caller's matter.
func ValidValue(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// ValidHost tells whether s is a host with an optional port (RFC 3986 section 3.2), without user information; it may
// be empty.
func ValidHost(s string) bool {
	host, port := s, ""
	if strings.HasPrefix(s, "[") {
		i := strings.IndexByte(s, ']')
		if i < 0 {
			return false
		}
		host, port = s[1:i], s[i+1:]
		if strings.IndexByte(host, ':') < 0 || !literal(host) {
			return false
		}
	} else {
		if i := strings.IndexByte(s, ':'); i >= 0 {
			host, port = s[:i], s[i:]
		}
		if !regName(host) {
			return false
		}
	}
	return port == "" || port[0] == ':' && digits(port[1:])
}

// regName tells whether s has only bytes that a registered name may have, and whole percent escapes.
func regName(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '%':
			if i+2 >= len(s) || !hexDigit(s[i+1]) || !hexDigit(s[i+2]) {
				return false
			}
		case strings.IndexByte("()=,;", c) >= 0:
		case !token[c] || strings.IndexByte("#^`|", c) >= 0:
			return false
		}
	}
	return true
}

func literal(s string) bool {
	for i := 0; i < len(s); i++ {
		if !token[s[i]] && s[i] != ':' {
			return false
		}
	}
	return true
}

func digits(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return len(s) <= 5
}

func hexDigit(c byte) bool {
	return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'f'
}

// Ours tells whether a field name is one that only proxies of the mesh may send each other.
func Ours(name string) bool {
	const p = "fairlead-"
	return len(name) >= len(p) && strings.EqualFold(name[:len(p)], p)
}

// Same tells whether s is that word of ASCII, in any case. strings.EqualFold alone takes a Kelvin sign for a k and a long s for an s,
// which no other parser does; both are longer than what they stand for.
func Same(s, word string) bool { return len(s) == len(word) && strings.EqualFold(s, word) }

// Get returns the value of the first field with that name, in any case.
func Get(fields []Field, name string) (string, bool) {
	for i := range fields {
		if Same(fields[i].Name, name) {
			return fields[i].Value, true
		}
	}
	return "", false
}

// ParseLength reads a Content-Length. Signs, spaces, lists and more than 18 digits are refused.
func ParseLength(s string) (int64, bool) {
	if s == "" || len(s) > 18 {
		return 0, false
	}
	var n int64
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int64(s[i]-'0')
	}
	return n, true
}

// Size is how many bytes the fields take, about.
func Size(fields []Field) (n int) {
	for i := range fields {
		n += len(fields[i].Name) + len(fields[i].Value)
	}
	return n
}
