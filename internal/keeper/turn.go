package keeper

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"fairlead.io/fairlead/internal/cni"
	"fairlead.io/fairlead/internal/keeper/socket"
)

// During an update two keepers live on a node, each with its own proxy, and one of them decides. The other waits for its turn,
// which has come when its own proxy serves, or when no other keeper lives. So a proxy that never comes up costs a node
// nothing but the update: until then the one before goes on in full, and after that it is there to take its place again.

// ErrAgain is returned by Run when the keeper that had taken over is to decide no longer. Whoever runs keepers opens one anew.
var ErrAgain = errors.New("the keeper that had taken over has gone")

// turnEvery is how often a keeper looks whether it is still, or again, its turn.
const turnEvery = 250 * time.Millisecond

// turns waits for its turn, decides, and after that waits in case that there is nobody else any more.
func (k *Keeper) turns(ctx context.Context) error {
	if err := k.awaitTurn(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	if err := k.own(ctx); !errors.Is(err, errSuperseded) {
		return err
	}
	for every(ctx, turnEvery) {
		vacant, err := k.owner.vacant()
		if err != nil {
			return err
		}
		if vacant && !k.ending.Load() {
			return ErrAgain
		}
	}
	return nil
}

// every waits once. It returns false when ctx has ended.
func every(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

func (k *Keeper) awaitTurn(ctx context.Context) error {
	said := false
	for ctx.Err() == nil {
		others, err := k.owner.others()
		if err != nil {
			return err
		}
		k.mu.Lock()
		mine := k.turn || !others || len(k.serving) > 0
		k.mu.Unlock()
		if mine {
			return k.takeTurn()
		}
		if !said {
			said = true
			k.cfg.Log.Info("another keeper decides; this one takes over when its own proxy serves")
		}
		select {
		case <-ctx.Done():
		case <-k.served:
		case <-time.After(turnEvery):
		}
	}
	return nil
}

// takeTurn makes this the keeper that decides: the plugin asks it from now on, and what is on disk is put in force, with
// listeners of its own in every pod. Doing it twice does no harm.
func (k *Keeper) takeTurn() error {
	if k.owner.claimed.Load() {
		return nil
	}
	if err := k.owner.claim(); err != nil {
		return err
	}
	plugin, err := cni.Listen(k.cfg.CNISocket, k, k.cfg.Log)
	if err != nil {
		return err
	}
	k.plugin = plugin
	k.keys.load() // what the one before has got meanwhile
	k.restoreState()
	k.mu.Lock()
	defer k.mu.Unlock()
	for p := range k.proxies {
		for _, c := range k.keys.certificates() {
			p.Certificate(c)
		}
	}
	k.turn, k.awaySince = true, time.Now()
	if len(k.proxies) > 0 {
		k.awaySince = time.Time{}
	}
	k.restore()
	for p := range k.proxies {
		if !k.blind {
			p.Synced()
		}
	}
	return nil
}

// own does all that only the keeper that decides does. It returns errSuperseded when another one does.
func (k *Keeper) own(ctx context.Context) error {
	k.lookForOthers()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return k.tend(ctx) })
	group.Go(func() error { return k.listen(ctx) })
	group.Go(func() error { return k.follow(ctx) })
	group.Go(func() error { return k.watchProxy(ctx) })
	group.Go(func() error { return k.watchPods(ctx) })
	group.Go(func() error { return k.watchOthers(ctx) })
	group.Go(func() error { return k.watchEarlier(ctx) })
	group.Go(func() error { return k.plugin.Run(ctx) })
	if k.cfg.Beside != nil {
		group.Go(func() error { return k.cfg.Beside(ctx) })
	}
	return group.Wait()
}

// tend looks after the kernel's side, and ends when another keeper decides: then nothing new comes to this one's proxy,
// which has to know.
func (k *Keeper) tend(ctx context.Context) error {
	said := ""
	for every(ctx, turnEvery) {
		err := k.owner.act(func() error {
			now := fmt.Sprint(k.cfg.Redirect.Sweep())
			if now != said && now != fmt.Sprint(nil) {
				k.cfg.Log.Warn("sweep", "err", now)
			}
			said = now
			return nil
		})
		if errors.Is(err, errSuperseded) {
			k.cfg.Log.Info("another keeper has taken over; this one serves its proxy only")
			k.mu.Lock()
			defer k.mu.Unlock()
			for p := range k.proxies {
				p.Superseded()
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// listen runs the stream from the controller as soon as the keeper can show who it is.
func (k *Keeper) listen(ctx context.Context) error {
	if !k.keys.await(ctx) {
		return nil
	}
	return k.controller.Run(ctx)
}

// linger lets the keeper's own proxy end its connections, which takes signatures and sockets, and meanwhile another keeper
// take its turn. Without another one it decides to the last.
func (k *Keeper) linger(ctx context.Context) {
	k.ending.Store(true)
	ctx, cancel := context.WithTimeout(ctx, k.cfg.Linger)
	defer cancel()
	for k.hasProxy() && every(ctx, 20*time.Millisecond) {
		k.release()
	}
}

// release lets another keeper decide whose proxy serves, if there is one.
func (k *Keeper) release() bool {
	released, err := k.owner.release()
	if err != nil {
		k.cfg.Log.Error("not released", "err", err)
	}
	return released
}

func (k *Keeper) hasProxy() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.proxies) > 0
}

// Serving is a proxy that could take its pods over.
func (p *proxyCalls) Serving(h socket.Handler) {
	k := (*Keeper)(p)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.proxies[h] {
		k.serving[h] = true
		k.showService()
		poke(k.served)
	}
}

// showService is called with k.mu held.
func (k *Keeper) showService() {
	if err := k.owner.serve(len(k.serving) > 0); err != nil {
		k.cfg.Log.Error("service not shown to other keepers", "err", err)
	}
}

// Pending are the things without which the keeper cannot do its work yet.
func (k *Keeper) Pending() (tasks []string) {
	select {
	case <-k.keys.ready:
	default:
		tasks = append(tasks, "certificate of the keeper")
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case !k.turn:
		tasks = append(tasks, "its own proxy, to take over from another keeper")
	case k.blind:
		tasks = append(tasks, "pods of this node, from the controller")
	}
	return tasks
}
