package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"math/big"
	"strings"
	"testing"
	"time"
)

func TestRootsVouchForAnIssuer(t *testing.T) {
	a, b := must[*CA](t)(NewCA(domain(t, "test.local"))), must[*CA](t)(NewCA(domain(t, "test.local")))
	key, other := must[[]byte](t)(a.KeyPEM()), must[[]byte](t)(b.KeyPEM())
	roots := must[*Bundle](t)(ParseBundle(domain(t, "test.local"), a.RootPEM()))
	if err := roots.Vouches(a.CertPEM(), key); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"by the roots":       roots.Vouches(b.CertPEM(), other),
		"do not belong":      roots.Vouches(a.CertPEM(), other),
		"parse issuer":       roots.Vouches(nil, key),
		"parse issuer's key": roots.Vouches(a.CertPEM(), nil),
	} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if !a.Rooted() {
		t.Error("a root is not its own")
	}
}

func TestJoinRoots(t *testing.T) {
	a, b := must[*CA](t)(NewCA(domain(t, "test.local"))), must[*CA](t)(NewCA(domain(t, "test.local")))
	both := append(bytes.Clone(a.RootPEM()), b.RootPEM()...)
	for _, c := range []struct{ old, more, want []byte }{
		{nil, a.RootPEM(), a.RootPEM()},
		{a.RootPEM(), b.RootPEM(), both},
		{both, b.RootPEM(), both},
		{[]byte("broken"), a.RootPEM(), a.RootPEM()},
	} {
		got, err := JoinRoots(c.old, c.more)
		if err != nil || !bytes.Equal(got, c.want) {
			t.Errorf("%v\n%s", err, got)
		}
	}
	if _, err := JoinRoots(a.RootPEM(), []byte("broken")); err == nil {
		t.Error("broken roots were added")
	}
}

func TestRootsThatHaveEndedAreNotKept(t *testing.T) {
	key := must[*ecdsa.PrivateKey](t)(NewKey())
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	ended := encodeCertificate(must[[]byte](t)(x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)))
	a := must[*CA](t)(NewCA(domain(t, "test.local")))
	got, err := JoinRoots(ended, a.RootPEM())
	if err != nil || !bytes.Equal(got, a.RootPEM()) {
		t.Errorf("%v\n%s", err, got)
	}
	if got, err = JoinRoots(nil, ended); err != nil || !bytes.Equal(got, ended) {
		t.Errorf("what is added is the caller's to judge: %v\n%s", err, got)
	}
}
