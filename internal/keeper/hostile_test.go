package keeper

import (
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.io/fairlead/internal/cni"
	"fairlead.io/fairlead/internal/keeper/socket"
	"fairlead.io/fairlead/internal/mesh"
)

// client connects a proxy over the real socket.
func (f *fixture) client(h socket.Handler) *socket.Client {
	f.t.Helper()
	var c *socket.Client
	eventually(f.t, "the keeper listens", func() (ok bool) {
		var err error
		c, err = socket.Dial(f.t.Context(), f.cfg.ProxySocket)
		return err == nil
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx, h) }()
	f.t.Cleanup(func() { cancel(); <-done })
	return c
}

// A proxy that has been taken over, against a whole keeper: it signs nothing but handshakes of its own pods, and what it
// asks for too often is refused; meanwhile pods start.
func TestHostileProxy(t *testing.T) {
	f := newFixture(t)
	k, _ := f.run()
	f.assigned(k, enrolled("web"), mesh.Enrolment{UID: "uid-idle", Name: mesh.Name{Namespace: "shop", Name: "idle"},
		Account: mesh.Account{Namespace: "shop", Name: "idle"}, Enrolled: true})
	mustAdd(t, k, f.request(cni.Add, "shop", "web"))
	eventually(t, "all certificates are here", func() bool { return len(k.keys.certificates()) == 3 })
	p := newFakeProxy()
	c := f.client(p)
	eventually(t, "the proxy has the certificates", func() bool { _, ok := p.certificate(shop); return ok })
	leafOf := func(a mesh.Account) [32]byte {
		c, ok := p.certificate(a)
		if !ok {
			t.Fatalf("no certificate of %s", a)
		}
		return sha256.Sum256(c.Chain[0])
	}
	ctx := t.Context()
	if _, err := c.Sign(ctx, shop, leafOf(shop), handshake()); err != nil {
		t.Fatalf("a handshake of a live pod: %v", err)
	}
	if _, err := c.Sign(ctx, mesh.Account{}, leafOf(mesh.Account{}), handshake()); err != nil {
		t.Fatalf("a handshake of the proxy itself: %v", err)
	}
	own, err := k.keys.Certificate()
	if err != nil {
		t.Fatal(err)
	}
	idle := mesh.Account{Namespace: "shop", Name: "idle"}
	for name, ask := range map[string]struct {
		account mesh.Account
		leaf    [32]byte
	}{
		"an unknown account":              {mesh.Account{Namespace: "bank", Name: "teller"}, leafOf(shop)},
		"an account without a live pod":   {idle, leafOf(idle)},
		"another certificate's key":       {shop, leafOf(idle)},
		"the keeper's own key":            {mesh.Account{}, sha256.Sum256(own.Certificate[0])},
		"an account that is half a name":  {mesh.Account{Namespace: "shop"}, leafOf(shop)},
		"an account that is a path":       {mesh.Account{Namespace: "..", Name: "keeper"}, sha256.Sum256(own.Certificate[0])},
		"the account by the joined names": {mesh.Account{Namespace: "shop_web"}, leafOf(shop)},
	} {
		if _, err := c.Sign(ctx, ask.account, ask.leaf, handshake()); !errors.Is(err, socket.ErrUnknownAccount) {
			t.Errorf("sign for %s: %v", name, err)
		}
	}

	limited := 0
	for range signBurst + signBurst/2 {
		if _, err := c.Sign(ctx, shop, leafOf(shop), handshake()); errors.Is(err, socket.ErrLimited) {
			limited++
			break
		} else if err != nil {
			t.Fatal(err)
		}
		(*proxyCalls)(k).keys.signing.of("account_shop_web").AllowN(time.Now(), 16) // as if sixteen more had asked
	}
	if limited == 0 {
		t.Error("signatures are not limited")
	}
	got, limited := 0, 0
	for range 4 * socketBurst / socket.MaxBatch {
		fds, err := c.Sockets(ctx, "uid-web", 4, socket.MaxBatch)
		for _, fd := range fds {
			unix.Close(fd)
		}
		if got += len(fds); errors.Is(err, socket.ErrLimited) {
			limited++
			break
		}
		(*proxyCalls)(k).sockets.of("uid-web").AllowN(time.Now(), 8*socket.MaxBatch)
	}
	if limited == 0 || got > socketBurst {
		t.Errorf("%d sockets, limited %d times", got, limited)
	}
	if _, err := c.Sockets(ctx, "uid-other", 4, 1); !errors.Is(err, socket.ErrUnknownPod) {
		t.Errorf("sockets in an unknown pod: %v", err)
	}
	verdicts, err := c.Verdicts(ctx)
	if err != nil || verdicts["redirect_captured"] != 3 || verdicts["keeper_signatures_limited"] == 0 || verdicts["keeper_sockets_limited"] == 0 || verdicts["keeper_signatures_refused"] < 6 {
		t.Errorf("verdicts: %v, %v", verdicts, err)
	}

	if _, err := c.Sign(ctx, shop, leafOf(shop), []byte("transfer all the money")); !errors.Is(err, socket.ErrClosed) {
		t.Errorf("sign what is no handshake: %v, want the end of the connection", err)
	}
	again := f.client(newFakeProxy())
	fd, err := socket.Memfd([]byte("a state that nobody signed"))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := again.SaveState(ctx, fd); !errors.Is(err, socket.ErrClosed) {
		t.Errorf("save a state that nobody signed: %v, want the end of the connection", err)
	}
	if _, err := os.Stat(f.cfg.StateDir + "/" + stateFile); err == nil {
		t.Error("the state is on disk")
	}
	eventually(t, "both violations are counted", func() bool {
		v := k.proxy.Violations()
		return v[socket.BadContent] == 1 && v[socket.BadState] == 1
	})
	if err := k.CNI(ctx, f.request(cni.Del, "shop", "web")); err != nil {
		t.Error(err)
	}
	mustAdd(t, k, f.request(cni.Add, "shop", "web"))
}
