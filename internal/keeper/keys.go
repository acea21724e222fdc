package keeper

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"fairlead.io/fairlead/internal/control"
	"fairlead.io/fairlead/internal/identity"
	"fairlead.io/fairlead/internal/keeper/socket"
	"fairlead.io/fairlead/internal/mesh"
)

// The subjects that a keyring holds besides accounts.
var (
	ownSubject   = control.Subject{}
	proxySubject = control.Subject{Proxy: true}
)

// keyring holds the private keys of the node and renews their certificates. It is the keeper's own identity.Source.
type keyring struct {
	node      string
	bundle    *identity.Bundle
	disk      keyDir
	token     func() (string, error)
	issue     Issuer
	certified func(socket.Certificate) // called without mu
	trust     func(roots []byte)       // called without mu
	log       *slog.Logger
	slots     chan struct{} // certificates that are asked for at once
	wake      chan struct{}
	signing   *limits       // by account
	ready     chan struct{} // closed when the keeper has its own certificate
	readyOnce sync.Once

	mu     sync.Mutex // protects the rest
	wanted map[control.Subject]bool
	told   bool // want was called: until then an account that is not wanted may have captured pods
	held   map[control.Subject]*held
}

// held is one subject's keys. The one before the current stays for handshakes that began with it.
type held struct {
	rotator           *identity.Rotator
	current, previous *tls.Certificate
	stop              context.CancelFunc // nil until run has started the rotator
	stopped           chan struct{}
}

func newKeyring(cfg Config, certified func(socket.Certificate), trust func([]byte)) *keyring {
	k := &keyring{
		node: cfg.Node, bundle: cfg.Bundle, disk: keyDir(cfg.KeysDir), token: cfg.Token, certified: certified, trust: trust, log: cfg.Log,
		slots:   make(chan struct{}, 4),
		wake:    make(chan struct{}, 1),
		signing: newLimits(signRate, signBurst),
		ready:   make(chan struct{}),
		wanted:  map[control.Subject]bool{ownSubject: true, proxySubject: true},
		held:    map[control.Subject]*held{},
	}
	k.signing.set([]string{nameOf(proxySubject)})
	return k
}

// load takes up the keys of the last keeper, those that there are not yet. What has expired or is no longer trusted is wiped.
func (k *keyring) load() {
	k.mu.Lock()
	defer k.mu.Unlock()
	certificates, errs := k.disk.load()
	for subject, c := range certificates {
		if k.held[subject] != nil {
			continue // it was taken up before, or is newer
		}
		if err := k.verify(subject, c); err != nil {
			errs = append(errs, fmt.Errorf("key of %s: %w", nameOf(subject), err), k.disk.wipe(subject))
			continue
		}
		h := k.hold(subject)
		h.current = c
		h.rotator.Set(c)
		if subject == ownSubject {
			k.readyOnce.Do(func() { close(k.ready) })
		}
	}
	if err := errors.Join(errs...); err != nil {
		k.log.Warn("keys not taken up", "err", err)
	}
}

// hold makes room for a subject. mu is held.
func (k *keyring) hold(subject control.Subject) *held {
	h := &held{stopped: make(chan struct{})}
	h.rotator = identity.NewRotator(identity.RotatorConfig{
		Renew: func(ctx context.Context) (*tls.Certificate, error) { return k.renew(ctx, subject, h) },
		Log:   k.log.With("subject", nameOf(subject)),
	})
	k.held[subject] = h
	return h
}

// want says for which accounts certificates are needed, and which of them have a captured pod: only those sign.
func (k *keyring) want(accounts, live map[mesh.Account]bool) {
	wanted := map[control.Subject]bool{ownSubject: true, proxySubject: true}
	signing := []string{nameOf(proxySubject)}
	for a := range accounts {
		wanted[control.Subject{Account: a}] = true
	}
	for a := range live {
		signing = append(signing, nameOf(control.Subject{Account: a}))
	}
	k.mu.Lock()
	k.wanted, k.told = wanted, true
	k.mu.Unlock()
	k.signing.set(signing)
	poke(k.wake)
}

