package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"net/url"
	"testing"
	"testing/synctest"
	"time"
)

func TestNothingOfTheRequestButItsKeyIsSigned(t *testing.T) {
	ca, bundle := newCA(t, "td")
	key := must[*ecdsa.PrivateKey](t)(NewKey())
	csr := must[[]byte](t)(x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "evil"}, DNSNames: []string{"evil.example"}, IPAddresses: []net.IP{{10, 0, 0, 1}},
		URIs:            []*url.URL{{Scheme: "spiffe", Host: "td", Path: "/ns/kube-system/sa/root"}},
		ExtraExtensions: []pkix.Extension{{Id: nodeOID, Value: []byte{12, 1, 'x'}}},
	}, key))
	id := account(t, "td", "shop", "web")
	chain := must[[][]byte](t)(ca.Sign(csr, Request{ID: id, Node: "n1", TTL: time.Hour}))
	if len(chain) != 1 {
		t.Fatalf("%d certificates, the root among them", len(chain))
	}
	leaf := must[*x509.Certificate](t)(x509.ParseCertificate(chain[0]))
	if leaf.Subject.String() != "" || len(leaf.DNSNames)+len(leaf.IPAddresses) != 0 || len(leaf.URIs) != 1 || leaf.IsCA {
		t.Errorf("leaf bears more than the identity: %v %v %v", leaf.Subject, leaf.DNSNames, leaf.URIs)
	}
	if leaf.SerialNumber.BitLen() < 64 {
		t.Errorf("serial %v", leaf.SerialNumber)
	}
	if p := must[Peer](t)(bundle.Verify([]*x509.Certificate{leaf})); p != (Peer{ID: id, Node: "n1"}) {
		t.Errorf("peer %v", p)
	}
}

func TestBadRequestsAreNotSigned(t *testing.T) {
	ca, _ := newCA(t, "td")
	good := must[[]byte](t)(NewCSR(must[*ecdsa.PrivateKey](t)(NewKey())))
	forged := append([]byte{}, good...)
	forged[len(forged)-1] ^= 1
	p384 := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	rsaKey := must[*rsa.PrivateKey](t)(rsa.GenerateKey(rand.Reader, 2048))
	id := account(t, "td", "shop", "web")
	for name, c := range map[string]struct {
		csr []byte
		r   Request
	}{
		"signature":    {forged, Request{ID: id, TTL: time.Hour}},
		"P-384":        {must[[]byte](t)(NewCSR(p384)), Request{ID: id, TTL: time.Hour}},
		"RSA":          {must[[]byte](t)(NewCSR(rsaKey)), Request{ID: id, TTL: time.Hour}},
		"nothing":      {nil, Request{ID: id, TTL: time.Hour}},
		"too long":     {make([]byte, maxCSR+1), Request{ID: id, TTL: time.Hour}},
		"trailing":     {append(append([]byte{}, good...), 0), Request{ID: id, TTL: time.Hour}},
		"nobody":       {good, Request{TTL: time.Hour}},
		"other domain": {good, Request{ID: account(t, "other", "shop", "web"), TTL: time.Hour}},
		"no lifetime":  {good, Request{ID: id}},
		"long node":    {good, Request{ID: id, TTL: time.Hour, Node: string(make([]byte, 254))}},
	} {
		if _, err := ca.Sign(c.csr, c.r); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
}

func TestALeafEndsWithItsIssuer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, _ := newCA(t, "td")
		r := Request{ID: account(t, "td", "shop", "web"), TTL: 100 * 365 * 24 * time.Hour}
		if leaf := must[*certificate](t)(ca.Issue(r)).Leaf; !leaf.NotAfter.Equal(ca.NotAfter()) {
			t.Errorf("leaf ends %v, issuer %v", leaf.NotAfter, ca.NotAfter())
		}
		time.Sleep(time.Until(ca.NotAfter())) // synctest: no real time
		if _, err := ca.Issue(r); !errors.Is(err, ErrNoIssuer) {
			t.Errorf("expired issuer: %v", err)
		}
	})
}

func TestAnIntermediateIsSentWithTheLeaf(t *testing.T) {
	root, bundle := newCA(t, "td")
	key := must[*ecdsa.PrivateKey](t)(NewKey())
	is := root.issuer.Load()
	der := must[[]byte](t)(x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "intermediate"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, is.cert, key.Public(), is.key))
	keyPEM := must[[]byte](t)((&CA{}).with(key).KeyPEM())
	for name, certs := range map[string][]byte{
		"alone":         encodeCertificate(der),
		"with its root": append(encodeCertificate(der), root.RootPEM()...),
	} {
		ca := must[*CA](t)(ParseCA(domain(t, "td"), certs, keyPEM))
		c := must[*certificate](t)(ca.Issue(Request{ID: account(t, "td", "a", "b"), TTL: 4 * time.Hour}))
		if len(c.Certificate) != 2 {
			t.Fatalf("%s: chain of %d", name, len(c.Certificate))
		}
		above := must[*x509.Certificate](t)(x509.ParseCertificate(c.Certificate[1]))
		if _, err := bundle.Verify([]*x509.Certificate{c.Leaf, above}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := bundle.Verify([]*x509.Certificate{c.Leaf}); err == nil {
			t.Errorf("%s: verified without the intermediate", name)
		}
	}
	if _, err := ParseCA(domain(t, "td"), encodeCertificate(der), must[[]byte](t)(root.KeyPEM())); err == nil {
		t.Error("took another's key")
	}
	leaf := must[*certificate](t)(root.Issue(Request{ID: account(t, "td", "a", "b"), TTL: time.Hour}))
	if err := root.Replace(encodeCertificate(leaf.Certificate[0]), keyPEM); err == nil {
		t.Error("took a leaf for an issuer")
	}
}

func (c *CA) with(key *ecdsa.PrivateKey) *CA {
	c.issuer.Store(&issuer{key: key})
	return c
}

func TestBundleKeepsTheOldRootsOnAnError(t *testing.T) {
	ca, bundle := newCA(t, "td")
	leaf := must[*certificate](t)(ca.Issue(Request{ID: account(t, "td", "a", "b"), TTL: time.Hour}))
	for name, text := range map[string][]byte{
		"nothing": nil, "garbage": []byte("x"), "key": must[[]byte](t)(ca.KeyPEM()), "leaf": encodeCertificate(leaf.Certificate[0]),
		"too long": make([]byte, maxPEM+1),
	} {
		if err := bundle.Replace(text); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if string(bundle.PEM()) != string(ca.RootPEM()) {
		t.Error("roots changed")
	}
}
