package keeper

import (
	"bytes"
	"context"
	"time"
)

// rootsEvery is how often Config.Roots is read.
const rootsEvery = 5 * time.Second

// watchRoots takes what Config.Roots has that is new, but for the time that the controller tells the roots itself: what it
// says is never older. A keeper that was cut off while the roots were changed finds the way back by it.
func (k *Keeper) watchRoots(ctx context.Context) error {
	if k.cfg.Roots == nil {
		return nil
	}
	last, said := k.cfg.Bundle.PEM(), ""
	for every(ctx, rootsEvery) {
		text, err := k.cfg.Roots()
		if err != nil {
			if err.Error() != said {
				said = err.Error()
				k.cfg.Log.Warn("roots cannot be read", "err", err)
			}
			continue
		}
		said = ""
		if bytes.Equal(text, last) {
			continue
		}
		last = text
		if !k.controller.Connected() {
			k.trust(text)
		}
	}
	return nil
}
