package keeper

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/cni"
)

// begin runs a keeper as its program does: a new one when the last says so. current is the one that runs.
func (f *fixture) begin() (current func() *Keeper, stop func()) {
	f.t.Helper()
	keepers := make(chan *Keeper, 1)
	keepers <- f.open()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	current = func() *Keeper {
		k := <-keepers
		keepers <- k
		return k
	}
	go func() {
		for {
			err := current().Run(ctx)
			if !errors.Is(err, ErrAgain) {
				done <- err
				return
			}
			<-keepers
			keepers <- f.open()
		}
	}()
	var ended bool
	stop = func() {
		if ended {
			return
		}
		ended = true
		cancel()
		if err := <-done; err != nil {
			f.t.Errorf("keeper: %v", err)
		}
	}
	f.t.Cleanup(stop)
	return current, stop
}

// serving attaches a proxy that could serve to a keeper.
func serving(k *Keeper) *fakeProxy {
	p := newFakeProxy()
	(*proxyCalls)(k).Attached(p)
	(*proxyCalls)(k).Serving(p)
	return p
}

const itsPod = "enrolled shop/web shop/web [10.0.0.7] with 2"

// takenOver is a node with one pod, whose earlier keeper has been taken over from.
func takenOver(t *testing.T) (f *fixture, old func() *Keeper, stopOld func(), later *Keeper, stopLater func()) {
	t.Helper()
	f = newFixture(t)
	old, stopOld = f.begin()
	f.assigned(old(), enrolled("web"))
	mustAdd(t, old(), f.request(cni.Add, "shop", "web"))
	p := serving(old())
	later, stopLater = f.run()
	q := serving(later)
	eventually(t, "the later one has taken over", func() bool { return q.saw(itsPod) && q.saw("synced") && p.saw("superseded") })
	return f, old, stopOld, later, stopLater
}

// The keeper that took over ends, or dies, as when an update is taken back: the one before it takes its place again.
func TestTheEarlierKeeperTakesItsPlaceAgain(t *testing.T) {
	f, old, _, _, stopLater := takenOver(t)
	before := old()
	stopLater()
	eventually(t, "the earlier one begins anew", func() bool { return old() != before })
	p := serving(old())
	if !p.saw(itsPod) || !p.saw("synced") {
		t.Errorf("its proxy was told %q", p.all())
	}
	f.assigned(old(), enrolled("web"), enrolled("new"))
	mustAdd(t, old(), f.request(cni.Add, "shop", "new"))
	if got := f.redirect.uids(); !slices.Equal(got, []string{"uid-new", "uid-web"}) {
		t.Errorf("captured %v", got)
	}
}

// The keeper that took over loses its proxy: before it refuses connections it lets the other one, whose proxy serves.
func TestAKeeperWithoutAProxyLetsTheOther(t *testing.T) {
	f, old, _, later, _ := takenOver(t)
	before := old()
	later.mu.Lock()
	var proxies []*fakeProxy
	for h := range later.proxies {
		proxies = append(proxies, h.(*fakeProxy))
	}
	later.mu.Unlock()
	for _, q := range proxies {
		(*proxyCalls)(later).Detached(q)
	}
	later.mu.Lock()
	later.awaySince = later.awaySince.Add(-time.Hour)
	later.mu.Unlock()
	later.suspendIfAway()
	if f.redirect.isSuspended() {
		t.Error("connections are refused though another keeper's proxy serves")
	}
	eventually(t, "the earlier one begins anew", func() bool { return old() != before })
	p := serving(old())
	eventually(t, "it has taken over", func() bool { return p.saw(itsPod) && p.saw("synced") })
}

