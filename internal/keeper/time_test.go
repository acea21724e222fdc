package keeper

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"fairlead.io/fairlead/internal/cni"
	"fairlead.io/fairlead/internal/identity"
	"fairlead.io/fairlead/internal/keeper/socket"
)

// Without a proxy connections wait for ten seconds; then new ones are refused until it is back, with new listeners.
func TestProxyAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		k := f.open()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- k.watchProxy(ctx) }()
		defer func() { cancel(); <-done; k.close() }()
		calls := (*proxyCalls)(k)
		f.assign(enrolled("web"))
		k.assign(f.controller.Assignment())
		mustAdd(t, k, f.request(cni.Add, "shop", "web"))

		p := newFakeProxy()
		calls.Attached(p)
		time.Sleep(time.Minute) // synctest: no real time
		synctest.Wait()
		if f.redirect.isSuspended() {
			t.Fatal("suspended while a proxy is there")
		}

		calls.Detached(p)
		time.Sleep(10*time.Second - time.Millisecond) // synctest: no real time
		synctest.Wait()
		if f.redirect.isSuspended() {
			t.Fatal("suspended before ten seconds have passed")
		}
		calls.Attached(p) // back in time: the count begins anew
		calls.Detached(p)
		time.Sleep(10*time.Second - time.Millisecond) // synctest: no real time
		synctest.Wait()
		if f.redirect.isSuspended() {
			t.Fatal("suspended before ten seconds have passed since the last proxy")
		}
		time.Sleep(2 * time.Millisecond) // synctest: no real time
		synctest.Wait()
		if !f.redirect.isSuspended() {
			t.Fatal("not suspended after ten seconds")
		}

		mustAdd(t, k, f.request(cni.Add, "plain", "other"))
		next := newFakeProxy()
		calls.Attached(next)
		if f.redirect.isSuspended() {
			t.Error("suspended while a proxy is there")
		}
		if got := next.all(); len(got) != 3 || got[1] != "enrolled shop/web shop/web [10.0.0.7] with 2" || got[2] != "synced" {
			t.Errorf("the next proxy was told %q", got)
		}
	})
}

// A successor is told everything while its predecessor is still there, and its coming does not disturb the first.
func TestSuccessor(t *testing.T) {
	f := newFixture(t)
	k, _ := f.run()
	f.assigned(k, enrolled("web"))
	mustAdd(t, k, f.request(cni.Add, "shop", "web"))
	first, second := newFakeProxy(), newFakeProxy()
	(*proxyCalls)(k).Attached(first)
	(*proxyCalls)(k).Attached(second)
	if n := len(first.all()); n != 3 {
		t.Errorf("the first proxy was told %q", first.all())
	}
	if !second.saw("enrolled shop/web shop/web [10.0.0.7] with 2") {
		t.Errorf("the second proxy was told %q", second.all())
	}
	(*proxyCalls)(k).Detached(first)
	f.assigned(k)
	if !second.saw("left uid-web 7s") || first.saw("left uid-web 7s") {
		t.Errorf("told %q and %q", first.all(), second.all())
	}
	// What has left and then goes is told once more: its connections need no time any more.
	del := f.request(cni.Del, "shop", "web")
	if err := k.CNI(t.Context(), del); err != nil || !second.saw("left uid-web 0s") {
		t.Errorf("DEL: %v, told %q", err, second.all())
	}
}

// At half of its life a certificate is replaced; a handshake that began with the old one can still end.
func TestRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		k := f.open()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- k.keys.run(ctx) }()
		defer func() { cancel(); <-done; k.close() }()
		p := newFakeProxy()
		(*proxyCalls)(k).Attached(p)
		f.assign(enrolled("web"))
		k.assign(f.controller.Assignment())
		mustAdd(t, k, f.request(cni.Add, "shop", "web"))
		sign := func(c socket.Certificate) error {
			_, err := (*proxyCalls)(k).Sign(shop, sha256.Sum256(c.Chain[0]), handshake())
			return err
		}
		time.Sleep(time.Minute) // synctest: no real time
		synctest.Wait()
		first, ok := p.certificate(shop)
		if !ok || f.count("account_shop_web") != 1 {
			t.Fatalf("certificate: %v, issued %d", ok, f.count("account_shop_web"))
		}
		time.Sleep(f.ttl / 4) // not due yet
		synctest.Wait()
		if n := f.count("account_shop_web"); n != 1 {
			t.Errorf("issued %d times after a quarter of its life", n)
		}
		time.Sleep(f.ttl * 2 / 5) // synctest: no real time
		synctest.Wait()
		second, _ := p.certificate(shop)
		if f.count("account_shop_web") != 2 || bytes.Equal(first.Chain[0], second.Chain[0]) {
			t.Fatalf("issued %d times after two thirds of its life", f.count("account_shop_web"))
		}
		if err := errors.Join(sign(first), sign(second)); err != nil {
			t.Errorf("sign with the old and the new: %v", err)
		}

		f.mu.Lock()
		f.away = true
		f.mu.Unlock()
		time.Sleep(f.ttl / 2) // synctest: no real time
		if err := sign(second); err != nil {
			t.Errorf("a valid certificate is not used while renewal fails: %v", err)
		}
		if err := sign(first); !errors.Is(err, socket.ErrUnknownAccount) {
			t.Errorf("sign with an expired certificate: %v", err)
		}
		time.Sleep(f.ttl) // synctest: no real time
		if _, err := k.keys.Certificate(); !errors.Is(err, identity.ErrNoCertificate) {
			t.Errorf("the keeper's own certificate after its end: %v", err)
		}
		f.mu.Lock()
		f.away = false
		f.mu.Unlock()
		time.Sleep(3 * time.Minute) // synctest: no real time
		synctest.Wait()
		if c, err := k.keys.Certificate(); err != nil || time.Until(c.Leaf.NotAfter) < f.ttl/2 {
			t.Errorf("the keeper's own certificate with the controller back: %v", err)
		}
		third, _ := p.certificate(shop)
		if err := sign(third); err != nil {
			t.Errorf("sign after the controller is back: %v", err)
		}
	})
}

// TestSocketsAtOnce: a connection may wait in the listener that a proxy is given, and so it asks for sockets at once.
func TestSocketsAtOnce(t *testing.T) {
	f := newFixture(t)
	k, _ := f.run()
	calls, p := (*proxyCalls)(k), newFakeProxy()
	p.onEnrolled = func(pod socket.Pod) {
		if _, err := calls.Sockets(pod.UID, 4, 1); err != nil {
			t.Errorf("sockets in %s, when the proxy is told of it: %v", pod.Name, err)
		}
		if _, err := calls.Hop(pod.UID, netip.MustParseAddr("10.0.0.9")); err != nil {
			t.Errorf("hop in %s, when the proxy is told of it: %v", pod.Name, err)
		}
	}
	calls.Attached(p)
	f.assigned(k, enrolled("web"))
	mustAdd(t, k, f.request(cni.Add, "shop", "web"))
	if !p.saw("enrolled shop/web shop/web [10.0.0.7] with 2") {
		t.Errorf("proxy was told %q", p.all())
	}
}
