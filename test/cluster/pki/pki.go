// Package pki makes the certificates of a cluster's control plane and nodes. They are for one run on one machine: their keys
// lie in files, and are valid for a year.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

const lifetime = 365 * 24 * time.Hour

// Dir is a directory of NAME.crt and NAME.key. What is there already stays as it is.
type Dir string

// Authority signs certificates.
type Authority struct {
	dir  Dir
	cert *x509.Certificate
	key  crypto.Signer
}

// Subject is whom a certificate is for, as a client by CommonName and Groups, as a server by Names: hosts and addresses.
type Subject struct {
	CommonName string
	Groups     []string
	Names      []string
}

// Authority returns the authority of that name; it makes it if there is none.
func (d Dir) Authority(name string) (*Authority, error) {
	a := &Authority{dir: d}
	if err := d.ensure(name, func(key crypto.Signer) ([]byte, error) {
		template := newTemplate(Subject{CommonName: name})
		template.IsCA = true
		template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature
		return x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	}); err != nil {
		return nil, err
	}
	return a, a.load(name)
}

func (a *Authority) load(name string) error {
	certDER, err := a.dir.read(name + ".crt")
	if err != nil {
		return err
	}
	if a.cert, err = x509.ParseCertificate(certDER); err != nil {
		return fmt.Errorf("parse %s.crt: %w", name, err)
	}
	keyDER, err := a.dir.read(name + ".key")
	if err != nil {
		return err
	}
	key, err := x509.ParsePKCS8PrivateKey(keyDER)
	if err != nil {
		return fmt.Errorf("parse %s.key: %w", name, err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return fmt.Errorf("%s.key: a %T does not sign", name, key)
	}
	a.key = signer
	return nil
}

// Issue makes the certificate NAME.crt and its key, if there is none.
func (a *Authority) Issue(name string, subject Subject) error {
	return a.dir.ensure(name, func(key crypto.Signer) ([]byte, error) {
		template := newTemplate(subject)
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
		return x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	})
}

func newTemplate(s Subject) *x509.Certificate {
	t := &x509.Certificate{
		SerialNumber: newSerial(),
		Subject:      pkix.Name{CommonName: s.CommonName, Organization: s.Groups},
		NotBefore:    time.Now().Add(-time.Hour), NotAfter: time.Now().Add(lifetime),
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
	}
	for _, name := range s.Names {
		if ip := net.ParseIP(name); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, name)
		}
	}
	return t
}

func newSerial() *big.Int {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails
	b[0] &= 0x7f        // a serial is positive
	return new(big.Int).SetBytes(b)
}

// ensure makes a key, and what certify makes of it. The certificate comes last: where it is, both are.
func (d Dir) ensure(name string, certify func(crypto.Signer) ([]byte, error)) error {
	if _, err := os.Stat(d.path(name + ".crt")); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := certify(key)
	if err != nil {
		return fmt.Errorf("certificate %s: %w", name, err)
	}
	if err := d.writeKey(name+".key", key); err != nil {
		return err
	}
	return d.write(name+".crt", "CERTIFICATE", der)
}

// SigningKey makes the pair NAME.key and NAME.pub, for tokens, if there is none.
func (d Dir) SigningKey(name string) error {
	if _, err := os.Stat(d.path(name + ".pub")); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	if err := d.writeKey(name+".key", key); err != nil {
		return err
	}
	return d.write(name+".pub", "PUBLIC KEY", der)
}

func (d Dir) writeKey(file string, key crypto.Signer) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return d.write(file, "PRIVATE KEY", der)
}

func (d Dir) write(file, kind string, der []byte) error {
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return err
	}
	next := d.path("." + file)
	if err := os.WriteFile(next, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		return err
	}
	return os.Rename(next, d.path(file))
}

func (d Dir) read(file string) ([]byte, error) {
	b, err := os.ReadFile(d.path(file))
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("%s: no PEM", d.path(file))
	}
	return block.Bytes, nil
}

func (d Dir) path(file string) string { return filepath.Join(string(d), file) }
