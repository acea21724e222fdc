package keeper

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"fairlead.io/fairlead/internal/cni"
	"fairlead.io/fairlead/internal/control"
	"fairlead.io/fairlead/internal/keeper/socket"
	"fairlead.io/fairlead/internal/mesh"
)

// follow puts every assignment in force.
func (k *Keeper) follow(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-k.controller.Changed():
			if a := k.controller.Assignment(); a != nil {
				k.assign(a)
			}
		}
	}
}

// assign puts one assignment in force.
func (k *Keeper) assign(a *control.Assignment) {
	k.trust(a.Roots)
	k.mu.Lock()
	k.assignment = a
	k.mu.Unlock()
	k.search() // running pods first, so that the first Set names them and releases none of them
	k.mu.Lock()
	defer k.mu.Unlock()
	blind := k.blind
	k.blind = false
	if !maps.Equal(k.namespaces, a.Namespaces) {
		k.namespaces = a.Namespaces
		err := k.owner.act(func() error { return cni.WriteNamespaces(k.cfg.StateDir, a.Namespaces) })
		if err != nil && !errors.Is(err, errSuperseded) {
			k.cfg.Log.Error("namespaces not saved", "err", err)
		}
	}
	for _, r := range k.records {
		k.decide(r)
	}
	if err := k.apply(); err != nil && !errors.Is(err, errSuperseded) {
		k.cfg.Log.Error("assignment not wholly in force", "err", err)
	}
	for p := range k.proxies {
		if blind {
			p.Synced()
		}
	}
	close(k.assigned)
	k.assigned = make(chan struct{})
}

// verdict is what becomes of a pod.
type verdict uint8

const (
	unknown verdict = iota // nobody has said yet
	pass
	enrol
)

// decide makes the record what is known of its pod. k.mu is held.
func (k *Keeper) decide(r *record) verdict {
	if e := enrolmentOf(k.assignment, r); e != nil {
		k.unsaved = r.take(e) || k.unsaved
		if r.Enrolled {
			return enrol
		}
		return pass
	}
	if k.assignment == nil && r.Enrolled {
		return enrol // as the last controller said
	}
	if k.assignment != nil && r.Enrolled {
		r.Enrolled, r.Drain, k.unsaved = false, cmp.Or(r.Drain, defaultDrain), true // released
	}
	if enrolled, known := k.namespaces[r.Name.Namespace]; known && !enrolled {
		return pass
	}
	return unknown
}

// apply makes what is in force match the records, tells proxies and controller, and saves. What fails is tried again
// later. A keeper that was superseded does nothing. k.mu is held.
func (k *Keeper) apply() error {
	if k.blind {
		return nil
	}
	return k.owner.act(k.enforce)
}

func (k *Keeper) enforce() error {
	var desired []*record
	served := k.leaving()
	for _, r := range k.records {
		if r.Enrolled {
			desired = append(desired, r)
		}
		if r.Enrolled || r.captured {
			served = append(served, r)
		}
	}
	slices.SortFunc(desired, func(a, b *record) int { return cmp.Compare(a.UID, b.UID) })
	k.allow(served) // before the first connection is captured: it needs sockets and a signature at once
	err := k.set(desired)
	if k.suspended && len(k.proxies) > 0 {
		err = errors.Join(err, k.resume())
	}
	for _, r := range k.records {
		if r.captured && !r.Enrolled {
			k.left(r)
		}
	}
	for _, r := range desired {
		err = errors.Join(err, k.tell(r))
	}
	k.report(desired)
	k.save()
	if k.dirty = err != nil; k.dirty {
		poke(k.wake)
	}
	return err
}

func (k *Keeper) set(desired []*record) error {
	var captures []Capture
	for _, r := range desired {
		captures = append(captures, Capture{UID: r.UID, NetNS: r.netns, Addrs: r.Addrs, ProbePorts: r.ProbePorts})
	}
	if err := k.cfg.Redirect.Set(captures); err != nil {
		return fmt.Errorf("set redirect: %w", err)
	}
	return nil
}

// left tells the proxies that a pod has left.
func (k *Keeper) left(r *record) {
	r.captured, r.told, r.left = false, false, time.Now()
	k.tellLeft(r)
	k.counters.add("pods_left", 1)
	k.cfg.Log.Info("pod left the mesh", "pod", r.Name, "uid", r.UID, "drain", r.Drain)
}

func (k *Keeper) tellLeft(r *record) {
	for p := range k.proxies {
		p.Left(r.UID, r.Drain)
	}
}

