package keeper

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/netip"
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

// besieged is a whole keeper with the captured pod web and the pod idle, which is to be captured and has not started,
// and a proxy that has been taken over.
func besieged(t *testing.T) (*fixture, *Keeper, *socket.Client, func(mesh.Account) [32]byte) {
	f := newFixture(t)
	k, _ := f.run()
	f.assigned(k, enrolled("web"), mesh.Enrolment{UID: "uid-idle", Name: mesh.Name{Namespace: "shop", Name: "idle"}, Account: idle, Enrolled: true})
	mustAdd(t, k, f.request(cni.Add, "shop", "web"))
	eventually(t, "all certificates are here", func() bool { return len(k.keys.certificates()) == 3 })
	p := newFakeProxy()
	c := f.client(p)
	eventually(t, "the proxy has the certificates", func() bool {
		_, web := p.certificate(shop)
		_, own := p.certificate(mesh.Account{})
		_, other := p.certificate(idle)
		return web && own && other
	})
	return f, k, c, func(a mesh.Account) [32]byte {
		c, _ := p.certificate(a)
		return sha256.Sum256(c.Chain[0])
	}
}

var idle = mesh.Account{Namespace: "shop", Name: "idle"}

// It gets no signature but over handshakes of its own pods.
func TestHostileSignatures(t *testing.T) {
	_, k, c, leafOf := besieged(t)
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
	keeper := sha256.Sum256(own.Certificate[0])
	for name, ask := range map[string]struct {
		account mesh.Account
		leaf    [32]byte
	}{
		"an unknown account":              {mesh.Account{Namespace: "bank", Name: "teller"}, leafOf(shop)},
		"an account without a live pod":   {idle, leafOf(idle)},
		"another certificate's key":       {shop, leafOf(idle)},
		"the keeper's own key":            {mesh.Account{}, keeper},
		"an account that is half a name":  {mesh.Account{Namespace: "shop"}, leafOf(shop)},
		"an account that is a path":       {mesh.Account{Namespace: "..", Name: "keeper"}, keeper},
		"the account by the joined names": {mesh.Account{Namespace: "shop_web"}, leafOf(shop)},
	} {
		if _, err := c.Sign(ctx, ask.account, ask.leaf, handshake()); !errors.Is(err, socket.ErrUnknownAccount) {
			t.Errorf("sign for %s: %v", name, err)
		}
	}
	if v, err := c.Verdicts(ctx); err != nil || v["keeper_signatures_refused"] != 7 || v["keeper_signatures"] < 2 {
		t.Errorf("counted: %v, %v", v, err)
	}
}

// What it asks for too often is refused.
func TestHostileGreed(t *testing.T) {
	_, k, c, leafOf := besieged(t)
	ctx := t.Context()
	limited := false
	for range signBurst/16 + 1 {
		if _, err := c.Sign(ctx, shop, leafOf(shop), handshake()); errors.Is(err, socket.ErrLimited) {
			limited = true
			break
		}
		k.keys.signing.of("account_shop_web").AllowN(time.Now(), 128) // as if so many more had asked
	}
	if !limited {
		t.Error("signatures are not limited")
	}
	got, limited := 0, false
	for range 2 * socketBurst / socket.MaxBatch {
		fds, err := c.Sockets(ctx, "uid-web", 4, socket.MaxBatch)
		for _, fd := range fds {
			unix.Close(fd)
		}
		if got += len(fds); errors.Is(err, socket.ErrLimited) {
			limited = true
			break
		}
		k.sockets.of("uid-web").AllowN(time.Now(), 8*socket.MaxBatch)
	}
	if !limited || got > socketBurst {
		t.Errorf("%d sockets, limited %v", got, limited)
	}
	if _, err := c.Sockets(ctx, "uid-other", 4, 1); !errors.Is(err, socket.ErrUnknownPod) {
		t.Errorf("sockets in an unknown pod: %v", err)
	}
	if _, err := c.Hop(ctx, "uid-other", netip.MustParseAddr("10.0.0.9")); !errors.Is(err, socket.ErrUnknownPod) {
		t.Errorf("hop socket in an unknown pod: %v", err)
	}
	v, err := c.Verdicts(ctx)
	if err != nil || v["redirect_captured"] != 3 || v["keeper_signatures_limited"] == 0 || v["keeper_sockets_limited"] == 0 {
		t.Errorf("counted: %v, %v", v, err)
	}
}

// What is no mistake ends the connection and is counted; meanwhile pods start.
func TestHostileContent(t *testing.T) {
	f, k, c, leafOf := besieged(t)
	ctx := t.Context()
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

// A whole life of a keeper, with pods and proxies that come and go, leaves no descriptor open.
func TestDescriptors(t *testing.T) {
	count := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	life := func(t *testing.T) {
		f, k, c, _ := besieged(t)
		for range 20 {
			mustAdd(t, k, f.request(cni.Add, "shop", "web"))
			if err := k.CNI(t.Context(), f.request(cni.Del, "shop", "web")); err != nil {
				t.Fatal(err)
			}
			mustAdd(t, k, f.request(cni.Add, "shop", "web"))
			f.client(newFakeProxy()).Close()
		}
		c.Close()
	}
	t.Run("first", life) // the runtime opens some of its own
	before := count()
	t.Run("second", life)
	eventually(t, "as many open files as before", func() bool { return count() <= before })
}