// run keeps a rotator at work for each subject that is wanted, and wipes the keys of the others.
func (k *keyring) run(ctx context.Context) error {
	defer k.stopAll()
	for {
		k.start(ctx)
		k.drop()
		select {
		case <-ctx.Done():
			return nil
		case <-k.wake:
		}
	}
}

func (k *keyring) start(ctx context.Context) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for subject := range k.wanted {
		h := k.held[subject]
		if h == nil {
			h = k.hold(subject)
		}
		if h.stop == nil {
			var rctx context.Context
			rctx, h.stop = context.WithCancel(ctx)
			go k.rotate(rctx, subject, h) // stopAll and drop wait for it
		}
	}
}

// rotate keeps the subject's certificate new. All but the keeper's own are asked for with that, and wait for it.
func (k *keyring) rotate(ctx context.Context, subject control.Subject, h *held) {
	defer close(h.stopped)
	if subject != ownSubject && !k.await(ctx) {
		return
	}
	_ = h.rotator.Run(ctx) // it logs what fails, and ends with ctx only
}

// await returns when the keeper has had a certificate of its own, or false when ctx has ended.
func (k *keyring) await(ctx context.Context) bool {
	select {
	case <-k.ready:
		return true
	case <-ctx.Done():
		return false
	}
}

// drop wipes what is not wanted any more.
func (k *keyring) drop() {
	for subject, h := range k.unwanted() {
		if h.stop != nil {
			h.stop()
			<-h.stopped
		}
		if err := k.disk.wipe(subject); err != nil {
			k.log.Error("key not wiped", "subject", nameOf(subject), "err", err)
		}
		// A pod of the account may come back at any moment, with a new key: what was signed for the old one is of no use.
		k.certified(socket.Certificate{Account: subject.Account})
	}
}

func (k *keyring) unwanted() map[control.Subject]*held {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := map[control.Subject]*held{}
	for subject, h := range k.held {
		if k.told && !k.wanted[subject] {
			out[subject] = h
			delete(k.held, subject)
		}
	}
	return out
}

func (k *keyring) stopAll() {
	k.mu.Lock()
	var stopped []chan struct{}
	for _, h := range k.held {
		if h.stop != nil {
			h.stop()
			stopped = append(stopped, h.stopped)
		}
	}
	k.mu.Unlock()
	for _, s := range stopped {
		<-s
	}
}

// renew makes a new key, has it certified, and takes it into use.
func (k *keyring) renew(ctx context.Context, subject control.Subject, h *held) (*tls.Certificate, error) {
	select {
	case k.slots <- struct{}{}:
		defer func() { <-k.slots }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	c, err := k.obtain(ctx, subject)
	if err != nil {
		return nil, err
	}
	if err := k.disk.save(subject, c); err != nil {
		k.log.Error("key not saved: a crash of the keeper would lose it", "subject", nameOf(subject), "err", err)
	}
	k.mu.Lock()
	h.previous, h.current = h.current, c
	k.mu.Unlock()
	if subject == ownSubject {
		k.readyOnce.Do(func() { close(k.ready) })
	}
	if subject != ownSubject {
		k.certified(certificateOf(subject, c))
	}
	k.log.Info("certificate issued", "subject", nameOf(subject), "not_after", c.Leaf.NotAfter)
	return c, nil
}

// obtain asks the controller for a certificate. Only the keeper's own is asked for with the token.
func (k *keyring) obtain(ctx context.Context, subject control.Subject) (*tls.Certificate, error) {
	token := ""
	if _, err := k.Certificate(); err != nil {
		if subject != ownSubject {
			return nil, fmt.Errorf("the keeper's own certificate: %w", err)
		}
		if token, err = k.token(); err != nil {
			return nil, fmt.Errorf("read token: %w", err)
		}
	}
	key, err := identity.NewKey()
	if err != nil {
		return nil, err
	}
	csr, err := identity.NewCSR(key)
	if err != nil {
		return nil, err
	}
	issued, roots, err := k.issue(ctx, token, []control.CertificateRequest{{Subject: subject, CSR: csr}})
	if err != nil {
		return nil, err
	}
	if len(issued) != 1 || issued[0].Refused != nil {
		return nil, errors.Join(append([]error{errors.New("certificate not issued")}, refusalsOf(issued)...)...)
	}
	if len(roots) > 0 {
		k.trust(roots)
	}
	c, err := identity.NewCertificate(issued[0].Chain, key)
	if err != nil {
		return nil, err
	}
	return c, k.verify(subject, c)
}

func refusalsOf(issued []control.Issued) (errs []error) {
	for _, i := range issued {
		errs = append(errs, i.Refused)
	}
	return errs
}

// verify checks that a certificate is of the subject on this node, valid, and of our roots.
func (k *keyring) verify(subject control.Subject, c *tls.Certificate) error {
	var chain []*x509.Certificate
	for _, der := range c.Certificate {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("parse chain: %w", err)
		}
		chain = append(chain, cert)
	}
	peer, err := k.bundle.Verify(chain)
	if err != nil {
		return err
	}
	id, err := k.idOf(subject)
	if err != nil {
		return err
	}
	if peer.ID != id || peer.Node != k.node {
		return fmt.Errorf("certificate of %s on node %q, %s on %q is wanted", peer.ID, peer.Node, id, k.node)
	}
	return nil
}

