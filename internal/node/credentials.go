package node

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"fairlead.io/fairlead/internal/identity"
	"fairlead.io/fairlead/internal/keeper/socket"
	"fairlead.io/fairlead/internal/mesh"
)

// signTimeout bounds how long a handshake waits for the keeper's signature.
const signTimeout = 3 * time.Second

// credentials are the certificates that the keeper has pushed; their keys stay with the keeper, which signs each
// handshake. The zero account is the proxy itself.
type credentials struct {
	keeper Keeper

	mu       sync.Mutex // protects the rest
	accounts map[mesh.Account]*accountSource
	sessions identity.Sessions // of all accounts, as clients
	bundle   *identity.Bundle
	trusted  chan struct{} // closed when the bundle is there
}

func newCredentials(k Keeper) *credentials {
	return &credentials{keeper: k, accounts: map[mesh.Account]*accountSource{}, trusted: make(chan struct{})}
}

// accountSource is the identity.Source of one account.
type accountSource struct {
	cert   atomic.Pointer[tls.Certificate]
	resume atomic.Pointer[identity.Resumption] // of that certificate and of the roots
	ready  chan struct{}                       // closed with the first certificate
}

// Certificate returns the current certificate. An expired one is none.
func (s *accountSource) Certificate() (*tls.Certificate, error) {
	c := s.cert.Load()
	if c == nil || time.Now().After(c.Leaf.NotAfter) {
		return nil, identity.ErrNoCertificate
	}
	return c, nil
}

// of returns the account's source; it may have no certificate yet.
func (c *credentials) of(a mesh.Account) *accountSource {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.source(a)
}

// source is of, for a caller that holds mu.
func (c *credentials) source(a mesh.Account) *accountSource {
	s := c.accounts[a]
	if s == nil {
		s = &accountSource{ready: make(chan struct{})}
		c.accounts[a] = s
	}
	return s
}

// wait returns the account's source as soon as it has a certificate, and the bundle.
func (c *credentials) wait(ctx context.Context, a mesh.Account) (*accountSource, *identity.Bundle, error) {
	s := c.of(a)
	select {
	case <-s.ready:
	case <-ctx.Done():
		return nil, nil, fmt.Errorf("wait for the certificate of %s: %w", a, ctx.Err())
	}
	b, err := c.trust(ctx)
	return s, b, err
}

// trust returns the bundle as soon as it is there.
func (c *credentials) trust(ctx context.Context) (*identity.Bundle, error) {
	select {
	case <-c.trusted:
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the trust domain's roots: %w", ctx.Err())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bundle, nil
}

// setRoots makes the bundle, or replaces its roots. Roots that cannot be read change nothing.
func (c *credentials) setRoots(trustDomain string, pem []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bundle != nil && c.bundle.TrustDomain().Name() == trustDomain {
		return c.replaceRoots(pem)
	}
	if c.bundle != nil {
		return fmt.Errorf("trust domain changed from %s to %s", c.bundle.TrustDomain().Name(), trustDomain)
	}
	td, err := identity.ParseTrustDomain(trustDomain)
	if err != nil {
		return err
	}
	b, err := identity.ParseBundle(td, pem)
	if err != nil {
		return err
	}
	c.bundle = b
	close(c.trusted)
	return nil
}

// replaceRoots also ends all TLS sessions, if the roots are others: whoever is still good by them shows it in a full
// handshake, and nobody's connection is lost because a peer has offered a session that is not good any more.
func (c *credentials) replaceRoots(pem []byte) error {
	old := c.bundle.PEM()
	if err := c.bundle.Replace(pem); err != nil {
		return err
	}
	if bytes.Equal(old, c.bundle.PEM()) {
		return nil
	}
	for _, s := range c.accounts {
		if cert := s.cert.Load(); cert != nil {
			s.renew(identity.NewResumption(cert.Leaf, &c.sessions))
		}
	}
	return nil
}

// renew puts other tickets and sessions in the place of the old.
func (s *accountSource) renew(r *identity.Resumption) {
	if old := s.resume.Swap(r); old != nil {
		old.Retire() // leaves are renewed without a broken handshake
	}
}

// setCertificate replaces an account's certificate, or takes it away. One that cannot be read changes nothing.
func (c *credentials) setCertificate(sc socket.Certificate) error {
	if len(sc.Chain) == 0 {
		c.withdraw(sc.Account)
		return nil
	}
	leaf, err := x509.ParseCertificate(sc.Chain[0])
	if err != nil {
		return fmt.Errorf("parse certificate of %s: %w", sc.Account, err)
	}
	fingerprint := sha256.Sum256(leaf.Raw)
	account := sc.Account
	sign := func(content []byte) ([]byte, error) {
		ctx, cancel := context.WithTimeout(context.Background(), signTimeout)
		defer cancel()
		return c.keeper.Sign(ctx, account, fingerprint, content)
	}
	cert := &tls.Certificate{
		Certificate: sc.Chain,
		Leaf:        leaf,
		PrivateKey:  identity.NewSigner(leaf.PublicKey, sign),
		// The keeper makes P-256 keys only, and SHA-256 goes with them.
		SupportedSignatureAlgorithms: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256},
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.source(account).replace(cert, &c.sessions)
	return nil
}

// replace puts another certificate in the place of the old, and ends what was made with that. The same one again changes
// nothing.
func (s *accountSource) replace(cert *tls.Certificate, sessions *identity.Sessions) {
	old := s.cert.Load()
	if old != nil && bytes.Equal(old.Leaf.Raw, cert.Leaf.Raw) {
		return
	}
	s.cert.Store(cert)
	s.renew(identity.NewResumption(cert.Leaf, sessions))
	if old == nil {
		close(s.ready)
	}
}

// withdraw takes an account's certificate away: handshakes wait for the next one.
func (c *credentials) withdraw(a mesh.Account) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a != (mesh.Account{}) { // the proxy's own is held by the stream to the controller
		c.drop(a)
	}
}

// drop takes an account out, with its ticket keys and sessions. The caller holds mu.
func (c *credentials) drop(a mesh.Account) {
	s := c.accounts[a]
	if s == nil {
		return
	}
	if r := s.resume.Swap(nil); r != nil {
		r.End()
	}
	delete(c.accounts, a)
}

// keep withdraws every certificate but those of the accounts that are named.
func (c *credentials) keep(told map[mesh.Account]bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for a, s := range c.accounts {
		if !told[a] && s.cert.Load() != nil && a != (mesh.Account{}) {
			c.drop(a)
		}
	}
}

// sweep drops accounts that have no pod any more. Those whose certificate is still valid stay: the keeper may hold it
// for a pod to come, and would not send it again.
func (c *credentials) sweep(live map[mesh.Account]bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for a, s := range c.accounts {
		if _, err := s.Certificate(); err != nil && !live[a] && a != (mesh.Account{}) {
			c.drop(a)
		}
	}
}

// certificates are those that are there, by account.
func (c *credentials) certificates() map[mesh.Account]*tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := map[mesh.Account]*tls.Certificate{}
	for a, s := range c.accounts {
		if cert := s.cert.Load(); cert != nil {
			m[a] = cert
		}
	}
	return m
}

// roots is the bundle; nil before the keeper has sent it.
func (c *credentials) roots() *identity.Bundle {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bundle
}

// expiries tells when each account's certificate ends.
func (c *credentials) expiries() map[mesh.Account]time.Time {
	m := map[mesh.Account]time.Time{}
	for a, cert := range c.certificates() {
		m[a] = cert.Leaf.NotAfter
	}
	return m
}
