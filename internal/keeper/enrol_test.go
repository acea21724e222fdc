package keeper

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"

	"fairlead.io/fairlead/internal/cni"
	"fairlead.io/fairlead/internal/mesh"
)

// assigned assigns and waits until it is in force.
func (f *fixture) assigned(k *Keeper, pods ...mesh.Enrolment) {
	f.t.Helper()
	f.assign(pods...)
	eventually(f.t, "the assignment is in force", func() bool {
		seen, _ := f.controller.reported()
		return seen == f.version
	})
}

func mustAdd(t *testing.T, k *Keeper, q *cni.Request) {
	t.Helper()
	if err := k.CNI(t.Context(), q); err != nil {
		t.Fatalf("ADD: %v", err)
	}
}

func wantTryAgain(t *testing.T, err error, text string) {
	t.Helper()
	var refusal *types.Error
	if !errors.As(err, &refusal) || refusal.Code != types.ErrTryAgainLater || !strings.Contains(refusal.Msg, text) || refusal.Details == "" {
		t.Errorf("got %#v, want code 11 that says %q and what to do", err, text)
	}
}

func TestAddAndDel(t *testing.T) {
	f := newFixture(t)
	k, _ := f.run()
	p := newFakeProxy()
	(*proxyCalls)(k).Attached(p)
	f.assigned(k, enrolled("web"))

	mustAdd(t, k, f.request(cni.Add, "shop", "web"))
	if got := f.redirect.uids(); !slices.Equal(got, []string{"uid-web"}) {
		t.Fatalf("captured %v", got)
	}
	if seen, got := f.controller.reported(); seen != f.version || !slices.Equal(got, []string{"uid-web"}) {
		t.Errorf("controller was told %v after version %d", got, seen)
	}
	if !p.saw("enrolled shop/web shop/web [10.0.0.7] with 2") {
		t.Errorf("proxy was told %q", p.all())
	}
	told := len(p.all())
	mustAdd(t, k, f.request(cni.Add, "shop", "web"))
	if len(p.all()) != told {
		t.Errorf("proxy was told %q: a repeated ADD is no event", p.all())
	}
	second := f.request(cni.Add, "shop", "web")
	second.IfName, second.Addresses = "net1", []netip.Addr{netip.MustParseAddr("10.1.0.7")}
	mustAdd(t, k, second)
	if got := f.redirect.captured["uid-web"].Addrs; len(got) != 2 || !p.saw("enrolled shop/web shop/web [10.1.0.7 10.0.0.7] with 2") {
		t.Errorf("addresses with a second interface: %v; proxy was told %q", got, p.all())
	}
	if p.saw("left uid-web 7s") || p.saw("left uid-web 0s") {
		t.Errorf("proxy was told %q", p.all())
	}
	if err := k.CNI(t.Context(), f.request(cni.Check, "shop", "web")); err != nil {
		t.Errorf("CHECK: %v", err)
	}
	if err := k.CNI(t.Context(), f.request(cni.Status, "", "")); err != nil {
		t.Errorf("STATUS: %v", err)
	}

	other := f.request(cni.Del, "shop", "web")
	other.ContainerID = "an earlier sandbox of the pod"
	if err := k.CNI(t.Context(), other); err != nil || len(f.redirect.uids()) != 1 {
		t.Errorf("DEL of another sandbox: %v, captured %v", err, f.redirect.uids())
	}
	if err := k.CNI(t.Context(), f.request(cni.Del, "shop", "web")); err != nil {
		t.Errorf("DEL: %v", err)
	}
	if got := f.redirect.uids(); len(got) != 0 {
		t.Errorf("captured after DEL: %v", got)
	}
	if !p.saw("left uid-web 0s") {
		t.Errorf("proxy was told %q", p.all())
	}
	if _, got := f.controller.reported(); len(got) != 0 {
		t.Errorf("controller was told %v after DEL", got)
	}
	wantTryAgain(t, k.CNI(t.Context(), f.request(cni.Check, "shop", "web")), "not known")
}

// The controller may name a pod after its ADD has begun.
func TestAddWaitsForTheController(t *testing.T) {
	f := newFixture(t)
	f.cfg.AddWait = 10 * time.Second
	k, _ := f.run()
	f.assigned(k)
	added := make(chan error, 1)
	q := f.request(cni.Add, "shop", "web")
	go func() { added <- k.CNI(t.Context(), q) }()
	eventually(t, "the sandbox is known", func() bool { k.mu.Lock(); defer k.mu.Unlock(); return len(k.records) == 1 })
	f.assign(enrolled("web"))
	if err := <-added; err != nil {
		t.Fatal(err)
	}
	if got := f.redirect.uids(); !slices.Equal(got, []string{"uid-web"}) {
		t.Errorf("captured %v", got)
	}
}

