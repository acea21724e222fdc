package exchange_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairlead.io/fairlead/internal/l7/exchange"
)

// note is both sides and the observer: it writes down who was told what.
type note struct {
	name string
	log  *[]string
	take bool // as an observer, takes failures over
}

func (n note) say(what string) { *n.log = append(*n.log, n.name+" "+what) }

func (n note) WriteHead(*exchange.Exchange, *exchange.Head, bool)        { n.say("head") }
func (n note) WriteData(*exchange.Exchange, []byte, bool)                { n.say("data") }
func (n note) WriteTrailers(*exchange.Exchange, []exchange.Field)        { n.say("trailers") }
func (n note) Reset(_ *exchange.Exchange, why exchange.Reason)           { n.say("reset " + why.Detail) }
func (n note) Consumed(*exchange.Exchange, int)                          { n.say("consumed") }
func (n note) Bound(*exchange.Exchange)                                  { n.say("bound") }
func (n note) Answer(_ *exchange.Exchange, _ *exchange.Head, _ string)   { n.say("answer") }
func (n note) Fail(_ *exchange.Exchange, _ int, _ uint32, why, _ string) { n.say("fail " + why) }
func (n note) ResponseHead(*exchange.Exchange, *exchange.Head)           { n.say("saw head") }
func (n note) ResponseTrailers(*exchange.Exchange, []exchange.Field)     { n.say("saw trailers") }
func (n note) Done(_ *exchange.Exchange, why exchange.Reason)            { n.say("done " + why.Detail) }
func (n note) Reject(_ *exchange.Exchange, why exchange.Reason) bool {
	n.say("asked " + why.Detail)
	return n.take
}

func TestExchange(t *testing.T) {
	ok, hints := &exchange.Head{Status: 200}, &exchange.Head{Status: 103}
	lost := exchange.Reason{Code: exchange.CodeClosed, Detail: "lost"}
	for _, tt := range []struct {
		name string
		take bool
		do   func(x *exchange.Exchange, up exchange.Side)
		want []string
	}{
		{"whole", false, func(x *exchange.Exchange, up exchange.Side) {
			x.Bind(up)
			x.RequestData(nil, true)
			x.ResponseHead(hints, false)
			x.ResponseHead(ok, false)
			x.ResponseTrailers(nil)
			x.RequestReset(lost) // too late
		}, []string{"down bound", "up data", "obs saw head", "down head", "obs saw head", "down head", "obs saw trailers", "down trailers", "obs done "}},
		{"fails before an upstream", false, func(x *exchange.Exchange, _ exchange.Side) {
			x.Fail(503, 14, "overload", "text")
			x.ResponseHead(ok, true)
		}, []string{"down fail overload", "obs done overload"}},
		{"fails with an upstream", false, func(x *exchange.Exchange, up exchange.Side) {
			x.Bind(up)
			x.Fail(504, 4, "timeout", "text")
		}, []string{"down bound", "up reset timeout", "down fail timeout", "obs done timeout"}},
		{"fails within the response", false, func(x *exchange.Exchange, up exchange.Side) {
			x.Bind(up)
			x.ResponseHead(ok, false)
			x.Fail(504, 4, "timeout", "text")
		}, []string{"down bound", "obs saw head", "down head", "up reset timeout", "down reset timeout", "obs done timeout"}},
		{"upstream lost, taken over", true, func(x *exchange.Exchange, up exchange.Side) {
			x.Bind(up)
			x.ResponseHead(hints, false)
			x.ResponseReset(lost)
			x.Bind(up)
			x.ResponseHead(ok, true)
		}, []string{"down bound", "obs saw head", "down head", "obs asked lost", "down bound", "obs saw head", "down head"}},
		{"upstream lost, not taken over", false, func(x *exchange.Exchange, up exchange.Side) {
			x.Bind(up)
			x.ResponseReset(lost)
		}, []string{"down bound", "obs asked lost", "down reset lost", "obs done lost"}},
		{"upstream lost within the response", true, func(x *exchange.Exchange, up exchange.Side) {
			x.Bind(up)
			x.ResponseHead(ok, false)
			x.ResponseReset(lost)
		}, []string{"down bound", "obs saw head", "down head", "down reset lost", "obs done lost"}},
		{"upstream wants no more", true, func(x *exchange.Exchange, up exchange.Side) {
			x.Bind(up)
			x.ResponseHead(ok, true)
			x.ResponseReset(lost)
		}, []string{"down bound", "obs saw head", "down head", "down reset ", "obs done "}},
	} {
		var log []string
		x := &exchange.Exchange{Down: note{"down", &log, false}, Observer: note{"obs", &log, tt.take}}
		tt.do(x, note{"up", &log, false})
		if diff := cmp.Diff(tt.want, log); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

func TestValidHost(t *testing.T) {
	for s, want := range map[string]bool{
		"": true, "a": true, "a.b:80": true, "[::1]": true, "[::1]:80": true, "a:": true, "10.0.0.1:8080": true, "a%2Fb": true,
		"a:b": false, "a:1:2": false, "::1": false, "[::1": false, "[a]": false, "[::1]x": false, "u@h": false, "a/b": false,
		"a b": false, "a%zz": false, "a#b": false, "a:123456": false, "a\x00": false, "\x80": false,
	} {
		if got := exchange.ValidHost(s); got != want {
			t.Errorf("ValidHost(%q) = %v", s, got)
		}
	}
}

func TestLimits(t *testing.T) {
	l := exchange.Limits{StreamWindow: 3 << 20}.WithDefaults()
	if l.ConnWindow <= l.StreamWindow || l.HeadBytes != 64<<10 || l.Streams != 250 {
		t.Errorf("%+v", l)
	}
}
