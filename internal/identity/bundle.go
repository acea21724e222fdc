package identity

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"sync/atomic"
)

// Bundle is the set of roots that are trusted for one trust domain. Two or more at once are the normal state
// of a rotation; Replace exchanges them under running users.
type Bundle struct {
	td    TrustDomain
	roots atomic.Pointer[roots]
}

type roots struct {
	certs []*x509.Certificate
	pool  *x509.CertPool
	pem   []byte
}

// ParseBundle reads one or more roots.
func ParseBundle(td TrustDomain, pemRoots []byte) (*Bundle, error) {
	b := &Bundle{td: td}
	if err := b.Replace(pemRoots); err != nil {
		return nil, err
	}
	return b, nil
}

// Replace exchanges all roots. On an error the old ones stay.
func (b *Bundle) Replace(pemRoots []byte) error {
	certs, err := parseCertificates(pemRoots)
	if err != nil {
		return fmt.Errorf("parse roots: %w", err)
	}
	r := &roots{certs: certs, pool: x509.NewCertPool()}
	for _, c := range certs {
		if !c.IsCA {
			return fmt.Errorf("parse roots: %q is not a CA", c.Subject)
		}
		r.pool.AddCert(c)
		r.pem = append(r.pem, encodeCertificate(c.Raw)...)
	}
	b.roots.Store(r)
	return nil
}

// TrustDomain is the trust domain that the roots stand for.
func (b *Bundle) TrustDomain() TrustDomain { return b.td }

// PEM is the roots as Replace takes them, in a normal form: equal sets in equal order are equal bytes.
func (b *Bundle) PEM() []byte { return bytes.Clone(b.roots.Load().pem) }

// Len is the number of roots.
func (b *Bundle) Len() int { return len(b.roots.Load().certs) }