// A keeper that is told to end waits for its proxy, and lets another decide meanwhile.
func TestLinger(t *testing.T) {
	f := newFixture(t)
	f.cfg.Linger = time.Minute
	k := f.open()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx) }()
	f.assigned(k, enrolled("web"))
	p := serving(k)
	cancel()
	eventually(t, "it knows that it is to end", func() bool { return k.ending.Load() })
	mustAdd(t, k, f.request(cni.Add, "shop", "web")) // alone, it decides to the last
	if !p.saw(itsPod) {
		t.Errorf("the proxy was told %q", p.all())
	}
	f.cfg.Linger = 0
	later, _ := f.run()
	q := serving(later)
	eventually(t, "the later one has taken over", func() bool { return q.saw(itsPod) && p.saw("superseded") })
	select {
	case err := <-done:
		t.Fatalf("it has ended before its proxy: %v", err)
	default:
	}
	(*proxyCalls)(k).Detached(p)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := f.redirect.uids(); !slices.Equal(got, []string{"uid-web"}) {
		t.Errorf("captured behind its end: %v", got)
	}
}

// Linger has an end, whatever the proxy does.
func TestLingerEnds(t *testing.T) {
	f := newFixture(t)
	f.cfg.Linger = 50 * time.Millisecond
	k := f.open()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx) }()
	serving(k)
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it does not end")
	}
}

// A keeper that waits for its proxy takes over at once when there is no other any more.
func TestNobodyElseIsLeft(t *testing.T) {
	f := newFixture(t)
	old, stopOld := f.begin()
	f.assigned(old(), enrolled("web"))
	mustAdd(t, old(), f.request(cni.Add, "shop", "web"))
	eventually(t, "the account has its certificate", func() bool { return f.count("account_shop_web") == 1 })
	later, _ := f.run()
	stopOld()
	eventually(t, "it is its turn", func() bool { return len(later.Pending()) == 0 })
	p := newFakeProxy()
	(*proxyCalls)(later).Attached(p)
	if _, ok := p.certificate(shop); !ok || !p.saw(itsPod) {
		t.Errorf("its proxy was told %q, certificate %v", p.all(), ok)
	}
	if n := f.count("account_shop_web"); n != 1 {
		t.Errorf("%d certificates were issued, want the one of before", n)
	}
	if alive, err := Alive(f.cfg.StateDir); !alive || err != nil {
		t.Errorf("alive: %v, %v", alive, err)
	}
}

// The numbers tell who lives and who serves, and nothing of a process that has gone.
func TestOwner(t *testing.T) {
	dir := t.TempDir()
	if alive, err := Alive(dir); alive || err != nil {
		t.Errorf("in an empty directory: %v, %v", alive, err)
	}
	keepers := map[string]*owner{}
	for _, name := range []string{"a", "b"} {
		o, err := join(dir)
		if err != nil {
			t.Fatal(err)
		}
		keepers[name] = o
	}
	a, b := keepers["a"], keepers["b"]
	if err := a.check(); !errors.Is(err, errSuperseded) {
		t.Errorf("before any claim: %v", err)
	}
	if err := errors.Join(a.claim(), a.check(), b.claim(), b.check()); err != nil {
		t.Error(err)
	}
	if err := a.check(); !errors.Is(err, errSuperseded) {
		t.Errorf("the earlier one: %v", err)
	}
	select {
	case <-a.gone:
	default:
		t.Error("it has not noticed")
	}
	for _, want := range []bool{false, true} { // the other's proxy serves
		if released, err := b.release(); released != want || err != nil {
			t.Errorf("released %v, %v, want %v", released, err, want)
		}
		if vacant, err := a.vacant(); vacant != want || err != nil {
			t.Errorf("vacant %v, %v, want %v", vacant, err, want)
		}
		if err := a.serve(true); err != nil {
			t.Error(err)
		}
	}
	if err := errors.Join(a.serve(false), b.claim()); err != nil {
		t.Error(err)
	}
	if released, err := b.release(); released || err != nil {
		t.Errorf("to one whose proxy has gone: %v, %v", released, err)
	}
	if err := b.file.Close(); err != nil {
		t.Error(err)
	}
	if vacant, err := a.vacant(); !vacant || err != nil {
		t.Errorf("the owner has died: %v, %v", vacant, err)
	}
	if others, err := a.others(); others || err != nil {
		t.Errorf("alone: %v, %v", others, err)
	}
	if err := a.file.Close(); err != nil {
		t.Error(err)
	}
	if alive, err := Alive(dir); alive || err != nil {
		t.Errorf("nobody is left: %v, %v", alive, err)
	}
}
