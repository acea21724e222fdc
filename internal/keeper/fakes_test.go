package keeper

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.io/fairlead/internal/cni"
	"fairlead.io/fairlead/internal/control"
	"fairlead.io/fairlead/internal/identity"
	"fairlead.io/fairlead/internal/keeper/socket"
	"fairlead.io/fairlead/internal/mesh"
)

// fakeNS is a file that stands for a network namespace; its inode is its cookie.
type fakeNS struct {
	*os.File
	cookie uint64
}

func (n fakeNS) Cookie() uint64 { return n.cookie }
func (n fakeNS) FD() int        { return int(n.Fd()) }
func (n fakeNS) Addrs() ([]netip.Addr, error) {
	return []netip.Addr{netip.MustParseAddr("10.9.9.9")}, nil
}

// fakeRedirect is a kernel that survives the keeper, as pins do.
type fakeRedirect struct {
	mu        sync.Mutex
	captured  map[string]Capture
	sets      int
	suspended bool
	broken    map[string]bool // pods that cannot be captured
	made      int             // listeners
	others    []string        // programs
	earlier   map[string]socket.Earlier
	looked    []string // at which pods Earlier has
	othersErr error
}

func newFakeRedirect() *fakeRedirect {
	return &fakeRedirect{captured: map[string]Capture{}, broken: map[string]bool{}}
}

func (r *fakeRedirect) OpenNetNS(path string) (NetNS, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return newFakeNS(f)
}

func (r *fakeRedirect) AdoptNetNS(fd int) (NetNS, error) {
	return newFakeNS(os.NewFile(uintptr(fd), "netns"))
}

func newFakeNS(f *os.File) (NetNS, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return fakeNS{f, st.Ino}, nil
}

func (r *fakeRedirect) Set(pods []Capture) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sets++
	r.captured = map[string]Capture{}
	var errs []error
	for _, p := range pods {
		if r.broken[p.UID] {
			errs = append(errs, fmt.Errorf("pod %s: broken", p.UID))
			continue
		}
		r.captured[p.UID] = p
	}
	return errors.Join(errs...)
}

func (r *fakeRedirect) Listeners(uid string) ([]socket.Listener, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.captured[uid]; !ok {
		return nil, socket.ErrUnknownPod
	}
	if r.suspended {
		return nil, nil
	}
	var out []socket.Listener
	for _, d := range []socket.Direction{socket.Out, socket.In} {
		fd, err := newSocket()
		if err != nil {
			return nil, err
		}
		r.made++
		out = append(out, socket.Listener{Direction: d, Family: 4, FD: fd})
	}
	return out, nil
}

func newSocket() (int, error) {
	return unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
}

func (r *fakeRedirect) Suspend() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.suspended = true
	return nil
}
func (r *fakeRedirect) Resume() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.suspended = false
	return nil
}

func (r *fakeRedirect) isSuspended() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.suspended }

func (r *fakeRedirect) Sockets(uid string, family, n int) ([]int, error) {
	var fds []int
	for range n {
		fd, err := newSocket()
		if err != nil {
			return fds, err
		}
		fds = append(fds, fd)
	}
	return fds, nil
}

func (r *fakeRedirect) HopSocket(string, netip.Addr) (int, error) { return newSocket() }
func (r *fakeRedirect) Verdicts() (map[string]uint64, error) {
	return map[string]uint64{"captured": 3}, nil
}
func (r *fakeRedirect) Others() ([]string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.others, r.othersErr
}

func (r *fakeRedirect) Earlier(_ context.Context, uids []string) (map[string]socket.Earlier, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	counts := map[string]socket.Earlier{}
	var err error
	for _, uid := range uids {
		r.looked = append(r.looked, uid)
		if e, ok := r.earlier[uid]; ok {
			counts[uid] = e
		} else {
			err = fmt.Errorf("pod %s: no", uid)
		}
	}
	return counts, err
}

func (r *fakeRedirect) Sweep() error { return nil }

