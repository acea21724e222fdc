package testnet

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"

	"fairlead.io/fairlead/internal/cni"
)

// keeper stands for the real one: it answers as it is told and remembers what it was asked.
type keeper struct {
	sync.Mutex
	answer map[string]error // by the pod's namespace
	asked  []cni.Request
	inode  uint64 // of the network namespace that came last
}

func (k *keeper) CNI(_ context.Context, r *cni.Request) error {
	k.Lock()
	defer k.Unlock()
	k.asked = append(k.asked, *r)
	if r.NetNS != nil {
		var st syscall.Stat_t
		if err := syscall.Fstat(int(r.NetNS.Fd()), &st); err != nil {
			return err
		}
		k.inode = st.Ino
	}
	if r.Command != cni.Add {
		return nil
	}
	return k.answer[r.Pod.Namespace]
}

func (k *keeper) last(c cni.Command) *cni.Request {
	k.Lock()
	defer k.Unlock()
	for _, r := range slices.Backward(k.asked) {
		if r.Command == c {
			return &r
		}
	}
	return nil
}

// mustKeep serves the node's plugin until the returned function is called, or the test ends.
func mustKeep(t testing.TB, n *Node, k *keeper) (stop func()) {
	t.Helper()
	s, err := cni.Listen(n.CNISocket(), k, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func chainedLab(t testing.TB) *Lab {
	t.Helper()
	needRoot(t)
	return mustLab(t, Config{Nodes: 1, CNIPlugin: plugins + "/cni-plugin"})
}

func TestTheKeeperLearnsOfAPod(t *testing.T) {
	lab := chainedLab(t)
	n := lab.Node(0)
	k := &keeper{answer: map[string]error{"not-yet": cni.TryAgain("the controller does not know the pod yet", "")}}
	mustKeep(t, n, k)

	p := mustPod(t, n, PodSpec{Namespace: "shop", Name: "web-1"})
	got := k.last(cni.Add)
	if got == nil {
		t.Fatal("the keeper was not asked")
	}
	if got.Pod != (cni.Pod{Namespace: "shop", Name: "web-1", UID: p.UID}) || got.NetNSPath != p.NetNS() || got.IfName != "eth0" {
		t.Errorf("asked %+v", got)
	}
	if !slices.Equal(got.Addresses, p.Addrs) || len(p.Addrs) != 2 {
		t.Errorf("addresses %v, the pod has %v", got.Addresses, p.Addrs)
	}
	var st syscall.Stat_t
	k.Lock()
	arrived := k.inode
	k.Unlock()
	if err := syscall.Fstat(p.netns.fd(), &st); err != nil || st.Ino != arrived {
		t.Errorf("namespace %d arrived, the pod's is %d (%v)", arrived, st.Ino, err)
	}
	if err := errors.Join(p.Check(t.Context()), n.GC(t.Context()), n.Status(t.Context())); err != nil {
		t.Error(err)
	}
	if r := k.last(cni.Check); r == nil || r.ContainerID != got.ContainerID {
		t.Errorf("CHECK asked %+v", r)
	}
	if r := k.last(cni.GC); r == nil || len(r.Valid) != 1 || r.Valid[0].ContainerID != got.ContainerID {
		t.Errorf("GC asked %+v", r)
	}
	if err := p.Delete(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := k.last(cni.Del); r == nil || r.ContainerID != got.ContainerID || r.Pod.UID != p.UID {
		t.Errorf("DEL asked %+v", r)
	}

	_, err := n.AddPod(t.Context(), PodSpec{Namespace: "not-yet", Name: "x"})
	mustCode(t, err, 11)
}

func mustCode(t testing.TB, err error, want uint) {
	t.Helper()
	var e *types.Error
	if !errors.As(err, &e) || e.Code != want {
		t.Errorf("got %v, want code %d", err, want)
	}
}

func TestPodsWithoutAKeeper(t *testing.T) {
	lab := chainedLab(t)
	n := lab.Node(0)
	tryAll := func(want map[string]bool) {
		t.Helper()
		for namespace, starts := range want {
			p, err := n.AddPod(t.Context(), PodSpec{Namespace: namespace, Name: "p"})
			if !starts {
				mustCode(t, err, 11)
				continue
			}
			if err != nil {
				t.Errorf("%s: %v", namespace, err)
				continue
			}
			if err := p.Delete(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}
	// Neither a keeper nor its list.
	tryAll(map[string]bool{"kube-system": true, "fairlead-system": true, "default": false, "shop": false})
	if err := cni.WriteNamespaces(n.StateDir(), map[string]bool{"default": false, "shop": true}); err != nil {
		t.Fatal(err)
	}
	tryAll(map[string]bool{"kube-system": true, "default": true, "shop": false, "unknown": false})
	if err := os.WriteFile(n.StateDir()+"/namespaces", []byte("\x00\x00"), 0o644); err != nil {
		t.Fatal(err)
	}
	tryAll(map[string]bool{"kube-system": true, "default": false})
	if entries, err := os.ReadDir(n.NetNSDir()); err != nil || len(entries) != 0 {
		t.Errorf("namespaces of refused pods are left: %v %v", entries, err)
	}
}

func TestAPodWaitsForItsKeeper(t *testing.T) {
	lab := chainedLab(t)
	n := lab.Node(0)
	added := make(chan error, 1)
	go func() {
		_, err := n.AddPod(t.Context(), PodSpec{Namespace: "shop", Name: "p", Retry: 20 * time.Second})
		added <- err
	}()
	select {
	case err := <-added:
		t.Fatalf("started without a keeper: %v", err)
	case <-time.After(400 * time.Millisecond):
	}
	k := &keeper{}
	stop := mustKeep(t, n, k)
	if err := <-added; err != nil {
		t.Error(err)
	}
	if r := k.last(cni.Add); r == nil || !slices.ContainsFunc(r.Addresses, netip.Addr.Is4) {
		t.Errorf("asked %+v", r)
	}
	stop()
}

// BenchmarkAdd prints the 99th percentile of what our plugin adds to a pod's start.
func BenchmarkAdd(b *testing.B) {
	lab := chainedLab(b)
	n := lab.Node(0)
	mustKeep(b, n, &keeper{})
	p := mustPod(b, n, PodSpec{Namespace: "shop", Name: "p"})
	var took []time.Duration
	for b.Loop() {
		start := time.Now()
		if err := addByPluginAlone(b.Context(), p); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
}
