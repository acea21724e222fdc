package keeper

import (
	"context"
	"time"
)

// earlierShare bounds what counting costs: for each moment that it took, so many pass before the next.
const earlierShare = 50

// watchEarlier counts the connections that pods have had since before their capture. They stay outside of the mesh until they
// end, and nobody else sees them. It looks at pods that ran when they were captured, and at none any more that has had no such
// connection once: there will not be another.
func (k *Keeper) watchEarlier(ctx context.Context) error {
	for {
		took := k.countEarlier(ctx)
		if !every(ctx, earlierShare*took) {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-k.joined:
		case <-time.After(k.cfg.EarlierEvery):
		}
	}
}

// countEarlier counts where it is time to, and tells the proxies what has changed.
func (k *Keeper) countEarlier(ctx context.Context) (took time.Duration) {
	began := time.Now()
	due := k.dueEarlier(began)
	if len(due) == 0 {
		return 0
	}
	uids := make([]string, 0, len(due))
	for uid := range due {
		uids = append(uids, uid)
	}
	counts, err := k.cfg.Redirect.Earlier(ctx, uids)
	k.mu.Lock()
	defer k.mu.Unlock()
	if failed := err != nil; failed != k.earlierFailed {
		k.earlierFailed = failed
		if failed {
			k.cfg.Log.Warn("connections from before the capture cannot be counted", "err", err)
		}
	}
	for uid, r := range due {
		e, ok := counts[uid]
		if !ok || k.records[r.Cookie] != r || r.UID != uid || !r.captured {
			continue
		}
		if e.Connections == 0 && !e.More {
			r.Ran, k.unsaved = false, true
		}
		if e != r.earlier {
			r.earlier = e
			for p := range k.proxies {
				p.Earlier(uid, e)
			}
		}
	}
	return time.Since(began)
}

// dueEarlier are the pods to look at now, by UID.
func (k *Keeper) dueEarlier(now time.Time) map[string]*record {
	k.mu.Lock()
	defer k.mu.Unlock()
	due := map[string]*record{}
	for _, r := range k.records {
		if r.Ran && r.captured && now.Sub(r.counted) >= k.cfg.EarlierEvery {
			r.counted = now
			due[r.UID] = r
		}
	}
	return due
}
