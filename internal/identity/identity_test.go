package identity

import (
	"strings"
	"testing"

	"fairlead.io/fairlead/internal/mesh"
)

func TestIDs(t *testing.T) {
	td := domain(t, "cluster.local")
	a := mesh.Account{Namespace: "shop", Name: "web"}
	id := must[ID](t)(AccountID(td, a))
	if id.String() != "spiffe://cluster.local/ns/shop/sa/web" {
		t.Errorf("account's ID %s", id)
	}
	if got, ok := id.Account(); !ok || got != a {
		t.Errorf("account %v %v", got, ok)
	}
	if id != must[ID](t)(ParseID(id.String())) {
		t.Error("parsed ID differs")
	}
	k, p, c := must[ID](t)(KeeperID(td, "n1")), must[ID](t)(ProxyID(td, "n1")), must[ID](t)(ControllerID(td))
	for _, other := range []ID{k, p, c, {}} {
		if _, ok := other.Account(); ok {
			t.Errorf("%s has an account", other)
		}
	}
	if node, ok := k.Keeper(); !ok || node != "n1" {
		t.Error("keeper")
	}
	if node, ok := p.Proxy(); !ok || node != "n1" {
		t.Error("proxy")
	}
	if _, ok := p.Keeper(); ok {
		t.Error("a proxy is a keeper")
	}
	if !c.IsController() || k.IsController() || (ID{}).IsController() {
		t.Error("controller")
	}
}

func TestBadIDs(t *testing.T) {
	long := strings.Repeat("a", 254)
	for _, s := range []string{
		"", "spiffe://", "spiffe://td", "spiffe://td/", "http://td/ns/a/sa/b", "spiffe://td/ns/a/sa/", "spiffe://td/ns//sa/b",
		"spiffe://td/ns/a/sa/b/c", "spiffe://td/ns/../sa/b", "spiffe://td/ns/a/sa/b?x", "spiffe://td/ns/a/sa/b#x",
		"spiffe://TD/ns/a/sa/b", "spiffe://td:1/ns/a/sa/b", "spiffe://td/ns/a%2fb/sa/c", "spiffe://td/other",
		"spiffe://td/fairlead/keeper", "spiffe://td/fairlead/controller/x", "spiffe://td/fairlead/other/n", "spiffe://td/ns/a/sa/" + long,
	} {
		if id, err := ParseID(s); err == nil {
			t.Errorf("%.40q is %s", s, id)
		}
	}
	td := domain(t, "td")
	for _, a := range []mesh.Account{{}, {Namespace: "a"}, {Namespace: "a", Name: "b/c"}, {Namespace: "..", Name: "x"}} {
		if id, err := AccountID(td, a); err == nil {
			t.Errorf("%v is %s", a, id)
		}
	}
	for _, s := range []string{"", "a/b", "spiffe://a", "A", "a b"} {
		if _, err := ParseTrustDomain(s); err == nil {
			t.Errorf("trust domain %q", s)
		}
	}
}

func FuzzParseID(f *testing.F) {
	f.Add("spiffe://td/ns/a/sa/b")
	f.Add("spiffe://td/fairlead/proxy/n")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ParseID(s)
		if err != nil {
			return
		}
		if id.String() != s {
			t.Errorf("%q became %q", s, id)
		}
		if a, ok := id.Account(); ok {
			if again, err := AccountID(id.TrustDomain(), a); err != nil || again != id {
				t.Errorf("%q: account %v makes %v, %v", s, a, again, err)
			}
		}
	})
}
