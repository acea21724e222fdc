package main

import (
	"path/filepath"
	"strings"
	"testing"

	"fairlead.io/fairlead/internal/identity"
)

func TestAnIssuerThatNoRootTrustsIsNotTaken(t *testing.T) {
	home := t.TempDir()
	s := start(t, home)
	old := s.bundle()
	next, err := identity.NewCA(old.TrustDomain())
	if err != nil {
		t.Fatal(err)
	}
	key, err := next.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	file := func(name string) string { return filepath.Join(home, "ca", name) }
	write(t, file("tls.key"), string(key))
	write(t, file("tls.crt"), string(next.CertPEM()))
	eventually(t, "reported", func() bool { return strings.Contains(s.log.String(), "by the roots") })
	if _, _, err := s.bootstrap(old, "secret-of-a"); err != nil {
		t.Fatalf("nodes that trust the roots are not served: %v", err)
	}
	// The root comes: the issuer that waited for it is taken.
	write(t, file("ca.crt"), string(old.PEM())+string(next.RootPEM()))
	alone, err := identity.ParseBundle(old.TrustDomain(), next.RootPEM())
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "signed by the new issuer", func() bool {
		_, _, err := s.bootstrap(alone, "secret-of-a")
		return err == nil
	})
}
