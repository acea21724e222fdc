package keeper

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"fairlead.io/fairlead/internal/identity"
)

// TestRootsThatCameWhileTheControllerWasAway: a keeper that was cut off while the roots were changed knows the new ones when
// they are in its file. While the controller can be reached, its word counts alone.
func TestRootsThatCameWhileTheControllerWasAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		k := f.open()
		defer k.close()
		before := k.cfg.Bundle.PEM()
		other, err := identity.NewCA(k.cfg.Bundle.TrustDomain())
		if err != nil {
			t.Fatal(err)
		}
		type file struct {
			text []byte
			err  error
		}
		var mounted atomic.Pointer[file]
		mounted.Store(&file{err: errors.New("not mounted")})
		k.cfg.Roots = func() ([]byte, error) { f := mounted.Load(); return f.text, f.err }
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- k.watchRoots(ctx) }()
		defer func() { cancel(); <-done }()
		pass := func() {
			time.Sleep(2 * rootsEvery) // synctest: no real time
			synctest.Wait()
		}
		pass()
		if !bytes.Equal(k.cfg.Bundle.PEM(), before) {
			t.Error("changed by a file that cannot be read")
		}
		mounted.Store(&file{text: append(bytes.Clone(before), other.RootPEM()...)})
		pass()
		if k.cfg.Bundle.Len() != 2 {
			t.Fatalf("%d roots, want the file's two", k.cfg.Bundle.Len())
		}
		mounted.Store(&file{text: []byte("no roots at all")})
		pass()
		if k.cfg.Bundle.Len() != 2 {
			t.Error("the last good roots are not in force")
		}
		f.controller.up.Store(true)
		mounted.Store(&file{text: other.RootPEM()})
		pass()
		if k.cfg.Bundle.Len() != 2 {
			t.Error("the file counts though the controller can be reached")
		}
	})
}