func TestAddOfUnknownPods(t *testing.T) {
	f := newFixture(t)
	k, _ := f.run()
	wantTryAgain(t, k.CNI(t.Context(), f.request(cni.Add, "shop", "early")), "not known on this node yet")
	wantTryAgain(t, k.CNI(t.Context(), f.request(cni.Status, "", "")), "not heard from the controller")
	f.assigned(k)
	wantTryAgain(t, k.CNI(t.Context(), f.request(cni.Add, "shop", "web")), "not named the pod")
	wantTryAgain(t, k.CNI(t.Context(), f.request(cni.Add, "elsewhere", "web")), "not known")
	if got := f.redirect.uids(); len(got) != 0 {
		t.Errorf("captured %v", got)
	}
}

// A pod that may not be captured does not start, and does not keep the others from it.
func TestAddOfAPodThatCannotBeCaptured(t *testing.T) {
	f := newFixture(t)
	f.redirect.broken["uid-bad"] = true
	k, _ := f.run()
	f.assigned(k, enrolled("bad"), enrolled("web"))
	wantTryAgain(t, k.CNI(t.Context(), f.request(cni.Add, "shop", "bad")), "cannot be captured")
	mustAdd(t, k, f.request(cni.Add, "shop", "web"))
	if _, got := f.controller.reported(); !slices.Equal(got, []string{"uid-web"}) {
		t.Errorf("controller was told %v", got)
	}
	f.redirect.mu.Lock()
	f.redirect.broken = map[string]bool{}
	f.redirect.mu.Unlock()
	eventually(t, "the keeper tries again", func() bool { return len(f.redirect.uids()) == 2 })
}

// What is not in the mesh passes, also without a controller, and is captured when its namespace joins.
func TestPassThenJoin(t *testing.T) {
	f := newFixture(t)
	k, stop := f.run()
	f.assigned(k)
	stop()
	k, _ = f.run() // knows the namespaces from disk only
	mustAdd(t, k, f.request(cni.Add, "plain", "web"))
	if got := f.redirect.uids(); len(got) != 0 {
		t.Fatalf("captured %v", got)
	}
	e := enrolled("web")
	e.Name.Namespace = "plain"
	f.assigned(k, e)
	if got := f.redirect.uids(); !slices.Equal(got, []string{"uid-web"}) {
		t.Errorf("captured after the namespace joined: %v", got)
	}
	e.Enrolled = false
	f.assigned(k, e)
	if got := f.redirect.uids(); len(got) != 0 {
		t.Errorf("captured after it left: %v", got)
	}
}

// A pod's new sandbox takes the place of the old one, whose DEL may come later.
func TestSandboxIsMadeAgain(t *testing.T) {
	f := newFixture(t)
	k, _ := f.run()
	f.assigned(k, enrolled("web"))
	mustAdd(t, k, f.request(cni.Add, "shop", "web"))
	old := f.redirect.captured["uid-web"].NetNS.Cookie()
	keep, err := os.Open(filepath.Join(f.cfg.NetNSDir, "web")) // its inode is not used again
	if err != nil {
		t.Fatal(err)
	}
	defer keep.Close()
	os.Remove(keep.Name())
	again := f.request(cni.Add, "shop", "web")
	again.ContainerID = "second"
	mustAdd(t, k, again)
	if err := k.CNI(t.Context(), f.request(cni.Del, "shop", "web")); err != nil {
		t.Fatal(err)
	}
	now, ok := f.redirect.captured["uid-web"]
	if !ok || now.NetNS.Cookie() == old {
		t.Errorf("captured %v, was %d", now, old)
	}
}

func TestStaticPodIsFoundByName(t *testing.T) {
	f := newFixture(t)
	k, _ := f.run()
	e := enrolled("web")
	e.UID = "0d2c-of-the-mirror"
	f.assigned(k, e)
	q := f.request(cni.Add, "shop", "web")
	q.Pod.UID = "9a3f5c" // a hash, without a dash
	mustAdd(t, k, q)
	if got := f.redirect.uids(); !slices.Equal(got, []string{e.UID}) {
		t.Errorf("captured %v", got)
	}
	e.UID = "7777-of-the-next-mirror"
	f.assigned(k, e)
	if got := f.redirect.uids(); !slices.Equal(got, []string{e.UID}) {
		t.Errorf("captured %v after the mirror was made again", got)
	}
}

func TestGC(t *testing.T) {
	f := newFixture(t)
	k, _ := f.run()
	f.assigned(k, enrolled("a"), enrolled("b"))
	mustAdd(t, k, f.request(cni.Add, "shop", "a"))
	mustAdd(t, k, f.request(cni.Add, "shop", "b"))
	q := &cni.Request{Command: cni.GC, Network: "another"}
	if err := k.CNI(t.Context(), q); err != nil || len(f.redirect.uids()) != 2 {
		t.Fatalf("GC of another network: %v, captured %v", err, f.redirect.uids())
	}
	q.Network, q.Valid = "net", []cni.Attachment{{ContainerID: "c-b", IfName: "eth0"}}
	if err := k.CNI(t.Context(), q); err != nil {
		t.Fatal(err)
	}
	if got := f.redirect.uids(); !slices.Equal(got, []string{"uid-b"}) {
		t.Errorf("captured %v", got)
	}
}

