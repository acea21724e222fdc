package control_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/compile"
	"fairlead.io/fairlead/internal/control"
	"fairlead.io/fairlead/internal/identity"
	"fairlead.io/fairlead/internal/mesh"
)

// plane is a control plane over a directory of YAML, with real gRPC on the loopback.
type plane struct {
	t      *testing.T
	path   string
	world  *compile.World
	dir    *compile.Dir
	ca     *identity.CA
	bundle *identity.Bundle
	source *swap
	server *control.Server
	addr   string
	cfg    control.Config
}

// swap is a Source whose certificate the test exchanges.
type swap struct{ certs chan *tls.Certificate }

func newSwap(c *tls.Certificate) *swap {
	s := &swap{certs: make(chan *tls.Certificate, 1)}
	s.certs <- c
	return s
}

func (s *swap) Certificate() (*tls.Certificate, error) {
	c := <-s.certs
	s.certs <- c
	return c, nil
}

func (s *swap) set(c *tls.Certificate) {
	<-s.certs
	s.certs <- c
}

func must[T any](t testing.TB) func(T, error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// running runs something until the test ends, and waits for it.
func running(t testing.TB, what string, run func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
		case <-time.After(20 * time.Second):
			t.Errorf("%s does not end", what)
		}
	}
	t.Cleanup(stop)
	return stop
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline); {
		if ok() {
			return
		}
		<-time.After(5 * time.Millisecond)
	}
	t.Fatalf("not in time: %s", what)
}

var td = func() identity.TrustDomain {
	td, err := identity.ParseTrustDomain("test.local")
	if err != nil {
		panic(err)
	}
	return td
}()

func controllerID(t testing.TB) identity.ID { return must[identity.ID](t)(identity.ControllerID(td)) }

func newPlane(t *testing.T, edit func(*control.Config)) *plane {
	t.Helper()
	p := &plane{t: t, path: t.TempDir(), ca: must[*identity.CA](t)(identity.NewCA(td))}
	p.bundle = must[*identity.Bundle](t)(identity.ParseBundle(td, p.ca.RootPEM()))
	p.source = newSwap(p.issue(controllerID(t), ""))
	p.world = compile.NewWorld(compile.Config{})
	p.dir = compile.NewDir(compile.DirConfig{Path: p.path, World: p.world, Debounce: 5 * time.Millisecond})
	tokens := must[*control.Tokens](t)(control.ParseTokens([]byte("# bootstrap\n\na token-of-a\nb token-of-b\n")))
	p.cfg = control.Config{
		World: p.world, CA: p.ca, Bundle: p.bundle, Source: p.source, Tokens: tokens.Node,
		WarmUp: time.Minute, Leave: time.Minute, StateEvery: time.Millisecond,
	}
	if edit != nil {
		edit(&p.cfg)
	}
	return p
}

func (p *plane) issue(id identity.ID, node string) *tls.Certificate {
	p.t.Helper()
	return must[*tls.Certificate](p.t)(p.ca.Issue(identity.Request{ID: id, Node: node, TTL: time.Hour}))
}

// serve starts the server; stop ends it.
func (p *plane) serve() (stop func()) {
	p.t.Helper()
	if p.addr == "" {
		p.addr = "127.0.0.1:0"
	}
	l := must[net.Listener](p.t)(net.Listen("tcp", p.addr))
	p.addr = l.Addr().String()
	p.server = control.NewServer(p.cfg)
	return running(p.t, "server", func(ctx context.Context) error { return p.server.Run(ctx, l) })
}

// write replaces a file, and has it read.
func (p *plane) write(name string, docs ...string) {
	p.t.Helper()
	file := filepath.Join(p.path, name)
	if len(docs) == 0 {
		if err := os.Remove(file); err != nil {
			p.t.Fatal(err)
		}
	} else if err := os.WriteFile(file, []byte(strings.Join(docs, "\n---\n")), 0o600); err != nil {
		p.t.Fatal(err)
	}
	if err := p.dir.Load(); err != nil {
		p.t.Fatal(err)
	}
}

func (p *plane) target(node string, cert *tls.Certificate) control.Target {
	var src identity.Source
	if cert != nil {
		src = identity.Static{Cert: cert}
	}
	return control.Target{Addr: p.addr, Node: node, TLS: identity.ClientTLS(src, p.bundle, identity.OnlyID(controllerID(p.t)))}
}

func (p *plane) keeperTarget(node string) control.Target {
	return p.target(node, p.issue(must[identity.ID](p.t)(identity.KeeperID(td, node)), node))
}

func (p *plane) proxyTarget(node string) control.Target {
	return p.target(node, p.issue(must[identity.ID](p.t)(identity.ProxyID(td, node)), node))
}

func (p *plane) keeper(node string) *control.PodsClient {
	c := control.NewPodsClient(p.keeperTarget(node), nil)
	running(p.t, "keeper "+node, c.Run)
	return c
}

func (p *plane) proxy(node string) *control.DiscoverClient {
	c := control.NewDiscoverClient(control.DiscoverConfig{
		Target: p.proxyTarget(node), Bundle: p.bundle, StateFirst: 20 * time.Millisecond, StateEvery: 20 * time.Millisecond,
	})
	running(p.t, "proxy "+node, c.Run)
	return c
}

// loyal is a keeper that captures what it is told to, at fixed addresses, and releases the rest.
func (p *plane) loyal(node string, addrs map[string]string) *control.PodsClient {
	c := p.keeper(node)
	running(p.t, "loyal keeper "+node, func(ctx context.Context) error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-c.Changed():
			}
			a := c.Assignment()
			captured := map[string][]netip.Addr{}
			for _, pod := range a.Pods {
				if pod.Enrolled {
					captured[pod.UID] = []netip.Addr{netip.MustParseAddr(addrs[pod.UID])}
				}
			}
			c.SetCaptured(a.Version, captured)
		}
	})
	return c
}

func enrolment(c *control.PodsClient, uid string) (mesh.Enrolment, bool) {
	if a := c.Assignment(); a != nil {
		for _, p := range a.Pods {
			if p.UID == uid {
				return p, true
			}
		}
	}
	return mesh.Enrolment{}, false
}

func isEnrolled(c *control.PodsClient, uid string) bool {
	e, ok := enrolment(c, uid)
	return ok && e.Enrolled
}

func inMesh(c *control.DiscoverClient, uid string) bool {
	p := c.Snapshot().Pod(uid)
	return p != nil && p.InMesh
}

func namespaceYAML(name, value string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: %s\n  labels: {fairlead.io/mesh: %q}", name, value)
}

func accountYAML(ns, name string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: %s, namespace: %s}", name, ns)
}

func podYAML(ns, name, account, node, addr string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: %s, uid: uid-%s}
spec: {serviceAccountName: %s, nodeName: %s, containers: [{name: c, image: i}]}
status: {phase: Running, podIPs: [{ip: %s}]}`, name, ns, name, account, node, addr)
}

func serviceYAML(ns, name, addr string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Service
metadata: {name: %s, namespace: %s}
spec: {clusterIP: %s, ports: [{name: http, port: 80, appProtocol: http}]}`, name, ns, addr)
}

func sliceYAML(ns, service, addr string) string {
	return fmt.Sprintf(`apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: %s-1, namespace: %s, labels: {kubernetes.io/service-name: %s}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [%s]}]`, service, ns, service, addr)
}
