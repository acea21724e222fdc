package main

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"fairlead.io/fairlead/internal/control"
	"fairlead.io/fairlead/internal/identity"
)

// trust is what the controller reads from files about who may be believed: issuer, roots, tokens. It reads them
// again when they change; what cannot be read leaves everything as it was.
type trust struct {
	ca     *identity.CA
	bundle *identity.Bundle
	tokens atomic.Pointer[control.Tokens]

	certFile, keyFile, rootsFile, tokensFile string
	last                                     map[string][32]byte // digests of the files' contents

	issuerChanged, rootsChanged func()
}

func openTrust(o *options) (*trust, error) {
	t := &trust{certFile: o.caCert, keyFile: o.caKey, rootsFile: o.roots, tokensFile: o.tokens, last: map[string][32]byte{}}
	td, err := identity.ParseTrustDomain(o.trustDomain)
	if err != nil {
		return nil, err
	}
	if o.caDir != "" {
		t.certFile, t.keyFile = filepath.Join(o.caDir, "tls.crt"), filepath.Join(o.caDir, "tls.key")
		root := filepath.Join(o.caDir, "ca.crt")
		if err := makeCA(td, o.caDir, t.certFile, t.keyFile, root); err != nil {
			return nil, err
		}
		if t.rootsFile == "" {
			t.rootsFile = root
		}
	}
	cert, key, err := t.readIssuer()
	if err != nil {
		return nil, err
	}
	if t.ca, err = identity.ParseCA(td, cert, key); err != nil {
		return nil, err
	}
	roots := t.ca.RootPEM()
	if t.rootsFile != "" {
		if roots, err = os.ReadFile(t.rootsFile); err != nil {
			return nil, fmt.Errorf("read roots: %w", err)
		}
	}
	if t.bundle, err = identity.ParseBundle(td, roots); err != nil {
		return nil, err
	}
	if err := t.checkIssuer(cert, key); err != nil {
		return nil, err
	}
	t.tokens.Store(&control.Tokens{})
	if _, err := t.readTokens(); err != nil {
		return nil, err
	}
	t.changed("issuer", cert, key)
	t.changed("roots", roots)
	return t, nil
}

// makeCA makes a CA in a directory that has none. The key is written last but one and the certificate last: with
// it the CA is there.
func makeCA(td identity.TrustDomain, dir, certFile, keyFile, rootFile string) error {
	if _, err := os.Stat(certFile); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	ca, err := identity.NewCA(td)
	if err != nil {
		return err
	}
	key, err := ca.KeyPEM()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make CA directory: %w", err)
	}
	for _, f := range []struct {
		name string
		text []byte
		mode fs.FileMode
	}{{rootFile, ca.RootPEM(), 0o644}, {keyFile, key, 0o600}, {certFile, ca.CertPEM(), 0o644}} {
		if err := os.WriteFile(f.name+".new", f.text, f.mode); err != nil {
			return fmt.Errorf("write CA: %w", err)
		}
		if err := os.Rename(f.name+".new", f.name); err != nil {
			return fmt.Errorf("write CA: %w", err)
		}
	}
	return nil
}

func (t *trust) readIssuer() (cert, key []byte, err error) {
	if cert, err = os.ReadFile(t.certFile); err != nil {
		return nil, nil, fmt.Errorf("read issuer: %w", err)
	}
	if key, err = os.ReadFile(t.keyFile); err != nil {
		return nil, nil, fmt.Errorf("read issuer's key: %w", err)
	}
	return cert, key, nil
}

// checkIssuer makes sure that what the issuer signs is good by the roots: nobody would believe the rest, not even the
// controller's own certificate.
func (t *trust) checkIssuer(cert, key []byte) error {
	td := t.bundle.TrustDomain()
	ca, err := identity.ParseCA(td, cert, key)
	if err != nil {
		return err
	}
	id, err := identity.ControllerID(td)
	if err != nil {
		return err
	}
	trial, err := ca.Issue(identity.Request{ID: id, TTL: time.Minute})
	if err != nil {
		return fmt.Errorf("try issuer: %w", err)
	}
	chain := make([]*x509.Certificate, len(trial.Certificate))
	for i, der := range trial.Certificate {
		if chain[i], err = x509.ParseCertificate(der); err != nil {
			return fmt.Errorf("try issuer: %w", err)
		}
	}
	if _, err := t.bundle.Verify(chain); err != nil {
		return fmt.Errorf("try issuer by the roots: %w", err)
	}
	return nil
}

func (t *trust) readTokens() (changed bool, err error) {
	if t.tokensFile == "" {
		return false, nil
	}
	text, err := os.ReadFile(t.tokensFile)
	if err != nil {
		return false, fmt.Errorf("read tokens: %w", err)
	}
	if !t.changed("tokens", text) {
		return false, nil
	}
	tokens, err := control.ParseTokens(text)
	if err != nil {
		return false, err
	}
	t.tokens.Store(tokens)
	return true, nil
}

func (t *trust) changed(what string, parts ...[]byte) bool {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:", len(p))
		h.Write(p)
	}
	sum := [32]byte(h.Sum(nil))
	if t.last[what] == sum {
		return false
	}
	t.last[what] = sum
	return true
}

// Node is the node of a bootstrap token.
func (t *trust) Node(token string) (string, bool) { return t.tokens.Load().Node(token) }

// follow reads the files again every so often until the context ends. They are small, and a Secret's mount is
// exchanged by symbolic links, which watches are easily fooled by.
func (t *trust) follow(ctx context.Context, every time.Duration, log *slog.Logger) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for _, err := range t.reload(log) {
			log.Error("trust files not taken", "err", err)
		}
	}
}

func (t *trust) reload(log *slog.Logger) (errs []error) {
	// Roots before the issuer: who is signed by the new one must be believed first.
	if t.rootsFile != "" {
		roots, err := os.ReadFile(t.rootsFile)
		if err == nil && t.changed("roots", roots) {
			if err = t.bundle.Replace(roots); err == nil {
				log.Info("roots replaced", "roots", t.bundle.Len())
				t.rootsChanged()
				delete(t.last, "issuer") // one that was refused may be good by these
			}
		}
		errs = appendErr(errs, err)
	}
	cert, key, err := t.readIssuer()
	if err == nil && t.changed("issuer", cert, key) {
		if err = t.checkIssuer(cert, key); err == nil {
			err = t.ca.Replace(cert, key)
		}
		if err == nil {
			log.Info("issuer replaced", "notAfter", t.ca.NotAfter())
			t.issuerChanged()
		}
	}
	errs = appendErr(errs, err)
	changed, err := t.readTokens()
	if changed {
		log.Info("tokens replaced")
	}
	return appendErr(errs, err)
}

func appendErr(errs []error, err error) []error {
	if err == nil {
		return errs
	}
	return append(errs, err)
}
