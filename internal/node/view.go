package node

import (
	"strings"

	"fairlead.io/fairlead/internal/l7/exchange"
	"fairlead.io/fairlead/internal/policy"
)

// view is a request's head as policies look at it: the head itself, so that to ask takes no memory.
type view exchange.Head

var _ policy.Request = (*view)(nil)

// Verb implements policy.Request.
func (v *view) Verb() string { return v.Method }

// Target implements policy.Request.
func (v *view) Target() string { return v.Path }

// Field implements policy.Request. A field that stands there several times takes memory.
func (v *view) Field(name string) (string, bool) {
	if name == "host" || name == ":authority" {
		return v.Authority, v.Authority != ""
	}
	value, found := "", false
	for i := range v.Fields {
		switch f := &v.Fields[i]; {
		case !exchange.Same(f.Name, name):
		case !found:
			value, found = f.Value, true
		default:
			value = strings.Join([]string{value, f.Value}, ",")
		}
	}
	return value, found
}
