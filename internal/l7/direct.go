package l7

import (
	"errors"
	"math/rand/v2"

	"fairlead.io/fairlead/internal/l7/routing"
	"fairlead.io/fairlead/internal/mesh"
)

var (
	errNoRoute   = errors.New("no rule is for this connection")
	errNoBackend = errors.New("the rule has no backend that can be used")
)

// direct chooses where a connection of opaque bytes goes that rules are for: of TLS by the name that the client asks for. It
// returns false if that is nowhere; then the connection has been refused.
func (f *flow) direct(t *routing.Table, tries *attempts) bool {
	if t.Kind == mesh.TLSRoute && !f.named() {
		return false
	}
	rule := t.MatchName(f.rec.SNI)
	if rule == nil {
		f.refuse(CauseNoRoute, errNoRoute)
		return false
	}
	f.rec.Rule = rule.Rule
	to := rule.Pick(rand.Uint32())
	if to == nil || to.Cluster == nil {
		f.refuse(CauseNoBackend, errNoBackend)
		return false
	}
	f.rec.Backend = to.Service
	tries.to, tries.cluster = to, to.Cluster
	return true
}

// named reads the name in a ClientHello, which the client begins with, as long as it likes to wait with that. What is no
// ClientHello has no name.
func (f *flow) named() bool {
	kind, err := f.sniff(f.e.lim.Idle)
	switch {
	case err != nil:
		f.refuse(CauseCancel, err)
		return false
	case kind == KindUnknown:
		f.refuse(CauseTimeout, nil)
		return false
	case kind == KindTLS:
		if h := f.hello(); h != nil {
			f.rec.SNI = h.SNI
		}
	}
	return true
}
