// Prepare writes what the echo image of the conformance suite needs beside its programs: a certificate that it may show
// (cert.crt, key.pem), and the name that the suite's manifests give the image (name).
//
//	prepare DIRECTORY
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"sigs.k8s.io/gateway-api/conformance"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "prepare:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: prepare DIRECTORY")
	}
	name, err := imageName()
	if err != nil {
		return err
	}
	cert, key, err := certificate(time.Now())
	if err != nil {
		return fmt.Errorf("make certificate: %w", err)
	}
	for file, text := range map[string][]byte{"name": []byte(name), "cert.crt": cert, "key.pem": key} {
		if err := os.WriteFile(filepath.Join(args[0], file), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

var image = regexp.MustCompile(`(?m)^\s*image:\s*(\S+)\s*$`)

// imageName is the one image of the suite's manifests of a mesh.
func imageName() (string, error) {
	text, err := conformance.Manifests.ReadFile("mesh/manifests.yaml")
	if err != nil {
		return "", fmt.Errorf("read manifests of the suite: %w", err)
	}
	name := ""
	for _, m := range image.FindAllSubmatch(text, -1) {
		if name != "" && name != string(m[1]) {
			return "", fmt.Errorf("manifests of the suite: images %s and %s, one is expected", name, m[1])
		}
		name = string(m[1])
	}
	if name == "" {
		return "", errors.New("manifests of the suite: no image")
	}
	return name, nil
}

// certificate is one that nobody verifies.
func certificate(now time.Time) (cert, key []byte, err error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "echo"}, DNSNames: []string{"echo"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(10, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &k.PublicKey, k)
	if err != nil {
		return nil, nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), nil
}
