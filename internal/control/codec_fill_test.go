package control

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"fairlead.io/fairlead/internal/control/controlpb"
	"fairlead.io/fairlead/internal/mesh"
)

// fill sets every field that there is, so that a field which the wire forgets is missed. Enumerations get their first value that is
// not zero, which all of them have.
func fill(t *testing.T, v reflect.Value, depth int) {
	t.Helper()
	switch v.Interface().(type) {
	case netip.Addr:
		v.Set(reflect.ValueOf(netip.MustParseAddr("10.0.0.1")))
		return
	case netip.AddrPort:
		v.Set(reflect.ValueOf(netip.MustParseAddrPort("[fd00::1]:80")))
		return
	case netip.Prefix:
		v.Set(reflect.ValueOf(netip.MustParsePrefix("10.0.0.0/8")))
		return
	case time.Duration:
		v.SetInt(int64(90 * time.Second))
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if depth > 12 {
			return
		}
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem(), depth+1)
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i), depth+1)
		}
	case reflect.Slice:
		if depth > 12 { // filters have mirrors, whose backends have filters
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(t, v.Index(0), depth+1)
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(t, key, depth+1)
		fill(t, value, depth+1)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.String:
		v.SetString("word")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(1)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(1)
	case reflect.Float64:
		v.SetFloat(0.5)
	default:
		t.Fatalf("a field of kind %v: fill has to learn it", v.Kind())
	}
}

func overTheWire(t *testing.T, d mesh.Delta) (mesh.Delta, error) {
	t.Helper()
	raw, err := proto.Marshal(encodeDelta(d))
	if err != nil {
		t.Fatal(err)
	}
	var m controlpb.Delta
	if err := proto.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	return decodeDelta(&m)
}

// TestEveryFieldSurvivesTheWire: whoever adds a field to a row of mesh adds it to the wire too.
func TestEveryFieldSurvivesTheWire(t *testing.T) {
	var d mesh.Delta
	fill(t, reflect.ValueOf(&d).Elem(), 0)
	d.Routes[0].Ports[0].Rules = append(d.Routes[0].Ports[0].Rules, mesh.Rule{}) // the match is for the second
	got, err := overTheWire(t, d)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(d, got, sameAddrs); diff != "" {
		t.Error(diff)
	}
}

func TestRowsThatCannotBe(t *testing.T) {
	name := &controlpb.Name{Namespace: "a", Name: "b"}
	routes := func(p *controlpb.PortRoutes) *controlpb.Delta {
		return &controlpb.Delta{Routes: []*controlpb.Routes{{Service: name, Ports: []*controlpb.PortRoutes{p}}}}
	}
	rule := func(r *controlpb.Rule) *controlpb.Delta {
		return routes(&controlpb.PortRoutes{Rules: []*controlpb.Rule{r}})
	}
	policy := func(a *controlpb.Authorization) *controlpb.Delta {
		a.Name = name
		return &controlpb.Delta{Authorizations: []*controlpb.Authorization{a}}
	}
	for want, d := range map[string]*controlpb.Delta{
		"routes of a/b: port 70000: port 70000":               routes(&controlpb.PortRoutes{Port: 70000}),
		"routes of a/b: port 0: match for rule 1 of 0":        routes(&controlpb.PortRoutes{Order: []*controlpb.RuleMatch{{Rule: 1}}}),
		"routes of a/b: port 0: rule 0: backend /: port 1048": rule(&controlpb.Rule{Backends: []*controlpb.Backend{{Port: 1048576}}}),
		"routes of a/b: port 0: rule 0: redirect: port 65536": rule(&controlpb.Rule{Filters: &controlpb.Filters{Redirect: &controlpb.Redirect{Port: 65536}}}),
		"routes of a/b: port 0: rule 0: mirror: port 65536":   rule(&controlpb.Rule{Filters: &controlpb.Filters{Mirrors: []*controlpb.Mirror{{Backend: &controlpb.Backend{Port: 65536}}}}}),
		"policy a/b: port 65536":                              policy(&controlpb.Authorization{Ports: []uint32{65536}}),
		"policy a/b: rule 0: network of 5 bytes":              policy(&controlpb.Authorization{Rules: []*controlpb.AuthRule{{From: []*controlpb.Peer{{Cidrs: []*controlpb.Prefix{{Address: make([]byte, 5)}}}}}}}),
		"policy a/b: rule 0: network of 4 bytes and 33":       policy(&controlpb.Authorization{Rules: []*controlpb.AuthRule{{From: []*controlpb.Peer{{Except: []*controlpb.Prefix{{Address: make([]byte, 4), Bits: 33}}}}}}}),
	} {
		if _, err := decodeDelta(d); err == nil || len(err.Error()) < len(want) || err.Error()[:len(want)] != want {
			t.Errorf("want %q: %v", want, err)
		}
	}
}