func (k *keyring) idOf(s control.Subject) (identity.ID, error) {
	td := k.bundle.TrustDomain()
	switch s {
	case ownSubject:
		return identity.KeeperID(td, k.node)
	case proxySubject:
		return identity.ProxyID(td, k.node)
	}
	return identity.AccountID(td, s.Account)
}

// Certificate is the keeper's own.
func (k *keyring) Certificate() (*tls.Certificate, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	h := k.held[ownSubject]
	if h == nil || h.current == nil || !time.Now().Before(h.current.Leaf.NotAfter) {
		return nil, identity.ErrNoCertificate
	}
	return h.current, nil
}

// certificates are those that a proxy is told of.
func (k *keyring) certificates() []socket.Certificate {
	k.mu.Lock()
	defer k.mu.Unlock()
	var out []socket.Certificate
	for subject, h := range k.held {
		if subject != ownSubject && h.current != nil && time.Now().Before(h.current.Leaf.NotAfter) {
			out = append(out, certificateOf(subject, h.current))
		}
	}
	return out
}

func certificateOf(s control.Subject, c *tls.Certificate) socket.Certificate {
	return socket.Certificate{Account: s.Account, Chain: c.Certificate, NotAfter: c.Leaf.NotAfter}
}

// sign signs a handshake of an account with a captured pod, or of the proxy itself for the zero account.
func (k *keyring) sign(account mesh.Account, leaf [32]byte, content []byte) ([]byte, error) {
	if err := identity.CheckCertificateVerify(content); err != nil {
		return nil, err
	}
	subject := control.Subject{Account: account, Proxy: account == mesh.Account{}}
	key := k.key(subject, leaf)
	limit := k.signing.of(nameOf(subject))
	if key == nil || limit == nil {
		return nil, socket.ErrUnknownAccount
	}
	if !limit.Allow() {
		return nil, socket.ErrLimited
	}
	return identity.SignCertificateVerify(key, content)
}

// key is the subject's key of that certificate; nil if it is not, or not any more, one to sign with.
func (k *keyring) key(subject control.Subject, leaf [32]byte) *ecdsa.PrivateKey {
	k.mu.Lock()
	defer k.mu.Unlock()
	h := k.held[subject]
	if h == nil {
		return nil
	}
	for _, c := range []*tls.Certificate{h.current, h.previous} {
		if c == nil || sha256.Sum256(c.Certificate[0]) != leaf || !time.Now().Before(c.Leaf.NotAfter) {
			continue
		}
		if key, ok := c.PrivateKey.(*ecdsa.PrivateKey); ok {
			return key
		}
	}
	return nil
}
