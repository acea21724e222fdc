package keeper

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"fairlead.io/fairlead/internal/control"
	"fairlead.io/fairlead/internal/identity"
	"fairlead.io/fairlead/internal/mesh"
)

// keyDir is a directory with one file for each subject: its key, then its chain, in PEM. It lies on a tmpfs: keys
// survive the process, and nothing that is written once stays on a disk.
type keyDir string

const (
	keySuffix   = ".pem"
	ownFile     = "keeper"
	proxyFile   = "proxy"
	accountMark = "account"
	maxKeyFile  = 256 << 10
)

// nameOf names a subject. No name in Kubernetes has an underscore.
func nameOf(s control.Subject) string {
	switch s {
	case ownSubject:
		return ownFile
	case proxySubject:
		return proxyFile
	}
	return accountMark + "_" + s.Account.Namespace + "_" + s.Account.Name
}

func subjectOf(name string) (control.Subject, bool) {
	parts := strings.Split(name, "_")
	switch {
	case name == ownFile:
		return ownSubject, true
	case name == proxyFile:
		return proxySubject, true
	case len(parts) == 3 && parts[0] == accountMark && parts[1] != "" && parts[2] != "":
		return control.Subject{Account: mesh.Account{Namespace: parts[1], Name: parts[2]}}, true
	}
	return control.Subject{}, false
}

func (d keyDir) path(s control.Subject) (string, error) {
	name := nameOf(s)
	if again, ok := subjectOf(name); !ok || again != s || strings.ContainsRune(name, filepath.Separator) {
		return "", fmt.Errorf("%q cannot be a file's name", name)
	}
	return filepath.Join(string(d), name+keySuffix), nil
}

func (d keyDir) save(s control.Subject, c *tls.Certificate) error {
	path, err := d.path(s)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		return fmt.Errorf("encode key: %w", err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	for _, cert := range c.Certificate {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})...)
	}
	return replaceFile(path, text, 0o600, false)
}

func (d keyDir) wipe(s control.Subject) error {
	path, err := d.path(s)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("wipe key: %w", err)
	}
	return nil
}

// beingWritten is how old a file is at most that another keeper may be writing aside.
const beingWritten = time.Minute

// load reads all keys. A file that is damaged, or left by a crash while it was written, is removed: a key is soon made again.
func (d keyDir) load() (map[control.Subject]*tls.Certificate, []error) {
	entries, err := os.ReadDir(string(d))
	if err != nil {
		return nil, []error{fmt.Errorf("read keys: %w", err)}
	}
	certificates, errs := map[control.Subject]*tls.Certificate{}, []error(nil)
	for _, e := range entries {
		path := filepath.Join(string(d), e.Name())
		s, ok := subjectOf(strings.TrimSuffix(e.Name(), keySuffix))
		if info, err := e.Info(); !ok && err == nil && time.Since(info.ModTime()) < beingWritten {
			continue
		}
		if !ok || !strings.HasSuffix(e.Name(), keySuffix) {
			errs = append(errs, fmt.Errorf("%s is no key's file", path), os.Remove(path))
			continue
		}
		text, err := os.ReadFile(path)
		if err == nil {
			certificates[s], err = parseKeyFile(text)
		}
		if err != nil {
			delete(certificates, s)
			errs = append(errs, fmt.Errorf("%s: %w", path, err), os.Remove(path))
		}
	}
	return certificates, errs
}

func parseKeyFile(text []byte) (*tls.Certificate, error) {
	if len(text) > maxKeyFile {
		return nil, fmt.Errorf("more than %d bytes", maxKeyFile)
	}
	block, rest := pem.Decode(text)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, errors.New("does not begin with a key")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("parse key: %w", err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("key of type %T", parsed)
	}
	var chain [][]byte
	for {
		if block, rest = pem.Decode(rest); block == nil {
			return identity.NewCertificate(chain, key)
		}
		chain = append(chain, block.Bytes)
	}
}
