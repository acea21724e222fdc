package l7

import (
	"strings"

	"fairlead.io/fairlead/internal/l7/balance"
	"fairlead.io/fairlead/internal/l7/exchange"
	"fairlead.io/fairlead/internal/mesh"
)

// hash sees to it that requests which have something in common go to the same endpoint, if the policy says so. The client's
// address the balancer knows itself.
func (r *request) hash() {
	p := r.way.policy
	if p == nil || p.Balance == nil || p.Balance.Algorithm != mesh.ConsistentHash {
		return
	}
	var value string
	var ok bool
	switch p.Balance.HashOn {
	case mesh.HashHeader:
		value, ok = exchange.Get(r.head.Fields, p.Balance.HashName)
	case mesh.HashCookie:
		value, ok = cookie(r.head.Fields, p.Balance.HashName)
	}
	if ok {
		r.tries.hash, r.tries.hashed = balance.HashOf(value), true
	}
}

// cookie is the value of the first cookie with that name (RFC 6265 section 5.4).
func cookie(fields []exchange.Field, name string) (string, bool) {
	for i := range fields {
		if !exchange.Same(fields[i].Name, "cookie") {
			continue
		}
		for rest, pair := fields[i].Value, ""; rest != ""; {
			pair, rest, _ = strings.Cut(rest, ";")
			if key, value, ok := strings.Cut(strings.TrimSpace(pair), "="); ok && key == name {
				return value, true
			}
		}
	}
	return "", false
}
