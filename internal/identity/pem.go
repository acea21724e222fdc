package identity

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// maxPEM bounds a PEM file: a bundle of some hundred roots.
const maxPEM = 1 << 20

// NewKey makes an ECDSA P-256 key.
func NewKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate key: %w", err)
	}
	return key, nil
}

// NewCSR makes a certificate request that says nothing but the key.
func NewCSR(key crypto.Signer) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, fmt.Errorf("make certificate request: %w", err)
	}
	return der, nil
}

// NewCertificate joins a chain, leaf first, with the key that it was made for, which may live elsewhere (Signer).
func NewCertificate(chain [][]byte, key crypto.Signer) (*tls.Certificate, error) {
	if len(chain) == 0 {
		return nil, errors.New("join certificate and key: empty chain")
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return nil, fmt.Errorf("parse leaf: %w", err)
	}
	if pub, ok := leaf.PublicKey.(*ecdsa.PublicKey); !ok || !pub.Equal(key.Public()) {
		return nil, errors.New("join certificate and key: they do not belong together")
	}
	return &tls.Certificate{Certificate: chain, PrivateKey: key, Leaf: leaf}, nil
}

// ParseCA reads an issuer as in a Secret of type kubernetes.io/tls: certPEM is the issuer, then its own
// issuers if it is an intermediate; keyPEM is the issuer's key.
func ParseCA(td TrustDomain, certPEM, keyPEM []byte) (*CA, error) {
	c := &CA{td: td}
	if err := c.Replace(certPEM, keyPEM); err != nil {
		return nil, err
	}
	return c, nil
}

// Replace exchanges the issuer. On an error the old one stays.
func (c *CA) Replace(certPEM, keyPEM []byte) error {
	certs, err := parseCertificates(certPEM)
	if err != nil {
		return fmt.Errorf("parse issuer: %w", err)
	}
	key, err := parseKey(keyPEM)
	if err != nil {
		return fmt.Errorf("parse issuer's key: %w", err)
	}
	if !certs[0].IsCA || certs[0].KeyUsage != 0 && certs[0].KeyUsage&x509.KeyUsageCertSign == 0 {
		return errors.New("issuer certificate may not sign certificates")
	}
	if pub, ok := certs[0].PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !pub.Equal(key.Public()) {
		return errors.New("issuer's certificate and key do not belong together")
	}
	for i := 1; i < len(certs); i++ {
		if err := certs[i-1].CheckSignatureFrom(certs[i]); err != nil {
			return fmt.Errorf("issuer chain, certificate %d: %w", i, err)
		}
	}
	c.issuer.Store(newIssuer(certs, key))
	return nil
}

func newIssuer(certs []*x509.Certificate, key crypto.Signer) *issuer {
	is := &issuer{cert: certs[0], key: key}
	for _, cert := range certs {
		is.pem = append(is.pem, encodeCertificate(cert.Raw)...)
		if !selfSigned(cert) {
			is.above = append(is.above, cert.Raw)
		}
	}
	return is
}

// CertPEM is the issuer's chain, the issuer first.
func (c *CA) CertPEM() []byte { return bytes.Clone(c.issuer.Load().pem) }

// KeyPEM is the issuer's private key, for a CA that was made here and must be stored.
func (c *CA) KeyPEM() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(c.issuer.Load().key)
	if err != nil {
		return nil, fmt.Errorf("encode issuer's key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// RootPEM is the topmost certificate of the issuer's chain: the root, if the chain has it.
func (c *CA) RootPEM() []byte {
	certs, err := parseCertificates(c.issuer.Load().pem)
	if err != nil {
		return nil
	}
	return encodeCertificate(certs[len(certs)-1].Raw)
}

func selfSigned(c *x509.Certificate) bool {
	return bytes.Equal(c.RawSubject, c.RawIssuer) && c.CheckSignatureFrom(c) == nil
}

func encodeCertificate(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func parseCertificates(text []byte) ([]*x509.Certificate, error) {
	if len(text) > maxPEM {
		return nil, fmt.Errorf("PEM of %d bytes, at most %d are read", len(text), maxPEM)
	}
	var certs []*x509.Certificate
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("PEM block %q where only certificates are wanted", block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(certs), err)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, errors.New("no certificate in PEM")
	}
	return certs, nil
}

func parseKey(text []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("no PEM block")
	}
	var key any
	var err error
	switch block.Type {
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	default:
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	if err != nil {
		return nil, err
	}
	switch k := key.(type) {
	case *ecdsa.PrivateKey:
		return k, nil
	case *rsa.PrivateKey: // an issuer above may be RSA; leaves never are
		return k, nil
	}
	return nil, fmt.Errorf("key of type %T", key)
}
