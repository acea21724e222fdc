package system

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"

	"fairlead.io/fairlead/internal/testnet"
)

// TestUpdate updates the node of either side under load, as a DaemonSet with maxSurge does: keeper and proxy of a second pod,
// then SIGTERM for those of the first. No connection is refused and no request fails; the plugin is answered all the while;
// what is opaque goes on over the old proxy until its deadline.
func TestUpdate(t *testing.T) {
	t.Parallel()
	m := newMesh(t, testnet.MeshConfig{ProxyArgs: []string{"--drain=8s"}, KeeperArgs: []string{"--linger=12s"}})
	p := updatePair{pair: newPair(t, m)}
	p.greeter = mustAddPod(t, m.Nodes[1].Node, testnet.PodSpec{Name: "greeter"})
	mustStart(t, p.greeter, testnet.Command{Path: filepath.Join(bin, "greeter"), Args: []string{"--name=greeter"}, Log: "greeter.log"})
	listening(t, p.greeter, "127.0.0.1:9000")
	for i := range 8 { // a takeover of many pods takes its time
		for _, n := range m.Nodes {
			mustAddPod(t, n.Node, testnet.PodSpec{Name: fmt.Sprintf("idle-%d-%s", i, n.Name)})
		}
	}
	seen := watch(t, p.client, p.server)
	for i, side := range []string{"client's", "server's"} {
		t.Run(side, func(t *testing.T) { updateNode(t, m, i, p) })
	}
	plain := mustAddPod(t, m.Nodes[0].Node, testnet.PodSpec{Namespace: "plain", Name: "plain"})
	ask(t, plain, webAddr(p.server), "-path=/?say="+clearMarker)
	seen(t)
}

// updatePair has a server of gRPC beside the other.
type updatePair struct {
	pair
	greeter *testnet.Pod
}

// startCalls calls the greeter by gRPC, one call after the other, over one connection as grpc-go keeps it.
func (p *updatePair) startCalls(t *testing.T) (stop func(*testing.T)) {
	c := grpcClient(t, p.client, netip.AddrPortFrom(p.greeter.Addr(4), 9000))
	ctx, cancel := context.WithCancel(t.Context())
	var working sync.WaitGroup
	var failed []error
	made := 0
	working.Go(func() {
		for ; ctx.Err() == nil; made++ {
			one, done := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
			if out, err := call(one, c, "Echo", []byte("hello"), grpc.WaitForReady(false)); err != nil || string(out) != "hello" {
				failed = append(failed, fmt.Errorf("call %d: %q, %w", made, out, err))
			}
			done()
		}
	})
	return func(t *testing.T) {
		cancel()
		working.Wait()
		if made < 50 || len(failed) > 0 {
			t.Errorf("%d calls of gRPC, %d failed: %v", made, len(failed), failed)
		}
	}
}

func updateNode(t *testing.T, m *testnet.Mesh, i int, p updatePair) {
	opaque := startLoad(t, p.client, "stream", p.echo, "-workers=2", "-rate=40")
	loads := []*load{
		startLoad(t, p.client, "h1", p.web, "-rate=100", "-path=/?say="+secretMarker),
		startLoad(t, p.client, "h1", p.web, "-rate=40", "-method=POST", "-body=2000", "-path=/?ms=50"),
		startLoad(t, p.client, "h2", p.web, "-rate=100", "-method=POST", "-body=2000", "-path=/?say="+secretMarker),
		startLoad(t, p.client, "h1new", p.web, "-rate=100", "-path=/?say="+secretMarker),
		startLoad(t, p.client, "tcp", p.echo, "-workers=8", "-rate=100"),
	}
	adds, calls := startPods(t, m.Nodes[i].Node), p.startCalls(t)
	pause(t, time.Second)
	old, err := m.Surge(t.Context(), i)
	if err != nil {
		t.Fatal(err)
	}
	mustReady(t, m.Nodes[i])
	eventually(t, 5*time.Second, "the new keeper is ready", func() error { return m.Nodes[i].Ready(t.Context()) })
	pause(t, time.Second)
	began := time.Now()
	if err := old.Proxy.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := old.Keeper.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, 3*time.Second, "the old proxy says that it drains", func() error {
		_, err := old.Admin(t.Context(), "/readyz")
		if err == nil || !strings.Contains(err.Error(), "503") || !strings.Contains(err.Error(), "drains") {
			return fmt.Errorf("/readyz: %v", err)
		}
		return nil
	})
	pause(t, 4*time.Second) // past the wait for idle HTTP connections
	if n := metric(t, old, "fairlead_proxy_draining"); n != 1 {
		t.Errorf("fairlead_proxy_draining is %v", n)
	}
	if n := metric(t, old, "fairlead_proxy_drained_connections_total", `end="cut_off"`); n != 0 {
		t.Errorf("%v connections were cut off before the deadline", n)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	if err := old.Proxy.Wait(ctx); err != nil || time.Since(began) < 7*time.Second {
		t.Errorf("the old proxy ended after %v: %v", time.Since(began), err)
	}
	ended := time.Now()
	if err := old.Keeper.Wait(ctx); err != nil || time.Since(ended) > 2*time.Second {
		t.Errorf("the old keeper ended %v after its proxy: %v", time.Since(ended), err)
	}
	pause(t, time.Second)
	adds(t)
	calls(t)
	for _, l := range loads {
		mustFlawless(t, l, l.stop(t), 200)
	}
	if r := opaque.stop(t); r.Reset != 2 || r.Bad() != 2 || r.OK < 200 {
		t.Errorf("opaque connections: want both to go on until the deadline, and then a reset: %v", r)
	}
	drained := logOf(t, m, old.Node, "proxy", `"msg":"drained"`)
	if !cutOff.MatchString(drained) || !strings.Contains(drained, `"http2":`) {
		t.Errorf("the old proxy's last word: %s", drained)
	}
}

