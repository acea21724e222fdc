package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"fairlead.io/fairlead/internal/compile"
	"fairlead.io/fairlead/internal/identity"
)

// texts are where it is written who may be believed.
type texts interface {
	// Prepare makes what is not there, as far as that is ours to make.
	Prepare(context.Context) error
	// Issuer is the issuer's certificate, with its own issuers behind it, and its key, PEM.
	Issuer() (cert, key []byte, err error)
	// Roots are PEM; nil if the top of the issuer's chain is the root.
	Roots() ([]byte, error)
	// Next waits until they may have changed; false when the context has ended.
	Next(context.Context) bool
}

// trust is what the controller knows about who may be believed. It reads the texts again when they change; what
// cannot be taken leaves everything as it was, and stands as a problem.
type trust struct {
	ca     *identity.CA
	bundle *identity.Bundle
	texts  texts
	tokens *tokens // of the directory's nodes; nil in a cluster
	// wait is how long nodes have been told new roots before an issuer is taken that may be under them.
	wait    time.Duration
	log     *slog.Logger
	last    map[string][32]byte // digests of what was looked at
	rootsAt time.Time           // when the roots changed

	issuerChanged, rootsChanged func()

	mu       sync.Mutex // protects standing
	standing map[string]error
}

// openTrust reads the texts for the first time: without an issuer that the roots vouch for there is no beginning.
func openTrust(ctx context.Context, td identity.TrustDomain, from texts, log *slog.Logger) (*trust, error) {
	t := &trust{texts: from, log: log, last: map[string][32]byte{}, standing: map[string]error{}}
	if err := from.Prepare(ctx); err != nil {
		return nil, err
	}
	cert, key, err := from.Issuer()
	if err != nil {
		return nil, err
	}
	if t.ca, err = identity.ParseCA(td, cert, key); err != nil {
		return nil, err
	}
	roots, err := from.Roots()
	if err != nil {
		return nil, err
	}
	t.changed("roots", roots)
	if roots == nil {
		roots = t.ca.RootPEM()
	}
	if t.bundle, err = identity.ParseBundle(td, roots); err != nil {
		return nil, err
	}
	if err := t.bundle.Vouches(cert, key); err != nil {
		return nil, err
	}
	t.changed("issuer", cert, key)
	return t, nil
}

// changed tells whether a text is another than the one that was looked at last.
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

// follow takes what changes until the context ends.
func (t *trust) follow(ctx context.Context) error {
	for t.next(ctx) {
		t.stands("prepare issuer and roots", t.texts.Prepare(ctx))
		t.reload()
	}
	return nil
}

// next waits until the texts may have changed, or an issuer may be taken that had to wait.
func (t *trust) next(ctx context.Context) bool {
	due := t.rootsAt.Add(t.wait)
	if !time.Now().Before(due) {
		return t.texts.Next(ctx)
	}
	soon, cancel := context.WithDeadline(ctx, due)
	defer cancel()
	return t.texts.Next(soon) || ctx.Err() == nil
}

// reload takes roots before the issuer: who is signed by the new one must be believed first.
func (t *trust) reload() {
	roots, err := t.texts.Roots()
	t.stands("read roots", err)
	if err == nil && roots != nil && t.changed("roots", roots) {
		t.stands("take roots", t.takeRoots(roots))
	}
	cert, key, err := t.texts.Issuer()
	t.stands("read issuer", err)
	if err == nil && time.Since(t.rootsAt) >= t.wait && t.changed("issuer", cert, key) {
		t.stands("take issuer", t.takeIssuer(cert, key))
	}
	if t.tokens != nil {
		t.stands("take tokens", t.tokens.reload(t.log))
	}
}

func (t *trust) takeRoots(roots []byte) error {
	before := t.bundle.PEM()
	if err := t.bundle.Replace(roots); err != nil {
		return err
	}
	if !slices.Equal(before, t.bundle.PEM()) {
		t.rootsAt = time.Now()
	}
	t.log.Info("roots replaced", "roots", t.bundle.Len())
	t.rootsChanged()
	delete(t.last, "issuer") // one that was refused may be good by these
	return nil
}

func (t *trust) takeIssuer(cert, key []byte) error {
	if err := t.bundle.Vouches(cert, key); err != nil {
		return err
	}
	if err := t.ca.Replace(cert, key); err != nil {
		return err
	}
	t.log.Info("issuer replaced", "notAfter", t.ca.NotAfter())
	t.issuerChanged()
	return nil
}

// stands keeps how the last try of a step went, and logs an error once as long as it stands.
func (t *trust) stands(step string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	before := t.standing[step]
	if err == nil || errors.Is(err, context.Canceled) {
		delete(t.standing, step)
		return
	}
	t.standing[step] = err
	if before == nil || before.Error() != err.Error() {
		t.log.Error("trust not taken", "step", step, "err", err)
	}
}

// problems are the steps that have failed, and have not gone well since.
func (t *trust) problems() []compile.Problem {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []compile.Problem
	for step, err := range t.standing {
		out = append(out, compile.Problem{Object: step, Err: err})
	}
	slices.SortFunc(out, func(a, b compile.Problem) int { return cmp.Compare(a.Object, b.Object) })
	return out
}
