package hpack

import "fairlead.io/fairlead/internal/l7/exchange"

// dynamic is the first index of the dynamic table.
const dynamic = 62

// static is the table of RFC 7541 appendix A. Fields of one name are neighbours.
var static = [dynamic]exchange.Field{
	1: {Name: ":authority"}, 2: {Name: ":method", Value: "GET"}, 3: {Name: ":method", Value: "POST"},
	4: {Name: ":path", Value: "/"}, 5: {Name: ":path", Value: "/index.html"},
	6: {Name: ":scheme", Value: "http"}, 7: {Name: ":scheme", Value: "https"},
	8: {Name: ":status", Value: "200"}, 9: {Name: ":status", Value: "204"}, 10: {Name: ":status", Value: "206"},
	11: {Name: ":status", Value: "304"}, 12: {Name: ":status", Value: "400"}, 13: {Name: ":status", Value: "404"},
	14: {Name: ":status", Value: "500"}, 15: {Name: "accept-charset"},
	16: {Name: "accept-encoding", Value: "gzip, deflate"}, 17: {Name: "accept-language"}, 18: {Name: "accept-ranges"},
	19: {Name: "accept"}, 20: {Name: "access-control-allow-origin"}, 21: {Name: "age"}, 22: {Name: "allow"},
	23: {Name: "authorization"}, 24: {Name: "cache-control"}, 25: {Name: "content-disposition"},
	26: {Name: "content-encoding"}, 27: {Name: "content-language"}, 28: {Name: "content-length"},
	29: {Name: "content-location"}, 30: {Name: "content-range"}, 31: {Name: "content-type"}, 32: {Name: "cookie"},
	33: {Name: "date"}, 34: {Name: "etag"}, 35: {Name: "expect"}, 36: {Name: "expires"}, 37: {Name: "from"},
	38: {Name: "host"}, 39: {Name: "if-match"}, 40: {Name: "if-modified-since"}, 41: {Name: "if-none-match"},
	42: {Name: "if-range"}, 43: {Name: "if-unmodified-since"}, 44: {Name: "last-modified"}, 45: {Name: "link"},
	46: {Name: "location"}, 47: {Name: "max-forwards"}, 48: {Name: "proxy-authenticate"},
	49: {Name: "proxy-authorization"}, 50: {Name: "range"}, 51: {Name: "referer"}, 52: {Name: "refresh"},
	53: {Name: "retry-after"}, 54: {Name: "server"}, 55: {Name: "set-cookie"},
	56: {Name: "strict-transport-security"}, 57: {Name: "transfer-encoding"}, 58: {Name: "user-agent"},
	59: {Name: "vary"}, 60: {Name: "via"}, 61: {Name: "www-authenticate"},
}

// indices of the names that the encoder keeps out of the tables.
const (
	indexAuthorization      = 23
	indexCookie             = 32
	indexProxyAuthorization = 49
	indexSetCookie          = 55
)

// staticNames has, by hash of the name, the first index of a name; what does not find its place has the next one.
var staticNames = func() (t [256]uint8) {
	for i := 1; i < dynamic; i++ {
		if static[i].Name == static[i-1].Name {
			continue
		}
		slot := uint8(exchange.HashName(static[i].Name))
		for t[slot] != 0 {
			slot++
		}
		t[slot] = uint8(i)
	}
	return t
}()

// staticName finds the first static field of a name, whatever its case; 0 is none.
func staticName(hash uint32, name string) int {
	for slot := uint8(hash); ; slot++ {
		i := int(staticNames[slot])
		if i == 0 || equalFold(static[i].Name, name) {
			return i
		}
	}
}

// staticEnds has, for the first index of a name, the index behind its last.
var staticEnds = func() (t [dynamic]uint8) {
	for i := dynamic - 1; i > 0; i-- {
		t[i] = uint8(i + 1)
		if i+1 < dynamic && static[i+1].Name == static[i].Name {
			t[i] = t[i+1]
		}
	}
	return t
}()

// staticPair finds the static field with the name of field i, the first of it, and a value; 0 is none.
func staticPair(i int, value string) int {
	for end := int(staticEnds[i]); i < end; i++ {
		if static[i].Value == value {
			return i
		}
	}
	return 0
}

// lower makes capital letters of ASCII small.
var lower = func() (t [256]byte) {
	for i := range t {
		t[i] = byte(i)
		if i >= 'A' && i <= 'Z' {
			t[i] += 'a' - 'A'
		}
	}
	return t
}()

// equalFold compares a name in small letters with one of any case.
func equalFold(small, name string) bool {
	if len(small) != len(name) {
		return false
	}
	if small == name {
		return true
	}
	for i := 0; i < len(small); i++ {
		if small[i] != lower[name[i]] {
			return false
		}
	}
	return true
}
