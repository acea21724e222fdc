package hpack

import (
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"fairlead.io/fairlead/internal/l7/exchange"
)

// diffFields compares what fields are, not what was noted about them.
func diffFields(want, got []exchange.Field) string {
	return cmp.Diff(want, got, cmpopts.IgnoreFields(exchange.Field{}, "Notes"))
}
