package hpack

import "fairlead.io/fairlead/internal/l7/exchange"

// guessable is the length below which a cookie is short enough to be guessed.
const guessable = 20

// longestSecret is how long a secret may be, on the wire, that its connection remembers.
const longestSecret = 4 << 10

// lastSecret is the last secret of a connection: most send one and the same with each request. No other connection has it.
type lastSecret struct {
	wire    []byte
	huffman bool
	text    string
}

// find sets the text of l if it is remembered.
func (s *lastSecret) find(l *literal) {
	if len(s.wire) > 0 && l.huffman == s.huffman && string(l.wire) == string(s.wire) {
		l.text, l.known = s.text, true
	}
}

func (s *lastSecret) keep(l *literal, text string) {
	if len(l.wire) <= longestSecret {
		s.wire, s.huffman, s.text = append(s.wire[:0], l.wire...), l.huffman, text
	}
}

// credentials tells whether a name is one whose values are secrets. They are not remembered across connections: who shares a Memo
// could tell by the time that it takes whether somebody else has sent the same.
func credentials(name *literal) bool {
	switch name.len() { // before a string is made of it
	case len("cookie"), len("set-cookie"), len("authorization"), len("proxy-authorization"):
	default:
		return false
	}
	if name.known {
		return exchange.About(name.text).Secret()
	}
	return exchange.About(string(name.plain)).Secret()
}

// secret tells whether a field must not enter a table, here or further on, given its name's index in the static table.
// Whoever can make a client send fields of his choice could test guesses against what a table holds, by the
// length of what goes out (RFC 7541 section 7.1). A hit needs the whole value, so it is short secrets that can
// be found: credentials of any length, for passwords hide in them; cookies below a length. A cookie that is set
// is a secret at its freshest, and no response has it again.
func secret(index int, value string) bool {
	switch index {
	case indexAuthorization, indexProxyAuthorization, indexSetCookie:
		return true
	case indexCookie:
		return len(value) < guessable
	}
	return false
}