// procs makes a procfs with a process 1 in the host's namespace and one process.
func (f *fixture) process(pid, cgroup, netns string) {
	f.t.Helper()
	for _, p := range []struct{ pid, cgroup, ns string }{{"1", "0::/init.scope", f.netns("host")}, {pid, cgroup, netns}} {
		dir := filepath.Join(f.cfg.Proc, p.pid, "ns")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			f.t.Fatal(err)
		}
		os.WriteFile(filepath.Join(dir, "../cgroup"), []byte(p.cgroup+"\n"), 0o600)
		os.Remove(filepath.Join(dir, "net"))
		if err := os.Symlink(p.ns, filepath.Join(dir, "net")); err != nil {
			f.t.Fatal(err)
		}
	}
}

// A pod that ran before the keeper came is found by its processes, and kept under the runtime's path.
func TestRunningPodIsFound(t *testing.T) {
	for name, cgroup := range map[string]string{
		"cgroupfs": "0::/kubepods/burstable/pod1234-aa/c1",
		"systemd":  "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1234_aa.slice/cri-1.scope",
		"hybrid":   "9:memory:/kubepods/besteffort/pod1234-aa/c1\n1:name=systemd:/kubepods/besteffort/pod1234-aa/c1\n0::/kubepods/besteffort/pod1234-aa/c1",
		"v1 alone": "9:memory:/kubepods/besteffort/pod1234-aa/c1\n0::/",
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			ns := f.netns("cni-77")
			f.process("4711", cgroup, ns)
			k, _ := f.run()
			e := enrolled("old")
			e.UID = "1234-aa"
			f.assigned(k, e)
			if got := f.redirect.uids(); !slices.Equal(got, []string{"1234-aa"}) {
				t.Fatalf("captured %v", got)
			}
			k.mu.Lock()
			defer k.mu.Unlock()
			for _, r := range k.records {
				if r.NetNSPath != ns || len(r.Addrs) != 1 {
					t.Errorf("recorded %+v", r)
				}
			}
		})
	}
}

// A pod that was there before the keeper is captured as soon as its namespace is labelled, also when that comes much later;
// its processes are the pause container's and others'. One of the host's network is left alone.
func TestRunningPodIsFoundWhenItIsLabelled(t *testing.T) {
	f := newFixture(t)
	k, _ := f.run()
	f.assigned(k)
	ns := f.netns("cni-77")
	f.process("4711", "0::/kubepods/pod1234-aa/pause", ns)
	f.process("4712", "0::/kubepods/pod1234-aa/app", ns)
	f.process("4713", "0::/kubepods/pod5678-bb/app", f.netns("host"))
	old, onHost := enrolled("old"), enrolled("onhost")
	old.UID, onHost.UID = "1234-aa", "5678-bb"
	f.assigned(k, old, onHost)
	if got := f.redirect.uids(); !slices.Equal(got, []string{"1234-aa"}) {
		t.Errorf("captured %v", got)
	}
	counts, err := (*proxyCalls)(k).Verdicts()
	if err != nil || counts["gauge_pods_captured"] != 1 || counts["gauge_pods_waiting"] != 1 {
		t.Errorf("gauges: %v, %v", counts, err)
	}
	// and one whose processes come later
	late := enrolled("late")
	late.UID = "9999-cc"
	f.assigned(k, old, late)
	began := time.Now()
	f.process("4720", "0::/kubepods/pod9999-cc/pause", f.netns("cni-99"))
	eventually(t, "it is found", func() bool { return len(f.redirect.uids()) == 2 })
	if took := time.Since(began); took > 2*sweepEvery {
		t.Errorf("it took %v", took)
	}
}

func TestNamespaceThatHasGoneIsForgotten(t *testing.T) {
	f := newFixture(t)
	k, _ := f.run()
	f.assigned(k, enrolled("web"), enrolled("busy"))
	mustAdd(t, k, f.request(cni.Add, "shop", "web"))
	mustAdd(t, k, f.request(cni.Add, "shop", "busy"))
	k.forgetGone()
	if got := f.redirect.uids(); len(got) != 2 {
		t.Fatalf("captured %v though nothing has gone", got)
	}
	busy := filepath.Join(f.cfg.NetNSDir, "busy")
	if err := os.Rename(busy, filepath.Join(t.TempDir(), "moved")); err != nil {
		t.Fatal(err)
	}
	os.Remove(filepath.Join(f.cfg.NetNSDir, "web"))
	k.forgetGone()
	if got := f.redirect.uids(); len(got) != 2 {
		t.Fatalf("captured %v though no process could be looked at", got)
	}
	f.process("4711", "0::/", busy)
	os.Remove(filepath.Join(f.cfg.Proc, "4711/ns/net"))
	k.mu.Lock()
	for _, r := range k.records {
		if r.UID == "uid-busy" { // a process is in it still
			path, err := filepath.EvalSymlinks("/proc/self/fd/" + itoa(r.netns.FD()))
			if err == nil {
				err = os.Symlink(path, filepath.Join(f.cfg.Proc, "4711/ns/net"))
			}
			if err != nil {
				t.Error(err)
			}
		}
	}
	k.mu.Unlock()
	k.forgetGone()
	if got := f.redirect.uids(); !slices.Equal(got, []string{"uid-busy"}) {
		t.Errorf("captured %v", got)
	}
}