func (r *fakeRedirect) uids() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(r.captured))
}

// fakeController is a controller that the test speaks for.
type fakeController struct {
	mu       sync.Mutex
	a        *control.Assignment
	changed  chan struct{}
	seen     uint64
	captured map[string][]netip.Addr
	up       atomic.Bool
}

func (c *fakeController) Connected() bool { return c.up.Load() }

func (c *fakeController) Assignment() *control.Assignment {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.a
}
func (c *fakeController) Changed() <-chan struct{}      { return c.changed }
func (c *fakeController) Run(ctx context.Context) error { <-ctx.Done(); return nil }
func (c *fakeController) SetCaptured(seen uint64, captured map[string][]netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen, c.captured = seen, captured
}

func (c *fakeController) reported() (uint64, []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen, slices.Sorted(maps.Keys(c.captured))
}

// fixture is one node.
type fixture struct {
	t          *testing.T
	cfg        Config
	redirect   *fakeRedirect
	controller *fakeController
	ca         *identity.CA
	bundle     *identity.Bundle // the controller's
	ttl        time.Duration
	version    uint64

	mu     sync.Mutex
	away   bool // the controller does not answer
	issued map[string]int
	tokens []string
}

const node = "node-1"

var shop = mesh.Account{Namespace: "shop", Name: "web"}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	td, err := identity.ParseTrustDomain("cluster.local")
	if err != nil {
		t.Fatal(err)
	}
	ca, err := identity.NewCA(td)
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := identity.ParseBundle(td, ca.RootPEM())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	f := &fixture{bundle: bundle, t: t, redirect: newFakeRedirect(), ca: ca, ttl: 4 * time.Hour, issued: map[string]int{}}
	f.cfg = Config{
		Node: node, Redirect: f.redirect, Connect: f.connect,
		Token:    func() (string, error) { return "secret", nil },
		StateDir: filepath.Join(dir, "state"), KeysDir: filepath.Join(dir, "keys"),
		ProxySocket: filepath.Join(dir, "proxy.sock"), CNISocket: filepath.Join(dir, "cni.sock"),
		ProxyUID: os.Getuid(), AllowRoot: true,
		Proc: filepath.Join(dir, "proc"), NetNSDir: filepath.Join(dir, "netns"),
		AddWait: 50 * time.Millisecond,
		Log:     slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelError})),
	}
	for _, d := range []string{f.cfg.Proc, f.cfg.NetNSDir} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) { w.t.Logf("%s", p); return len(p), nil }

func (f *fixture) connect(identity.Source) (Controller, Issuer) {
	f.controller = &fakeController{changed: make(chan struct{}, 1)}
	return f.controller, f.issue
}

// issue is a controller that grants everything.
func (f *fixture) issue(_ context.Context, token string, requests []control.CertificateRequest) ([]control.Issued, []byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.away {
		return nil, nil, errors.New("controller away")
	}
	if token != "" {
		f.tokens = append(f.tokens, token)
	}
	var out []control.Issued
	for _, r := range requests {
		id, err := (&keyring{node: node, bundle: f.bundle}).idOf(r.Subject)
		if err != nil {
			return nil, nil, err
		}
		chain, err := f.ca.Sign(r.CSR, identity.Request{ID: id, Node: node, TTL: f.ttl})
		out = append(out, control.Issued{Chain: chain, Refused: err})
		f.issued[nameOf(r.Subject)]++
	}
	return out, f.ca.RootPEM(), nil
}

func (f *fixture) count(subject string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.issued[subject]
}

// open makes a keeper, which is not running yet.
func (f *fixture) open() *Keeper {
	f.t.Helper()
	var err error
	cfg := f.cfg
	if cfg.Bundle, err = identity.ParseBundle(f.ca.TrustDomain(), f.ca.RootPEM()); err != nil {
		f.t.Fatal(err)
	}
	k, err := Open(cfg)
	if err != nil {
		f.t.Fatal(err)
	}
	return k
}

