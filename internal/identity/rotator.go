package identity

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// ErrNoCertificate is returned by a Source that has no valid certificate.
var ErrNoCertificate = errors.New("no valid certificate")

// RotatorConfig configures a Rotator.
type RotatorConfig struct {
	// Renew gets a new certificate. Its context ends after Timeout.
	Renew   func(context.Context) (*tls.Certificate, error)
	Timeout time.Duration // of one renewal; 10 s
	// First and Last bound the pauses between failed renewals; 500 ms and 1 min.
	First, Last time.Duration
	Log         *slog.Logger
}

// Rotator is a Source that renews itself at half of its certificate's life.
type Rotator struct {
	cfg     RotatorConfig
	current atomic.Pointer[tls.Certificate]
	changed chan struct{}
	now     chan struct{}
}

// NewRotator makes a Rotator that has no certificate yet. Run gets the first.
func NewRotator(cfg RotatorConfig) *Rotator {
	if cfg.Timeout == 0 {
		cfg.Timeout = 10 * time.Second
	}
	if cfg.First == 0 {
		cfg.First = 500 * time.Millisecond
	}
	if cfg.Last == 0 {
		cfg.Last = time.Minute
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Rotator{cfg: cfg, changed: make(chan struct{}, 1), now: make(chan struct{}, 1)}
}

// Set gives the Rotator a certificate to begin with, such as one kept on disk.
func (r *Rotator) Set(c *tls.Certificate) {
	r.current.Store(c)
	poke(r.changed)
}

// Renew has Run renew at once, such as after a change of the issuer. It does not wait for it.
func (r *Rotator) Renew() { poke(r.now) }

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Certificate returns the certificate, or ErrNoCertificate if there is none or it has expired.
func (r *Rotator) Certificate() (*tls.Certificate, error) {
	c := r.current.Load()
	if c == nil || !time.Now().Before(c.Leaf.NotAfter) {
		return nil, ErrNoCertificate
	}
	return c, nil
}

// Changed receives a value after each new certificate; it holds one, so a slow receiver sees the latest.
func (r *Rotator) Changed() <-chan struct{} { return r.changed }

// Run renews until the context ends. A failed renewal is tried again, ever more slowly; meanwhile the
// certificate stays in use as long as it is valid.
func (r *Rotator) Run(ctx context.Context) error {
	failures := 0
	for {
		if !r.wait(ctx, r.pause(failures)) {
			return nil
		}
		if err := r.renew(ctx); err != nil {
			failures++
			if ctx.Err() == nil {
				r.cfg.Log.Warn("certificate renewal", "err", err, "failures", failures)
			}
			continue
		}
		failures = 0
	}
}

func (r *Rotator) renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	c, err := r.cfg.Renew(ctx)
	if err != nil {
		return err
	}
	if c.Leaf == nil || !time.Now().Before(c.Leaf.NotAfter) {
		return errors.New("renewed certificate is not valid")
	}
	r.Set(c)
	return nil
}

func (r *Rotator) pause(failures int) time.Duration {
	if failures > 0 {
		return Backoff(failures, r.cfg.First, r.cfg.Last)
	}
	c := r.current.Load()
	if c == nil {
		return 0
	}
	// A certificate so short that it is always past its half life must not become a busy loop.
	return max(time.Until(RenewAt(c.Leaf.NotBefore, c.Leaf.NotAfter)), r.cfg.First)
}

// RenewAt is when a certificate is to be renewed: at half of its life, give or take a tenth of it, so that
// the certificates of a node, or of all nodes after an outage, do not come due together.
func RenewAt(notBefore, notAfter time.Time) time.Time {
	life := notAfter.Sub(notBefore)
	if life <= 0 {
		return notBefore
	}
	return notBefore.Add(life*2/5 + rand.N(life/5+1))
}

// Backoff is the pause after the n-th failure in a row (n from 1): first, doubled each time, at most last,
// and of that a random part between a half and the whole.
func Backoff(n int, first, last time.Duration) time.Duration {
	d := first
	for ; n > 1 && d < last; n-- {
		d *= 2
	}
	d = min(d, last)
	return d/2 + rand.N(d/2+1)
}

// wait returns false when the context has ended.
func (r *Rotator) wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-r.now:
	case <-t.C:
	}
	return ctx.Err() == nil
}
