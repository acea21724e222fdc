package exchange_test

import (
	"strings"
	"testing"

	"fairlead.io/fairlead/internal/l7/exchange"
)

func TestAbout(t *testing.T) {
	for name, want := range map[string]exchange.Matter{
		"te": exchange.AboutTE, "host": exchange.AboutHost, "content-length": exchange.AboutLength, "transfer-encoding": exchange.AboutCoding,
		"connection": exchange.AboutConnection, "upgrade": exchange.AboutUpgrade, "keep-alive": exchange.AboutHop, "proxy-connection": exchange.AboutHop,
		"cookie": exchange.AboutCookie, "set-cookie": exchange.AboutCredentials, "authorization": exchange.AboutCredentials,
		"proxy-authorization": exchange.AboutCredentials, "fairlead-x": exchange.AboutUs, "fairlead-": exchange.AboutUs,
		"fairlead-abcde": exchange.AboutUs, "fairlead-method": exchange.AboutUs, "fairlead-service": exchange.AboutUs, "fairlead-version": exchange.AboutUs,
		"fairlead-0123456789": exchange.AboutUs, "fairlead": exchange.Plain, "content-type": exchange.Plain, "x": exchange.Plain, "": exchange.Plain,
		"hosts": exchange.Plain, "hose": exchange.Plain, "et": exchange.Plain, "trailer": exchange.Plain, "keep-alivf": exchange.Plain, "fairleads-x": exchange.Plain,
	} {
		for _, n := range []string{name, strings.ToUpper(name), strings.ToUpper(name[:min(1, len(name))]) + name[min(1, len(name)):]} {
			if got := exchange.About(n); got != want {
				t.Errorf("About(%q) = %d, want %d", n, got, want)
			}
		}
	}
}

// FuzzNote: what is noted is what would be found.
func FuzzNote(f *testing.F) {
	for _, s := range []string{"content-type: text/html", "X-Own:  v", "x: v ", "a b: c", ": x", "x: a\x00b", "TE: trailers", "fairlead-service: x", "x:"} {
		name, value, _ := strings.Cut(s, ": ")
		f.Add(name, value)
	}
	f.Fuzz(func(t *testing.T, name, value string) {
		n := exchange.Note(name, value)
		valid := exchange.ValidToken(name) && exchange.ValidValue(value) && strings.Trim(value, " \t") == value
		if !n.Known || n.Valid != valid || n.About != exchange.About(name) || n.Hash != exchange.Note(name, value).Hash {
			t.Errorf("%q: %q is noted as %+v", name, value, n)
		}
		if valid && n.Lower != (strings.ToLower(name) == name) {
			t.Errorf("%q: lower %t", name, n.Lower)
		}
		if valid && exchange.HashName(strings.ToUpper(name)) != exchange.HashName(name) {
			t.Errorf("%q: its hash depends on its case", name)
		}
	})
}
