package identity

import (
	"crypto/x509"
	"fmt"
	"time"
)

// Vouches makes sure that what an issuer signs is good by these roots: nobody would believe it otherwise, not even
// the controller's own certificate.
func (b *Bundle) Vouches(certPEM, keyPEM []byte) error {
	ca, err := ParseCA(b.td, certPEM, keyPEM)
	if err != nil {
		return err
	}
	id, err := ControllerID(b.td)
	if err != nil {
		return err
	}
	trial, err := ca.Issue(Request{ID: id, TTL: time.Minute})
	if err != nil {
		return fmt.Errorf("try issuer: %w", err)
	}
	chain := make([]*x509.Certificate, len(trial.Certificate))
	for i, der := range trial.Certificate {
		if chain[i], err = x509.ParseCertificate(der); err != nil {
			return fmt.Errorf("try issuer: %w", err)
		}
	}
	if _, err := b.Verify(chain); err != nil {
		return fmt.Errorf("try issuer by the roots: %w", err)
	}
	return nil
}

// Rooted tells whether the issuer's chain ends in a root, so that RootPEM is one.
func (c *CA) Rooted() bool {
	certs, err := parseCertificates(c.issuer.Load().pem)
	return err == nil && selfSigned(certs[len(certs)-1])
}

// JoinRoots adds roots to those that there are, as PEM, and leaves out of the old what has expired or cannot be read.
func JoinRoots(old, more []byte) ([]byte, error) {
	added, err := parseCertificates(more)
	if err != nil {
		return nil, fmt.Errorf("parse roots: %w", err)
	}
	there, err := parseCertificates(old)
	if err != nil {
		there = nil
	}
	var out []byte
	seen := map[string]bool{}
	for i, c := range append(there, added...) {
		if seen[string(c.Raw)] || i < len(there) && time.Now().After(c.NotAfter) {
			continue
		}
		seen[string(c.Raw)] = true
		out = append(out, encodeCertificate(c.Raw)...)
	}
	return out, nil
}
