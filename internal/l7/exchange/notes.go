package exchange

import (
	"hash/maphash"
	"strings"
)

// Matter is what a field is about, as far as a hop has to know.
type Matter uint8

// The matters.
const (
	Plain Matter = iota // it goes on as it is
	AboutHost
	AboutLength
	AboutCoding // Transfer-Encoding
	AboutConnection
	AboutUpgrade
	AboutTE
	AboutHop // it concerns one connection only, as those above do
	AboutCookie
	AboutCredentials
	AboutUs // only proxies of the mesh may send it
)

// About tells what a field of that name, in any case, is about.
func About(name string) Matter {
	is := func(s string, m Matter) Matter {
		if strings.EqualFold(name, s) {
			return m
		}
		return Plain
	}
	switch len(name) {
	case len("te"):
		return is("te", AboutTE)
	case len("host"):
		return is("host", AboutHost)
	case len("cookie"):
		return is("cookie", AboutCookie)
	case len("upgrade"):
		return is("upgrade", AboutUpgrade)
	case len("connection"): // and of the others
		return max(is("connection", AboutConnection), is("keep-alive", AboutHop), is("set-cookie", AboutCredentials), us(name))
	case len("authorization"):
		return max(is("authorization", AboutCredentials), us(name))
	case len("content-length"):
		return max(is("content-length", AboutLength), us(name))
	case len("proxy-connection"):
		return max(is("proxy-connection", AboutHop), us(name))
	case len("transfer-encoding"):
		return max(is("transfer-encoding", AboutCoding), us(name))
	case len("proxy-authorization"):
		return max(is("proxy-authorization", AboutCredentials), us(name))
	}
	return us(name)
}

func us(name string) Matter {
	if len(name) >= len("fairlead-") && name[0]|0x20 == 'f' && Ours(name) {
		return AboutUs
	}
	return Plain
}

// HopByHop tells whether such fields concern one connection only (RFC 9110 section 7.6.1). TE is not among them.
func (m Matter) HopByHop() bool {
	switch m {
	case AboutCoding, AboutConnection, AboutUpgrade, AboutHop:
		return true
	}
	return false
}

// Secret tells whether the values of such fields are secrets.
func (m Matter) Secret() bool { return m == AboutCredentials || m == AboutCookie }

// Notes are what was worked out about a field that comes again and again, so that it need not be each time. The zero value is
// nothing.
type Notes struct {
	Hash  uint32 // of the name in any case, and of the value
	About Matter
	Known bool // the rest is set
	Valid bool // name and value are such that HTTP/2 takes them (RFC 9113 section 8.2.1), but for capital letters
	Lower bool // the name has no capital letters
}

var seed = maphash.MakeSeed()

// Note works them out.
func Note(name, value string) Notes {
	n := Notes{Hash: HashName(name) ^ HashValue(value), About: About(name), Known: true, Valid: ValidToken(name) && ValidField(value), Lower: true}
	for i := 0; i < len(name) && n.Lower; i++ {
		n.Lower = name[i] < 'A' || name[i] > 'Z'
	}
	return n
}

// ValidField is ValidValue, and no white space around it.
func ValidField(v string) bool {
	return ValidValue(v) && (v == "" || !space(v[0]) && !space(v[len(v)-1]))
}

func space(c byte) bool { return c == ' ' || c == '\t' }

// HashValue hashes a value.
func HashValue(s string) uint32 { return uint32(maphash.String(seed, s)) }

const (
	mix     = 0x9e3779b97f4a7c15
	caseBit = 0x2020202020202020 // the bit that tells a capital letter from a small one, in eight bytes
)

// HashName is the same for a name in any case. Others may share it: whoever finds by hash compares.
func HashName(s string) uint32 {
	h := uint64(len(s)) * mix
	for ; len(s) >= 8; s = s[8:] {
		w := uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
			uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
		h = (h ^ (w | caseBit)) * mix
		h ^= h >> 32
	}
	var w uint64
	for i := 0; i < len(s); i++ {
		w = w<<8 | uint64(s[i])
	}
	h = (h ^ (w | caseBit)) * mix
	return uint32(h ^ h>>32)
}