// TestWhatALaterVersionSays: what is not known here opens nothing, and sends nothing where it was not meant to go.
func TestWhatALaterVersionSays(t *testing.T) {
	unknown := []*controlpb.Match{{PathKind: 9, Path: "/x", Method: "PUT"}}
	policy := func(action controlpb.Action, to ...*controlpb.Operation) *mesh.Authorization {
		a, err := decodeAuthorization(&controlpb.Authorization{Action: action, Rules: []*controlpb.AuthRule{{To: to}}})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	if a := policy(7); a.Action != mesh.Deny {
		t.Errorf("an action that nobody knows is %v", a.Action)
	}
	if a := policy(controlpb.Action_ACTION_ALLOW, &controlpb.Operation{Matches: unknown}); len(a.Rules) != 0 {
		t.Errorf("a rule of ALLOW that nobody understands: %+v", a.Rules)
	}
	if a := policy(controlpb.Action_ACTION_ALLOW, &controlpb.Operation{Matches: unknown}, &controlpb.Operation{Matches: []*controlpb.Match{{Path: "/y", PathKind: 1}}}); len(a.Rules) != 1 || len(a.Rules[0].To) != 1 || a.Rules[0].To[0].Matches[0].Path.Value != "/y" {
		t.Errorf("what is left of ALLOW: %+v", a.Rules)
	}
	if a := policy(controlpb.Action_ACTION_DENY, &controlpb.Operation{Matches: unknown}); len(a.Rules) != 1 || a.Rules[0].To[0].Matches[0].Path.Kind != mesh.PathAny || a.Rules[0].To[0].Matches[0].Method != "PUT" {
		t.Errorf("a rule of DENY that nobody understands: %+v", a.Rules)
	}
	row, err := decodePortRoutes(&controlpb.PortRoutes{Kind: 9, Rules: []*controlpb.Rule{{Filters: &controlpb.Filters{Rewrite: &controlpb.Rewrite{Path: &controlpb.PathEdit{Kind: 9, Value: "/z"}}}}},
		Order: []*controlpb.RuleMatch{{Match: unknown[0]}}})
	if err != nil || row.Kind != mesh.GRPCRoute || len(row.Order) != 0 || row.Rules[0].Filters.Rewrite.Path != (mesh.PathEdit{}) {
		t.Errorf("a row of a later version: %+v, %v", row, err)
	}
	traffic := decodeTraffic(&controlpb.Traffic{Balance: &controlpb.Balance{Algorithm: 9}, Faults: []*controlpb.Fault{{Match: unknown, Percent: 100}, {Percent: -1}},
		Retry: &controlpb.Retry{AttemptNs: -1, Ratio: -1, Limit: 1 << 31}})
	if traffic.Balance.Algorithm != mesh.PeakEWMA || len(traffic.Faults) != 1 || traffic.Faults[0].Percent != 0 || traffic.Retry.Attempt != 0 || traffic.Retry.Ratio != 0 || traffic.Retry.Limit < 0 {
		t.Errorf("traffic of a later version: %+v", traffic)
	}
	if b := decodeBalance(&controlpb.Balance{Algorithm: controlpb.Algorithm_ALGORITHM_CONSISTENT_HASH, HashOn: 9}); b.Algorithm != mesh.PeakEWMA {
		t.Errorf("a hash of what nobody knows: %+v", b)
	}
}
