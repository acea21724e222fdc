package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"fairlead.io/fairlead/internal/identity"
)

// filePoll is how often the files of issuer, roots and tokens are read again. They are small, and a Secret's mount
// is exchanged by symbolic links, which watches are easily fooled by.
const filePoll = time.Second

// files are issuer and roots in files.
type files struct {
	td                  identity.TrustDomain
	dir                 string // in which a CA is made if it is empty; none is without it
	cert, key, rootText string
	prepared            bool
}

func newFiles(o *options, td identity.TrustDomain) *files {
	f := &files{td: td, dir: o.caDir, cert: o.caCert, key: o.caKey, rootText: o.roots}
	if f.dir == "" {
		return f
	}
	f.cert, f.key = filepath.Join(f.dir, "tls.crt"), filepath.Join(f.dir, "tls.key")
	if f.rootText == "" {
		f.rootText = filepath.Join(f.dir, "ca.crt")
	}
	return f
}

// Prepare makes a CA in a directory that has none, the first time. The key is written last but one and the
// certificate last: with it the CA is there.
func (f *files) Prepare(context.Context) error {
	if f.dir == "" || f.prepared {
		return nil
	}
	f.prepared = true
	if _, err := os.Stat(f.cert); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	ca, err := identity.NewCA(f.td)
	if err != nil {
		return err
	}
	key, err := ca.KeyPEM()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return fmt.Errorf("make CA directory: %w", err)
	}
	for _, file := range []struct {
		name string
		text []byte
		mode fs.FileMode
	}{{filepath.Join(f.dir, "ca.crt"), ca.RootPEM(), 0o644}, {f.key, key, 0o600}, {f.cert, ca.CertPEM(), 0o644}} {
		if err := os.WriteFile(file.name+".new", file.text, file.mode); err != nil {
			return fmt.Errorf("write CA: %w", err)
		}
		if err := os.Rename(file.name+".new", file.name); err != nil {
			return fmt.Errorf("write CA: %w", err)
		}
	}
	return nil
}

// Issuer reads the issuer's certificate and key.
func (f *files) Issuer() (cert, key []byte, err error) {
	if cert, err = os.ReadFile(f.cert); err != nil {
		return nil, nil, fmt.Errorf("read issuer: %w", err)
	}
	if key, err = os.ReadFile(f.key); err != nil {
		return nil, nil, fmt.Errorf("read issuer's key: %w", err)
	}
	return cert, key, nil
}

// Roots reads the roots; nil if they are in no file.
func (f *files) Roots() ([]byte, error) {
	if f.rootText == "" {
		return nil, nil
	}
	text, err := os.ReadFile(f.rootText)
	if err != nil {
		return nil, fmt.Errorf("read roots: %w", err)
	}
	return text, nil
}

// Next waits until the files are to be read again.
func (f *files) Next(ctx context.Context) bool {
	t := time.NewTimer(filePoll)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
