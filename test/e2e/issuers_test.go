package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"testing"
	"time"
)

// issuing is a certificate that may sign others, and its key.
type issuing struct {
	cert *x509.Certificate
	key  any
}

// meshIssuer is the installation's own, which is its root too.
func meshIssuer(t *testing.T) issuing {
	t.Helper()
	var secret struct{ Data map[string][]byte }
	lab.get(t, &secret, "-n", systemNamespace, "secret", "fairlead-issuer")
	pair, err := tls.X509KeyPair(secret.Data["tls.crt"], secret.Data["tls.key"])
	if err != nil {
		t.Fatalf("read the issuer: %v", err)
	}
	return issuing{pair.Leaf, pair.PrivateKey}
}

// below makes an issuer that another one has signed; its own root where that is nil.
func below(t *testing.T, above *issuing, name string, from, to time.Time) issuing {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: from, NotAfter: to,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	if above == nil {
		above = &issuing{template, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, above.cert, key.Public(), above.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return issuing{cert, key}
}

// put has the Secret hold this issuer.
func (i issuing) put(t *testing.T) (undo func()) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(i.key)
	if err != nil {
		t.Fatal(err)
	}
	text := func(kind string, der []byte) string {
		return base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	return patched(t, "secret/fairlead-issuer", "/data", map[string]string{"tls.crt": text("CERTIFICATE", i.cert.Raw), "tls.key": text("PRIVATE KEY", der)})
}

// expiredIssuer is one that our root has signed, and that is over.
func expiredIssuer(t *testing.T) (undo func()) {
	root := meshIssuer(t)
	from := root.cert.NotBefore.Add(time.Second)
	return below(t, &root, "e2e expired", from, from.Add(30*time.Second)).put(t)
}

// futureIssuer is one that our root has signed on a machine whose clock is an hour ahead.
func futureIssuer(t *testing.T) (undo func()) {
	root := meshIssuer(t)
	return below(t, &root, "e2e future", time.Now().Add(time.Hour), time.Now().Add(24*time.Hour)).put(t)
}

// foreignIssuer is one that a root has signed of which nobody has heard.
func foreignIssuer(t *testing.T) (undo func()) {
	root := below(t, nil, "e2e root", time.Now().Add(-time.Hour), time.Now().Add(48*time.Hour))
	return below(t, &root, "e2e foreign", time.Now().Add(-time.Minute), time.Now().Add(24*time.Hour)).put(t)
}
