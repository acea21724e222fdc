package keeper

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	"fairlead.io/fairlead/internal/control"
	"fairlead.io/fairlead/internal/identity"
	"fairlead.io/fairlead/internal/keeper/socket"
	"fairlead.io/fairlead/internal/mesh"
)

// proxyCalls is the Keeper as the proxy's socket sees it: everything that a proxy can make it do is in this file.
type proxyCalls Keeper

// Attached tells a new proxy everything, and makes listeners again if there were none.
func (p *proxyCalls) Attached(h socket.Handler) {
	k := (*Keeper)(p)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.proxies[h] = true
	k.awaySince = time.Time{}
	h.Others(k.others) // first: what it wants of the controller depends on it
	h.Roots(k.cfg.Bundle.TrustDomain().Name(), k.cfg.Bundle.PEM())
	for _, c := range k.keys.certificates() {
		h.Certificate(c)
	}
	if !k.turn {
		return // the pods are another keeper's as yet
	}
	var errs []error
	for _, r := range k.records {
		if r.captured && r.told && !k.suspended { // while suspended there is nothing to hand over; apply ends that
			errs = append(errs, k.handOver(r, h))
		}
	}
	errs = append(errs, k.apply())
	if err := errors.Join(errs...); err != nil && !errors.Is(err, errSuperseded) {
		k.cfg.Log.Error("proxy not told everything", "err", err)
		return
	}
	if !k.blind { // else assign says it: as long as nobody knows the pods, the proxy keeps those that it has
		h.Synced()
	}
	select {
	case <-k.owner.gone:
		h.Superseded()
	default:
	}
}

// Detached starts the wait for the next proxy when the last one has gone.
func (p *proxyCalls) Detached(h socket.Handler) {
	k := (*Keeper)(p)
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.proxies, h)
	delete(k.serving, h)
	k.showService()
	if len(k.proxies) == 0 {
		k.awaySince = time.Now()
		poke(k.away)
	}
}

// resume makes the listeners anew, which apply then hands over. k.mu is held.
func (k *Keeper) resume() error {
	for _, r := range k.records {
		r.told = false
	}
	if err := k.cfg.Redirect.Resume(); err != nil {
		return fmt.Errorf("resume redirect: %w", err) // apply tries again
	}
	k.suspended = false
	k.cfg.Log.Info("connections are taken again")
	return nil
}

// watchProxy suspends the redirect when there has been no proxy for Config.Away.
func (k *Keeper) watchProxy(ctx context.Context) error {
	for {
		left := k.suspendIfAway()
		t := time.NewTimer(left)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-k.away:
			t.Stop()
		case <-t.C:
		}
	}
}

// suspendIfAway returns when to look again.
func (k *Keeper) suspendIfAway() time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.suspended || k.awaySince.IsZero() {
		return time.Hour // Detached says when something has changed
	}
	if left := k.cfg.Away - time.Since(k.awaySince); left > 0 {
		return left
	}
	if k.release() {
		k.cfg.Log.Warn("no proxy: the other keeper of this node takes over", "away", k.cfg.Away)
		return time.Hour // by then this one has begun anew
	}
	k.suspended = true
	err := k.owner.act(k.cfg.Redirect.Suspend)
	if errors.Is(err, errSuperseded) {
		return time.Hour // the listeners are the other keeper's
	}
	k.counters.add("suspensions", 1)
	k.cfg.Log.Warn("no proxy: new connections of captured pods are refused", "away", k.cfg.Away, "err", err)
	return time.Hour
}

// Sockets makes sockets in a captured pod.
func (p *proxyCalls) Sockets(uid string, family, n int) ([]int, error) {
	if err := p.limit(uid, n); err != nil {
		return nil, err
	}
	fds, err := p.cfg.Redirect.Sockets(uid, family, n)
	if err == nil {
		p.counters.add("sockets", uint64(len(fds)))
	}
	return fds, err
}

// Hop makes a socket that bears the client's address, towards the app of a captured pod.
func (p *proxyCalls) Hop(uid string, client netip.Addr) (int, error) {
	if err := p.limit(uid, 1); err != nil {
		return -1, err
	}
	fd, err := p.cfg.Redirect.HopSocket(uid, client)
	if err == nil {
		p.counters.add("hop_sockets", 1)
	}
	return fd, err
}

func (p *proxyCalls) limit(uid string, n int) error {
	limit := p.sockets.of(uid)
	if limit == nil {
		return socket.ErrUnknownPod
	}
	if !limit.AllowN(time.Now(), n) {
		p.counters.add("sockets_limited", 1)
		return socket.ErrLimited
	}
	return nil
}

