package h2

import (
	"testing"

	"fairlead.io/fairlead/internal/l7/exchange"
)

// TestPrivateFieldsAreBelievedOfProxiesOnly: what a client calls fairlead-* is neither read nor passed on.
func TestPrivateFieldsAreBelievedOfProxiesOnly(t *testing.T) {
	fields := []exchange.Field{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "http"}, {Name: ":authority", Value: "a"},
		{Name: ":path", Value: "/"}, {Name: fieldService, Value: "shop/web:80"}, {Name: fieldVersion, Value: "10"}, {Name: "fairlead-new", Value: "x"}}
	for _, private := range []bool{false, true} {
		h, err := new(reading).request(fields, private)
		if err != nil {
			t.Fatal(err)
		}
		service, version := "", exchange.HTTP2
		if private {
			service, version = "shop/web:80", exchange.HTTP10
		}
		if h.Service != service || h.Version != version || len(h.Fields) != 0 {
			t.Errorf("private %v: service %q, version %v, fields %v", private, h.Service, h.Version, h.Fields)
		}
	}
}
