package keeper

import (
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/cni"
	"fairlead.io/fairlead/internal/control"
	"fairlead.io/fairlead/internal/identity"
)

func itoa(n int) string { return strconv.Itoa(n) }

// handshake is what TLS 1.3 has signed.
func handshake() []byte {
	return []byte(strings.Repeat(" ", 64) + "TLS 1.3, server CertificateVerify\x00" + strings.Repeat("h", 32))
}

// Without the controller everything goes on: pods from disk, keys from the tmpfs.
func TestRestartWithTheControllerAway(t *testing.T) {
	f := newFixture(t)
	k, stop := f.run()
	f.assigned(k, enrolled("web"))
	mustAdd(t, k, f.request(cni.Add, "shop", "web"))
	mustAdd(t, k, f.request(cni.Add, "plain", "other"))
	eventually(t, "all certificates are here", func() bool { return len(k.keys.certificates()) == 2 })
	stop()
	if got := f.redirect.uids(); len(got) != 1 {
		t.Fatalf("captured after a clean shutdown: %v", got)
	}

	f.mu.Lock()
	f.away = true
	f.mu.Unlock()
	issued := f.count("account_shop_web")
	k, _ = f.run()
	p := newFakeProxy()
	(*proxyCalls)(k).Attached(p)
	if !p.saw("enrolled shop/web shop/web [10.0.0.7] with 2") {
		t.Errorf("proxy was told %q", p.all())
	}
	c, ok := p.certificate(shop)
	if !ok {
		t.Fatal("no certificate of the account")
	}
	if _, err := (*proxyCalls)(k).Sign(shop, sha256.Sum256(c.Chain[0]), handshake()); err != nil {
		t.Errorf("Sign: %v", err)
	}
	if _, got := f.controller.reported(); !slices.Equal(got, []string{"uid-web"}) {
		t.Errorf("controller is told %v", got)
	}
	if n := f.count("account_shop_web"); n != issued {
		t.Errorf("%d more certificates issued", n-issued)
	}
	again := f.request(cni.Add, "shop", "web") // its sandbox is made again
	again.ContainerID = "second"
	mustAdd(t, k, again)
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.records) != 2 {
		t.Errorf("%d pods are remembered, want the one in the mesh and the other", len(k.records))
	}
}

// A damaged file is set aside; as long as nobody knows what is captured, what is captured stays.
func TestDamagedFiles(t *testing.T) {
	for name, damage := range map[string]string{"empty": "", "cut off": `{"version":1,"po`, "another version": `{"version":9}`,
		"no namespace": `{"version":1,"pods":[{"uid":"x"}]}`} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			k, stop := f.run()
			f.assigned(k, enrolled("web"))
			mustAdd(t, k, f.request(cni.Add, "shop", "web"))
			eventually(t, "the account has its certificate", func() bool { return f.count("account_shop_web") == 1 })
			stop()
			files := []string{filepath.Join(f.cfg.StateDir, podsFile), filepath.Join(f.cfg.StateDir, "namespaces"),
				filepath.Join(f.cfg.StateDir, stateFile), filepath.Join(f.cfg.KeysDir, "account_shop_web.pem")}
			for _, path := range files {
				if err := os.WriteFile(path, []byte(damage), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			sets := f.redirect.sets
			k, _ = f.run()
			(*proxyCalls)(k).Attached(newFakeProxy()) // puts what is wanted in force, if that is known
			wantTryAgain(t, k.CNI(t.Context(), f.request(cni.Add, "shop", "web")), "must wait")
			if f.redirect.sets != sets || len(f.redirect.uids()) != 1 {
				t.Errorf("set %d times, captured %v", f.redirect.sets-sets, f.redirect.uids())
			}
			aside, _ := filepath.Glob(filepath.Join(f.cfg.StateDir, "*.damaged-*"))
			if len(aside) != 3 {
				t.Errorf("set aside: %v", aside)
			}
			f.process("4711", "0::/poduid-web/c", filepath.Join(f.cfg.NetNSDir, "web"))
			f.assigned(k, enrolled("web"))
			if got := f.redirect.uids(); !slices.Equal(got, []string{"uid-web"}) {
				t.Errorf("captured %v", got)
			}
			eventually(t, "the account's key is made again", func() bool { return f.count("account_shop_web") == 2 })
		})
	}
}