// tell hands the pod's listeners to the proxies if it is newly captured or has changed.
func (k *Keeper) tell(r *record) error {
	if r.captured && r.told {
		return nil
	}
	if err := k.handOver(r, slices.Collect(maps.Keys(k.proxies))...); err != nil {
		r.captured = false
		return err
	}
	if !r.captured {
		k.counters.add("pods_captured", 1)
		k.cfg.Log.Info("pod captured", "pod", r.Name, "uid", r.UID, "account", r.Account, "addrs", r.Addrs)
	}
	if r.Ran && !r.captured {
		poke(k.joined)
	}
	r.captured, r.told = true, true
	return nil
}

// handOver gives each proxy listeners of its own. It fails if the pod is not captured, even when there is no proxy.
func (k *Keeper) handOver(r *record, proxies ...socket.Handler) error {
	if len(proxies) == 0 {
		listeners, err := k.cfg.Redirect.Listeners(r.UID)
		closeListeners(listeners)
		if err != nil {
			return fmt.Errorf("listeners of %s: %w", r.Name, err)
		}
	}
	for _, p := range proxies {
		listeners, err := k.cfg.Redirect.Listeners(r.UID)
		if err != nil {
			return fmt.Errorf("listeners of %s: %w", r.Name, err)
		}
		p.Enrolled(r.pod(), listeners)
		if r.earlier != (socket.Earlier{}) {
			p.Earlier(r.UID, r.earlier)
		}
	}
	return nil
}

// report tells the controller what is captured, and asks for the keys that are needed.
func (k *Keeper) report(desired []*record) {
	captured := map[string][]netip.Addr{}
	live := k.leaving()
	for _, r := range desired {
		if r.captured {
			captured[r.UID] = r.Addrs
			live = append(live, r)
		}
	}
	var seen uint64
	if k.assignment != nil {
		seen = k.assignment.Version
	}
	k.allow(live)
	k.controller.SetCaptured(seen, captured)
}

// leaveGrace is how long the proxy may still sign and dial for a pod that has left: connections that were accepted in its
// last moment have their handshakes before them.
const leaveGrace = 2 * time.Second

// leaving are the pods that have left a moment ago. k.mu is held.
func (k *Keeper) leaving() (pods []*record) {
	for _, r := range k.records {
		if !r.captured && !r.left.IsZero() && time.Since(r.left) < leaveGrace {
			pods = append(pods, r)
		}
	}
	return pods
}

// endGrace reports whether a pod's grace has ended since it was asked last.
func (k *Keeper) endGrace() (ended bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, r := range k.records {
		if !r.left.IsZero() && time.Since(r.left) >= leaveGrace {
			r.left, ended = time.Time{}, true
		}
	}
	return ended
}

// allow has sockets made in these pods and the keyring sign for their accounts, and hold the keys of those that are to start.
func (k *Keeper) allow(pods []*record) {
	live, uids := map[mesh.Account]bool{}, make([]string, 0, len(pods))
	for _, r := range pods {
		live[r.Account] = true
		uids = append(uids, r.UID)
	}
	k.sockets.set(uids)
	wanted := maps.Clone(live)
	if k.assignment != nil {
		for _, e := range k.assignment.Pods {
			if e.Enrolled {
				wanted[e.Account] = true // before its pod starts
			}
		}
	}
	k.keys.want(wanted, live)
}

// sweepEvery is the pause between looks for running pods that no ADD named; forgetEvery between those for pods that have gone.
const sweepEvery, forgetEvery = time.Second, 5 * time.Second

// retryEvery is the pause between attempts to put in force what failed.
const retryEvery = time.Second

// watchPods tries again what failed, forgets pods whose namespace has gone, and looks for running pods that no ADD named.
func (k *Keeper) watchPods(ctx context.Context) error {
	sweep := time.NewTicker(sweepEvery)
	defer sweep.Stop()
	forgot := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-sweep.C:
			if time.Since(forgot) >= forgetEvery {
				forgot = time.Now()
				k.forgetGone()
			}
			ended := k.endGrace()
			if k.search() || ended {
				k.reapply()
			}
		case <-k.wake:
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(retryEvery):
			}
			k.reapply()
		}
	}
}

func (k *Keeper) reapply() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, r := range k.records {
		k.decide(r)
	}
	if err := k.apply(); err != nil && !errors.Is(err, errSuperseded) {
		k.cfg.Log.Error("not wholly in force", "err", err)
	}
}

// drop forgets a pod that has gone: there is nobody any more whose connections could end well. k.mu is held, and the caller
// applies.
func (k *Keeper) drop(r *record) {
	if k.records[r.Cookie] != r {
		return
	}
	r.Drain = 0
	if r.captured {
		k.left(r)
	} else {
		k.tellLeft(r)
	}
	k.forget(r)
}

// forget forgets a record. k.mu is held.
func (k *Keeper) forget(r *record) {
	delete(k.records, r.Cookie)
	k.unsaved = true
	if err := r.netns.Close(); err != nil {
		k.cfg.Log.Warn("namespace not closed", "pod", r.Name, "err", err)
	}
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
