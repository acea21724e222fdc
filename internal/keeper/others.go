package keeper

import (
	"context"
	"slices"
	"time"
)

// watchOthers tells the proxies which programs of others see every connect(): one of them may be why a pod dials an address
// that its app did not. Who attaches and detaches programs tells nobody, so it is asked again and again.
func (k *Keeper) watchOthers(ctx context.Context) error {
	t := time.NewTicker(k.cfg.OthersEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			k.lookForOthers()
		}
	}
}

// lookForOthers asks the kernel. What cannot be told leaves it as it was.
func (k *Keeper) lookForOthers() {
	found, err := k.cfg.Redirect.Others()
	k.mu.Lock()
	defer k.mu.Unlock()
	if failed := err != nil; failed != k.othersFailed {
		k.othersFailed = failed
		if failed {
			k.cfg.Log.Warn("programs of others cannot be listed", "err", err)
		}
	}
	if err != nil || slices.Equal(found, k.others) {
		return
	}
	k.others = found
	k.cfg.Log.Info("programs of others that see every connect", "programs", found)
	for p := range k.proxies {
		p.Others(found)
	}
}