// Sign signs a TLS handshake.
func (p *proxyCalls) Sign(account mesh.Account, leaf [32]byte, content []byte) ([]byte, error) {
	signature, err := p.keys.sign(account, leaf, content)
	switch {
	case err == nil:
		p.counters.add("signatures", 1)
	case errors.Is(err, identity.ErrNotCertificateVerify):
		return nil, &socket.Violation{Kind: socket.BadContent, Err: err}
	case errors.Is(err, socket.ErrLimited):
		p.counters.add("signatures_limited", 1)
	default:
		p.counters.add("signatures_refused", 1)
	}
	return signature, err
}

// Verdicts are the kernel's counters and the keeper's own, by prefixed names.
func (p *proxyCalls) Verdicts() (map[string]uint64, error) {
	kernel, err := p.cfg.Redirect.Verdicts()
	if err != nil {
		return nil, err
	}
	all := map[string]uint64{}
	for name, n := range kernel {
		all["redirect_"+name] = n
	}
	p.counters.each(func(name string, n uint64) { all["keeper_"+name] = n })
	for kind, n := range p.proxy.Violations() {
		all["keeper_violation_"+kind] = n
	}
	maps.Copy(all, (*Keeper)(p).gauges())
	return all, nil
}

// gauges say how things are now.
func (k *Keeper) gauges() map[string]uint64 {
	all := map[string]uint64{}
	if k.cfg.Gauges != nil {
		for name, n := range k.cfg.Gauges() {
			all["gauge_"+name] = n
		}
	}
	waiting := uint64(len(k.missing()))
	var captured uint64
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, r := range k.records {
		switch {
		case r.captured:
			captured++
		case r.Enrolled:
			waiting++
		}
	}
	all["gauge_pods_captured"], all["gauge_pods_waiting"] = captured, waiting
	all["gauge_goroutines"] = uint64(runtime.NumGoroutine())
	return all
}

const stateFile = "state"

// state is what the keeper keeps of the proxy's last good state.
type state struct {
	limit *rate.Limiter
	at    time.Time // when the controller signed the one on disk
}

// SaveState keeps what the controller signed for this node, and nothing older than what is kept already.
func (p *proxyCalls) SaveState(fd int) error {
	if !p.state.limit.Allow() {
		return socket.ErrLimited
	}
	p.saving.Lock() // one at a time: a state may be large
	defer p.saving.Unlock()
	signed, err := socket.ReadSealed(fd)
	if err != nil {
		return err
	}
	_, at, err := control.OpenState(signed, p.cfg.Bundle, p.cfg.Node)
	if err != nil {
		return &socket.Violation{Kind: socket.BadState, Err: err}
	}
	if at.Before(p.state.at) {
		return fmt.Errorf("state of %v is older than the one that is kept", at)
	}
	err = p.owner.act(func() error { return replaceFile(filepath.Join(p.cfg.StateDir, stateFile), signed, 0o600, true) })
	if errors.Is(err, errSuperseded) {
		return nil // the other keeper's proxy has it too
	}
	if err != nil {
		return err
	}
	p.state.at = at
	p.counters.add("states_saved", 1)
	return nil
}

// LoadState opens the kept state to read. The proxy verifies it itself.
func (p *proxyCalls) LoadState() (int, error) {
	fd, err := unix.Open(filepath.Join(p.cfg.StateDir, stateFile), unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if errors.Is(err, os.ErrNotExist) {
		return -1, socket.ErrNoState
	}
	if err != nil {
		return -1, fmt.Errorf("open state: %w", err)
	}
	return fd, nil
}

// restoreState learns how old the kept state is. One that is not the controller's is damaged.
func (k *Keeper) restoreState() {
	k.saving.Lock()
	defer k.saving.Unlock()
	path := filepath.Join(k.cfg.StateDir, stateFile)
	signed, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	if err == nil {
		_, k.state.at, err = control.OpenState(signed, k.cfg.Bundle, k.cfg.Node)
	}
	if err != nil {
		k.setAside(path, err)
	}
}

// trust replaces the roots.
func (k *Keeper) trust(pem []byte) {
	before := string(k.cfg.Bundle.PEM())
	if err := k.cfg.Bundle.Replace(pem); err != nil {
		k.cfg.Log.Error("roots not replaced", "err", err)
		return
	}
	now := k.cfg.Bundle.PEM()
	if string(now) == before {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for p := range k.proxies {
		p.Roots(k.cfg.Bundle.TrustDomain().Name(), now)
	}
}

// certified tells the proxies of a certificate.
func (k *Keeper) certified(c socket.Certificate) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for p := range k.proxies {
		p.Certificate(c)
	}
}

func closeListeners(listeners []socket.Listener) {
	for _, l := range listeners {
		unix.Close(l.FD)
	}
}
