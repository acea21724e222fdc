package hpack

import "fairlead.io/fairlead/internal/l7/exchange"

// guessable is the length below which a cookie is short enough to be guessed.
const guessable = 20

// credentials tells whether a name is one whose values are secrets. They are not remembered across connections: who shares a Memo
// could tell by the time that it takes whether somebody else has sent the same.
func credentials(name *literal) bool {
	switch name.len() {
	case len("cookie"), len("set-cookie"), len("authorization"), len("proxy-authorization"):
	default:
		return false
	}
	text := name.text
	if !name.known {
		text = string(name.plain)
	}
	switch staticName(exchange.HashName(text), text) {
	case indexAuthorization, indexCookie, indexProxyAuthorization, indexSetCookie:
		return true
	}
	return false
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