// cutOff: both streams, and on a busy machine what a client has closed and the other side not yet.
var cutOff = regexp.MustCompile(`"cut_off_by_protocol":\{"tcp":[2-4]\}`)

// startPods makes pods and deletes them, one after the other, on a node. Each has to start at once: a runtime would try again, but
// not before the next second.
func startPods(t *testing.T, n *testnet.Node) (stop func(*testing.T)) {
	ctx, cancel := context.WithCancel(t.Context())
	var mu sync.Mutex // protects what follows
	var failed []error
	made := 0
	var working sync.WaitGroup
	for w := range 4 {
		working.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				name := fmt.Sprintf("new-%s-%d-%d", n.Name, w, i)
				p, err := n.AddPod(context.WithoutCancel(ctx), testnet.PodSpec{Namespace: "app", Name: name, Lead: 200 * time.Millisecond})
				if err == nil {
					err = p.Delete(context.WithoutCancel(ctx))
				}
				mu.Lock()
				made++
				if err != nil {
					failed = append(failed, fmt.Errorf("%s: %w", name, err))
				}
				mu.Unlock()
			}
		})
	}
	return func(t *testing.T) {
		cancel()
		working.Wait()
		if len(failed) > 0 || made < 10 {
			t.Errorf("%d pods made, %d failed: %v", made, len(failed), failed)
		}
	}
}

// logOf returns the last line of a program's log that holds a text.
func logOf(t *testing.T, m *testnet.Mesh, n *testnet.Node, role, text string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(m.Lab.LogDir(), n.Name+"-"+role+".log"))
	if err != nil {
		t.Fatal(err)
	}
	last := ""
	for line := range strings.Lines(string(b)) {
		if strings.Contains(line, text) {
			last = line
		}
	}
	return last
}

// TestUpdateTakenBack begins updates that come to nothing: one whose proxy never comes up, which nobody notices, and one that is
// taken back when it had taken over, after which the node is the first pod's again. Neither costs a connection.
func TestUpdateTakenBack(t *testing.T) {
	t.Parallel()
	m := newMesh(t, testnet.MeshConfig{ProxyArgs: []string{"--drain=8s"}, KeeperArgs: []string{"--linger=12s", "--away=2s"}})
	p := newPair(t, m)
	for i, side := range []string{"client's", "server's"} {
		t.Run(side, func(t *testing.T) { takeBack(t, m, i, p) })
	}
}

func takeBack(t *testing.T, m *testnet.Mesh, i int, p pair) {
	loads := []*load{
		startLoad(t, p.client, "h1", p.web, "-rate=50"),
		startLoad(t, p.client, "h2", p.web, "-rate=50"),
		startLoad(t, p.client, "h1new", p.web, "-rate=50"),
		startLoad(t, p.client, "tcp", p.echo, "-workers=8", "-rate=50"),
	}
	opaque := startLoad(t, p.client, "stream", p.echo, "-workers=2", "-rate=40") // over the first pod's proxy, which stays
	first, err := m.Surge(t.Context(), i)
	if err != nil {
		t.Fatal(err)
	}
	broken := m.Nodes[i]
	if err := broken.Proxy.Kill(); err != nil { // as one that cannot start
		t.Fatal(err)
	}
	pause(t, 4*time.Second) // longer than --away
	if err := broken.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "its own proxy") {
		t.Errorf("a keeper without its proxy: %v", err)
	}
	if err := broken.StartProxy(); err != nil {
		t.Fatal(err)
	}
	mustReady(t, broken)
	opaqueAfter := startLoad(t, p.client, "stream", p.echo, "-workers=2", "-rate=40", "-for=3s")
	pause(t, 500*time.Millisecond)
	if err := broken.Proxy.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := broken.Keeper.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	mustFlawless(t, opaqueAfter, opaqueAfter.wait(t), 50) // it ends before the deadline
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	if err := broken.Keeper.Wait(ctx); err != nil {
		t.Errorf("the keeper that was taken back: %v", err)
	}
	m.Nodes[i] = first
	mustReady(t, first)
	eventually(t, 5*time.Second, "the first keeper is ready", func() error { return first.Ready(t.Context()) })
	p2 := mustAddPod(t, first.Node, testnet.PodSpec{Name: "afterwards-" + first.Name})
	mustServe(t, p2)
	mustReach(t, p.client, webAddr(p2), p2.Name)
	for _, l := range append(loads, opaque) {
		mustFlawless(t, l, l.stop(t), 200)
	}
}
