package keeper

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"fairlead.io/fairlead/internal/control"
	"fairlead.io/fairlead/internal/control/controlpb"
	"fairlead.io/fairlead/internal/identity"
	"fairlead.io/fairlead/internal/keeper/socket"
)

// signedState is what the controller signed for a node at that time.
func (f *fixture) signedState(node string, at time.Time) []byte {
	f.t.Helper()
	id, err := identity.ControllerID(f.ca.TrustDomain())
	if err != nil {
		f.t.Fatal(err)
	}
	c, err := f.ca.Issue(identity.Request{ID: id, TTL: time.Hour})
	if err != nil {
		f.t.Fatal(err)
	}
	raw, err := proto.Marshal(&controlpb.State{Node: node, SignedAt: at.Unix(), Delta: &controlpb.Delta{Reset_: true}})
	if err != nil {
		f.t.Fatal(err)
	}
	digest := sha256.Sum256(append([]byte("fairlead signed state v1\x00"), raw...))
	signature, err := c.PrivateKey.(crypto.Signer).Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		f.t.Fatal(err)
	}
	text, err := proto.Marshal(&controlpb.SignedState{State: raw, Signature: signature, Chain: c.Certificate})
	if err != nil {
		f.t.Fatal(err)
	}
	return text
}

// save has a proxy save a state.
func (f *fixture) save(k *Keeper, state []byte) error {
	f.t.Helper()
	fd, err := socket.Memfd(state)
	if err != nil {
		f.t.Fatal(err)
	}
	defer unix.Close(fd)
	return (*proxyCalls)(k).SaveState(fd)
}

// savedAt is when the state that a proxy would load was signed.
func (f *fixture) savedAt(k *Keeper) time.Time {
	f.t.Helper()
	fd, err := (*proxyCalls)(k).LoadState()
	if err != nil {
		f.t.Fatal(err)
	}
	state, err := socket.ReadState(fd)
	if err != nil {
		f.t.Fatal(err)
	}
	_, at, err := control.OpenState(state, f.bundle, node)
	if err != nil {
		f.t.Fatal(err)
	}
	return at
}

// A proxy that has been taken over cannot have the world of yesterday kept, nor another node's, before or after a
// restart of the keeper.
func TestHostileReplay(t *testing.T) {
	f := newFixture(t)
	now := time.Now().Truncate(time.Second)
	older, newer, foreign := f.signedState(node, now.Add(-30*time.Second)), f.signedState(node, now), f.signedState("node-2", now)
	k, stop := f.run()
	for _, state := range [][]byte{older, newer} {
		if err := f.save(k, state); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(k *Keeper) {
		t.Helper()
		if err := f.save(k, older); err == nil {
			t.Error("an older state took the place of a newer one")
		}
		var v *socket.Violation
		if err := f.save(k, foreign); !errors.As(err, &v) || v.Kind != socket.BadState {
			t.Errorf("the state of another node: %v, want a violation", err)
		}
		if at := f.savedAt(k); !at.Equal(now) {
			t.Errorf("the state that is kept was signed at %v, want %v", at, now)
		}
	}
	refused(k)
	stop()
	k, _ = f.run()
	refused(k)
	if aside, _ := filepath.Glob(filepath.Join(f.cfg.StateDir, "*.damaged-*")); len(aside) != 0 {
		t.Errorf("set aside: %v", aside)
	}
	if err := f.save(k, newer); err != nil { // the same once more is no replay
		t.Errorf("the newest state again: %v", err)
	}
	for range stateBurst {
		if err := f.save(k, newer); errors.Is(err, socket.ErrLimited) {
			return
		}
	}
	t.Error("saving is not limited")
}
