package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"net/url"
	"sync/atomic"
	"time"
)

// nodeOID marks the extension of a leaf that bears the name of the node it was issued to, as a UTF8String. It
// lies in the UUID arc, which needs no registration; non-critical, so that foreign verifiers pass over it.
var nodeOID = asn1.ObjectIdentifier{2, 25, 0x464C4E44, 1}

// clockSkew is how far in the past a certificate begins, for peers whose clock is behind.
const clockSkew = time.Minute

// ErrNoIssuer is returned by Sign when the issuer's certificate has expired or is not valid yet.
var ErrNoIssuer = errors.New("issuer certificate is not valid now")

// CA signs leaves of one trust domain with one issuer at a time, which can be replaced while it works.
type CA struct {
	td     TrustDomain
	issuer atomic.Pointer[issuer]
}

type issuer struct {
	cert  *x509.Certificate
	key   crypto.Signer
	above [][]byte // what a peer needs beside the root: the issuer itself, then its issuers
	pem   []byte
}

// Request is what the caller has authorised for a certificate request.
type Request struct {
	ID   ID
	Node string // the node that the key lives on; empty for the controller
	TTL  time.Duration
}

// NewCA makes a CA with a root of its own, for a mesh that brings none.
func NewCA(td TrustDomain) (*CA, error) {
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	tmpl := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "Fairlead root of " + td.Name()},
		NotBefore:             now.Add(-clockSkew),
		NotAfter:              now.AddDate(10, 0, 0),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		URIs:                  []*url.URL{{Scheme: "spiffe", Host: td.Name()}},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("sign root: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("parse own root: %w", err)
	}
	c := &CA{td: td}
	c.issuer.Store(newIssuer([]*x509.Certificate{cert}, key))
	return c, nil
}

// TrustDomain is the trust domain that the CA signs for.
func (c *CA) TrustDomain() TrustDomain { return c.td }

// NotAfter is when the issuer ends.
func (c *CA) NotAfter() time.Time { return c.issuer.Load().cert.NotAfter }

// Sign checks a certificate request and returns the chain for it, leaf first and without the root. Of the
// request only the public key is used. Returns ErrNoIssuer if the issuer is not valid at the moment.
func (c *CA) Sign(csrDER []byte, r Request) ([][]byte, error) {
	if r.ID.IsZero() || r.ID.TrustDomain() != c.td {
		return nil, fmt.Errorf("sign for %q: not an ID of %s", r.ID, c.td.Name())
	}
	pub, err := csrKey(csrDER)
	if err != nil {
		return nil, err
	}
	is, now := c.issuer.Load(), time.Now()
	if now.Before(is.cert.NotBefore) || !now.Before(is.cert.NotAfter) {
		return nil, ErrNoIssuer
	}
	tmpl, err := leafTemplate(r, now, is.cert)
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, is.cert, pub, is.key)
	if err != nil {
		return nil, fmt.Errorf("sign leaf for %s: %w", r.ID, err)
	}
	return append([][]byte{der}, is.above...), nil
}

// Issue makes a key and a certificate for it: for the controller itself, for demos and tests.
func (c *CA) Issue(r Request) (*tls.Certificate, error) {
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	csr, err := NewCSR(key)
	if err != nil {
		return nil, err
	}
	chain, err := c.Sign(csr, r)
	if err != nil {
		return nil, err
	}
	return NewCertificate(chain, key)
}

func leafTemplate(r Request, now time.Time, issuer *x509.Certificate) (*x509.Certificate, error) {
	if r.TTL <= 0 {
		return nil, fmt.Errorf("sign for %s: lifetime %v", r.ID, r.TTL)
	}
	tmpl := &x509.Certificate{
		NotBefore:             latest(now.Add(-clockSkew), issuer.NotBefore),
		NotAfter:              earliest(now.Add(r.TTL), issuer.NotAfter),
		URIs:                  []*url.URL{r.ID.id.URL()},
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	if r.Node == "" {
		return tmpl, nil
	}
	if len(r.Node) > maxName {
		return nil, fmt.Errorf("sign for %s: node name of %d bytes", r.ID, len(r.Node))
	}
	value, err := asn1.MarshalWithParams(r.Node, "utf8")
	if err != nil {
		return nil, fmt.Errorf("encode node name: %w", err)
	}
	tmpl.ExtraExtensions = []pkix.Extension{{Id: nodeOID, Value: value}}
	return tmpl, nil
}

// maxCSR bounds a certificate request; one of ours is some 200 bytes long.
const maxCSR = 4096

func csrKey(der []byte) (*ecdsa.PublicKey, error) {
	if len(der) > maxCSR {
		return nil, fmt.Errorf("certificate request of %d bytes", len(der))
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, fmt.Errorf("parse certificate request: %w", err)
	}
	pub, ok := csr.PublicKey.(*ecdsa.PublicKey)
	if !ok || pub.Curve != elliptic.P256() {
		return nil, errors.New("certificate request: the key is not ECDSA P-256")
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("check signature of certificate request: %w", err)
	}
	return pub, nil
}

func earliest(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