// Without the file of pods, and without the controller, the keys stay and a proxy that lives keeps its pods: all of them
// may be captured.
func TestNothingIsWipedInDoubt(t *testing.T) {
	f := newFixture(t)
	k, stop := f.run()
	f.assigned(k, enrolled("web"))
	mustAdd(t, k, f.request(cni.Add, "shop", "web"))
	eventually(t, "all certificates are here", func() bool { return len(k.keys.certificates()) == 2 })
	stop()
	if err := os.WriteFile(filepath.Join(f.cfg.StateDir, podsFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	f.away = true
	f.mu.Unlock()
	k, _ = f.run()
	started := func() bool { // the round that starts rotators wipes as well
		k.keys.mu.Lock()
		defer k.keys.mu.Unlock()
		return k.keys.held[proxySubject].stop != nil
	}
	eventually(t, "the keyring is at work", started)
	p := newFakeProxy()
	(*proxyCalls)(k).Attached(p)
	if p.saw("synced") {
		t.Error("the proxy was told that no pod is enrolled")
	}
	f.process("4711", "0::/poduid-web/c", filepath.Join(f.cfg.NetNSDir, "web"))
	f.assigned(k, enrolled("web"))
	c, ok := p.certificate(shop)
	if !ok || !p.saw("enrolled shop/web shop/web [10.9.9.9] with 2") || !p.saw("synced") {
		t.Fatalf("with the controller back the proxy was told %q", p.all())
	}
	if _, err := (*proxyCalls)(k).Sign(shop, sha256.Sum256(c.Chain[0]), handshake()); err != nil {
		t.Errorf("sign with the key of before: %v", err)
	}
	if n := f.count("account_shop_web"); n != 1 {
		t.Errorf("%d certificates issued", n)
	}
}

// A path on disk that leads to another namespace by now is not the pod's.
func TestRestartAfterANamespaceHasGone(t *testing.T) {
	f := newFixture(t)
	k, stop := f.run()
	f.assigned(k, enrolled("web"))
	mustAdd(t, k, f.request(cni.Add, "shop", "web"))
	stop()
	keep, err := os.Open(filepath.Join(f.cfg.NetNSDir, "web"))
	if err != nil {
		t.Fatal(err)
	}
	defer keep.Close()
	os.Remove(keep.Name())
	f.netns("web")
	f.run()
	if got := f.redirect.uids(); len(got) != 0 {
		t.Errorf("captured %v", got)
	}
}

// After a restart of the machine a namespace may have the number that a pod's had before.
func TestRestartOfTheMachine(t *testing.T) {
	f := newFixture(t)
	boot := filepath.Join(f.cfg.Proc, "sys/kernel/random/boot_id")
	if err := os.MkdirAll(filepath.Dir(boot), 0o700); err != nil {
		t.Fatal(err)
	}
	for i, id := range []string{"one", "one", "two"} {
		if err := os.WriteFile(boot, []byte(id+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		k, stop := f.run()
		if got, want := len(f.redirect.uids()), i%2; got != want {
			t.Errorf("start %d: %d pods captured, want %d", i, got, want)
		}
		f.assigned(k, enrolled("web"))
		mustAdd(t, k, f.request(cni.Add, "shop", "web"))
		stop()
	}
	if got := f.redirect.uids(); !slices.Equal(got, []string{"uid-web"}) {
		t.Errorf("captured in the machine's second life: %v", got)
	}
}

// The keys of an account are wiped with its last pod.
func TestKeysAreWiped(t *testing.T) {
	f := newFixture(t)
	k, _ := f.run()
	f.assigned(k, enrolled("a"), enrolled("b"))
	mustAdd(t, k, f.request(cni.Add, "shop", "a"))
	mustAdd(t, k, f.request(cni.Add, "shop", "b"))
	file := filepath.Join(f.cfg.KeysDir, "account_shop_web.pem")
	exists := func() bool { _, err := os.Stat(file); return err == nil }
	eventually(t, "the key is on the tmpfs", exists)
	if st, err := os.Stat(file); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("key's file: %v, %v", st.Mode(), err)
	}
	if st, err := os.Stat(f.cfg.KeysDir); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("keys directory: %v, %v", st.Mode(), err)
	}
	f.assigned(k, enrolled("b"))
	eventually(t, "the first pod has left", func() bool { return len(f.redirect.uids()) == 1 })
	if !exists() {
		t.Error("key wiped while a pod of the account lives")
	}
	p := newFakeProxy()
	(*proxyCalls)(k).Attached(p)
	if c, ok := p.certificate(shop); !ok || len(c.Chain) == 0 {
		t.Error("the proxy has no certificate")
	}
	f.assigned(k)
	eventually(t, "the key is wiped", func() bool { return !exists() })
	eventually(t, "the proxy is told", func() bool {
		c, ok := p.certificate(shop)
		return ok && len(c.Chain) == 0
	})
	k.keys.mu.Lock()
	defer k.keys.mu.Unlock()
	if len(k.keys.held) != 2 || k.keys.held[ownSubject] == nil || k.keys.held[proxySubject] == nil {
		t.Errorf("held: %v", k.keys.held)
	}
}

// The first certificate is asked for by token, and only that one.
func TestBootstrapByToken(t *testing.T) {
	f := newFixture(t)
	k, _ := f.run()
	f.assigned(k, enrolled("web"))
	eventually(t, "all certificates are here", func() bool { return len(k.keys.certificates()) == 2 })
	f.mu.Lock()
	defer f.mu.Unlock()
	if !slices.Equal(f.tokens, []string{"secret"}) {
		t.Errorf("tokens used: %q", f.tokens)
	}
}

// During an update two keepers live: the later one decides, and the earlier one takes nothing away from it.
func TestLaterKeeperTakesOver(t *testing.T) {
	f := newFixture(t)
	old, stopOld := f.run()
	f.assigned(old, enrolled("web"))
	mustAdd(t, old, f.request(cni.Add, "shop", "web"))
	before := f.controller
	p := newFakeProxy()
	(*proxyCalls)(old).Attached(p)

	later, _ := f.run()
	if tasks := later.Pending(); !slices.Contains(tasks, "its own proxy, to take over from another keeper") {
		t.Errorf("it waits for %q", tasks)
	}
	q := newFakeProxy()
	(*proxyCalls)(later).Attached(q)
	if q.saw("enrolled shop/web shop/web [10.0.0.7] with 2") || q.saw("synced") {
		t.Errorf("before its turn the later one's proxy was told %q", q.all())
	}
	mustAdd(t, old, f.request(cni.Add, "shop", "web")) // as ever
	(*proxyCalls)(later).Serving(q)
	eventually(t, "the later one's proxy has the pods", func() bool {
		return q.saw("enrolled shop/web shop/web [10.0.0.7] with 2") && q.saw("synced")
	})
	eventually(t, "the earlier one's proxy knows", func() bool { return p.saw("superseded") })
	f.assigned(later, enrolled("web"), enrolled("new"))
	mustAdd(t, later, f.request(cni.Add, "shop", "new"))
	both := []string{"uid-new", "uid-web"}
	before.mu.Lock() // the earlier one hears of the end of everything
	before.a = &control.Assignment{Version: 99, Roots: f.ca.RootPEM(), Namespaces: map[string]bool{"shop": true, "plain": false}}
	before.mu.Unlock()
	old.assign(before.Assignment())
	if got := f.redirect.uids(); !slices.Equal(got, both) {
		t.Errorf("captured %v", got)
	}
	if seen, _ := before.reported(); seen == 99 {
		t.Error("the earlier keeper reports what it did not do")
	}
	for _, c := range []cni.Command{cni.Add, cni.Del, cni.Check, cni.GC, cni.Status} {
		if err := old.CNI(t.Context(), f.request(c, "shop", "web")); !errors.Is(err, cni.ErrElsewhere) {
			t.Errorf("the earlier keeper answers %s: %v", c, err)
		}
	}
	(*proxyCalls)(old).Detached(p)
	old.mu.Lock()
	old.awaySince = old.awaySince.Add(-time.Hour)
	old.mu.Unlock()
	old.suspendIfAway()
	if f.redirect.isSuspended() {
		t.Error("the earlier keeper suspended the later one's listeners")
	}
	stopOld()
	if got := f.redirect.uids(); !slices.Equal(got, both) {
		t.Errorf("captured after the earlier keeper has ended: %v", got)
	}
	f.controller.mu.Lock()
	f.controller.a = nil
	f.controller.mu.Unlock()
	f.run()
	if got := f.redirect.uids(); !slices.Equal(got, both) {
		t.Errorf("captured by the next keeper, from disk: %v", got)
	}
}

func FuzzPods(f *testing.F) {
	f.Add([]byte(`{"version":1,"pods":[{"cookie":7,"netns":"/run/netns/x","uid":"u","name":{"Namespace":"a","Name":"b"},"addrs":["10.0.0.1"],"enrolled":true}]}`))
	f.Add([]byte(`{"version":1,"pods":[null]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		file, err := parsePods(text)
		if err != nil {
			return
		}
		seen := map[uint64]bool{}
		for _, r := range file.Pods {
			if r.Cookie == 0 || seen[r.Cookie] || r.Enrolled && r.UID == "" {
				t.Errorf("accepted %+v", r)
			}
			seen[r.Cookie] = true
		}
	})
}

func FuzzKeyFile(f *testing.F) {
	fix := newFixtureF(f)
	f.Add(fix)
	f.Add(fix[:len(fix)/2])
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := parseKeyFile(text)
		if err == nil && (c.Leaf == nil || c.PrivateKey == nil || len(c.Certificate) == 0) {
			t.Errorf("accepted %+v", c)
		}
	})
}

// newFixtureF is a key's file.
func newFixtureF(f *testing.F) []byte {
	td, err := identity.ParseTrustDomain("cluster.local")
	if err != nil {
		f.Fatal(err)
	}
	ca, err := identity.NewCA(td)
	if err != nil {
		f.Fatal(err)
	}
	id, err := identity.ProxyID(td, node)
	if err != nil {
		f.Fatal(err)
	}
	c, err := ca.Issue(identity.Request{ID: id, Node: node, TTL: 1e12})
	if err != nil {
		f.Fatal(err)
	}
	dir := keyDir(f.TempDir())
	if err := dir.save(control.Subject{Proxy: true}, c); err != nil {
		f.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(string(dir), "proxy.pem"))
	if err != nil {
		f.Fatal(err)
	}
	return text
}