// run runs a keeper until stop, or the end of the test.
func (f *fixture) run() (k *Keeper, stop func()) {
	f.t.Helper()
	k = f.open()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, ErrAgain) { // of two, the one that decided may have been stopped first
			f.t.Errorf("keeper: %v", err)
		}
	})
	f.t.Cleanup(stop)
	return k, stop
}

// assign has the controller say which pods there are.
func (f *fixture) assign(pods ...mesh.Enrolment) {
	f.version++
	f.controller.mu.Lock()
	f.controller.a = &control.Assignment{Version: f.version, Pods: pods, Roots: f.ca.RootPEM(),
		Namespaces: map[string]bool{"shop": true, "plain": false}}
	f.controller.mu.Unlock()
	poke(f.controller.changed)
}

// netns makes a namespace at a runtime's path.
func (f *fixture) netns(name string) string {
	f.t.Helper()
	path := filepath.Join(f.cfg.NetNSDir, name)
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		f.t.Fatal(err)
	}
	return path
}

// request is what the plugin sends for a pod, whose UID and container are named after it.
func (f *fixture) request(c cni.Command, namespace, name string) *cni.Request {
	f.t.Helper()
	q := &cni.Request{Command: c, ContainerID: "c-" + name, IfName: "eth0", Network: "net",
		Pod:       cni.Pod{Namespace: namespace, Name: name, UID: "uid-" + name},
		NetNSPath: filepath.Join(f.cfg.NetNSDir, name), Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.7")}}
	if c == cni.Add {
		f.netns(name)
		file, err := os.Open(q.NetNSPath)
		if err != nil {
			f.t.Fatal(err)
		}
		f.t.Cleanup(func() { file.Close() })
		q.NetNS = file
	}
	return q
}

func enrolled(name string) mesh.Enrolment {
	return mesh.Enrolment{UID: "uid-" + name, Name: mesh.Name{Namespace: "shop", Name: name}, Account: shop, Enrolled: true, Drain: 7 * time.Second}
}

// fakeProxy is a proxy's end without a socket.
type fakeProxy struct {
	mu     sync.Mutex
	events []string
	others []string // each time that it was told which there are
	certs  map[mesh.Account]socket.Certificate

	onEnrolled func(socket.Pod) // if not nil
}

func newFakeProxy() *fakeProxy { return &fakeProxy{certs: map[mesh.Account]socket.Certificate{}} }

func (p *fakeProxy) add(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.events = append(p.events, fmt.Sprintf(format, args...))
}

func (p *fakeProxy) Enrolled(pod socket.Pod, ls []socket.Listener) {
	closeListeners(ls)
	p.add("enrolled %s %s %v with %d", pod.Name, pod.Account, pod.Addrs, len(ls))
	if p.onEnrolled != nil {
		p.onEnrolled(pod)
	}
}
func (p *fakeProxy) Left(uid string, drain time.Duration) { p.add("left %s %v", uid, drain) }
func (p *fakeProxy) Synced()                              { p.add("synced") }
func (p *fakeProxy) Superseded()                          { p.add("superseded") }
func (p *fakeProxy) Roots(td string, pem []byte)          { p.add("roots %s", td) }
func (p *fakeProxy) Earlier(uid string, e socket.Earlier) { p.add("earlier %s %+v", uid, e) }
func (p *fakeProxy) Others(programs []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.others = append(p.others, fmt.Sprint(programs))
}
func (p *fakeProxy) Certificate(c socket.Certificate) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.certs[c.Account] = c
}

func (p *fakeProxy) certificate(a mesh.Account) (socket.Certificate, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c, ok := p.certs[a]
	return c, ok
}

// saw tells whether the event is among those that came.
func (p *fakeProxy) saw(event string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Contains(p.events, event)
}

func (p *fakeProxy) all() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.events)
}

func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("not within ten seconds: %s", what)
		}
		time.Sleep(2 * time.Millisecond) // between polls; the deadline decides
	}
}
