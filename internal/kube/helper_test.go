package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"fairlead.io/fairlead/internal/compile"
	"fairlead.io/fairlead/internal/kube/kubetest"
	"fairlead.io/fairlead/internal/mesh"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("k8s.io/klog/v2.(*flushDaemon).run.func1"))
}

const ns = "fairlead-system"

// syncBuffer is a log that is read while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func newLog() (*slog.Logger, *syncBuffer) {
	b := &syncBuffer{}
	return slog.New(slog.NewTextHandler(b, nil)), b
}

func client(t testing.TB, s *kubetest.Server, user string) kubernetes.Interface {
	t.Helper()
	log, _ := newLog()
	c, err := Connect(s.KubeconfigOf(user), "test", log)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func customClient(t testing.TB, s *kubetest.Server) dynamic.Interface {
	t.Helper()
	c, err := ConnectCustom(s.KubeconfigOf("controller"), "test")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// background runs something until the test ends.
func background(t testing.TB, run func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("ended with: %v", err)
			}
		case <-time.After(20 * time.Second):
			t.Error("it does not end")
		}
	})
	t.Cleanup(stop)
	return stop
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		if ok() {
			return
		}
		<-time.After(2 * time.Millisecond)
	}
	t.Fatalf("not in time: %s", what)
}

// cluster is an API server, and a World that follows it.
type cluster struct {
	*kubetest.Server
	source *Source
	feed   *Feed
	world  *compile.World
	log    *syncBuffer
}

func follow(t testing.TB, s *kubetest.Server) *cluster {
	t.Helper()
	log, buffer := newLog()
	c := &cluster{Server: s, world: compile.NewWorld(compile.Config{}), log: buffer}
	c.source = NewSource(SourceConfig{
		Client: client(t, s, "controller"), Custom: customClient(t, s), LookAgain: 50 * time.Millisecond,
		Namespace: ns, IssuerSecret: IssuerSecret, RootsConfigMap: RootsConfigMap, Log: log,
	})
	c.feed = NewFeed(FeedConfig{Source: c.source, World: c.world, Grace: 200 * time.Millisecond, Log: log})
	background(t, c.source.Run)
	background(t, func(ctx context.Context) error {
		if err := c.feed.Load(ctx); err != nil {
			return nil
		}
		return c.feed.Run(ctx)
	})
	return c
}

func everything(mesh.Name) bool { return true }

// text is what the world tells, one line for a row.
func (c *cluster) text() string { return worldText(c.world) }

func worldText(w *compile.World) string {
	d := w.Delta(0, everything)
	var lines []string
	for _, p := range d.Pods {
		lines = append(lines, line("pod", p))
	}
	for _, s := range d.Services {
		lines = append(lines, line("service", s))
	}
	for _, n := range d.Nodes {
		lines = append(lines, line("node", n))
		pods, _ := w.Enrolments(n.Name)
		for _, e := range pods {
			lines = append(lines, line("enrolment", e))
		}
	}
	for _, e := range d.Endpoints {
		lines = append(lines, line("endpoints", e))
	}
	namespaces, _ := w.Namespaces()
	lines = append(lines, fmt.Sprintf("namespaces %v", namespaces))
	for _, p := range w.Problems() {
		lines = append(lines, "problem "+p.String())
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func line(kind string, v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return kind + " " + string(text)
}

func (c *cluster) enrolled(node, uid string) bool {
	pods, _ := c.world.Enrolments(node)
	return slices.ContainsFunc(pods, func(e mesh.Enrolment) bool { return e.UID == uid && e.Enrolled })
}

func (c *cluster) known(uid string) bool {
	return slices.ContainsFunc(c.world.Delta(0, everything).Pods, func(p *mesh.Pod) bool { return p.UID == uid })
}

func namespace(name, label string) string {
	return fmt.Sprintf(`{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": %q, "labels": {"fairlead.io/mesh": %q}}}`, name, label)
}

func account(namespace, name string) string {
	return fmt.Sprintf(`{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"namespace": %q, "name": %q}}`, namespace, name)
}

func node(name, addr string) string {
	return fmt.Sprintf(`{"apiVersion": "v1", "kind": "Node", "metadata": {"name": %q}, "status": {
		"addresses": [{"type": "InternalIP", "address": %q}], "conditions": [{"type": "Ready", "status": "True"}]}}`, name, addr)
}

func pod(namespace, name, uid, node, account, addr string) string {
	return fmt.Sprintf(`{"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": %q, "name": %q, "uid": %q},
		"spec": {"nodeName": %q, "serviceAccountName": %q, "containers": [{"name": "c", "image": "i"}]},
		"status": {"phase": "Running", "podIP": %q}}`, namespace, name, uid, node, account, addr)
}

func addrs(s ...string) []netip.Addr {
	var out []netip.Addr
	for _, a := range s {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}
