package socket

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.io/fairlead/internal/mesh"
)

// fakeKeeper keeps one pod "pod" and one account ns/sa, and counts.
type fakeKeeper struct {
	mu      sync.Mutex
	proxies map[Handler]bool
	greeted func(Handler) // called by Attached
	state   []byte
	signed  int
	block   chan struct{} // Sign waits for it if set
	blocked atomic.Int64
}

var testAccount = mesh.Account{Namespace: "ns", Name: "sa"}

func (k *fakeKeeper) Attached(h Handler) {
	k.mu.Lock()
	if k.proxies == nil {
		k.proxies = map[Handler]bool{}
	}
	k.proxies[h] = true
	k.mu.Unlock()
	if k.greeted != nil {
		k.greeted(h)
	}
}

func (k *fakeKeeper) Detached(h Handler) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.proxies, h)
}

func (k *fakeKeeper) Serving(h Handler) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.proxies[h] {
		h.Superseded()
	}
}

func (k *fakeKeeper) attached() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.proxies)
}

func (k *fakeKeeper) Sockets(uid string, family, n int) ([]int, error) {
	if uid != "pod" {
		return nil, fmt.Errorf("pod %q: %w", uid, ErrUnknownPod)
	}
	var fds []int
	for range n {
		fd, err := newSocket()
		if err != nil {
			closeAll(fds)
			return nil, err
		}
		fds = append(fds, fd)
	}
	return fds, nil
}

func newSocket() (int, error) {
	return unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
}

func (k *fakeKeeper) Hop(uid string, client netip.Addr) (int, error) {
	fds, err := k.Sockets(uid, 4, 1)
	if err != nil {
		return -1, err
	}
	return fds[0], nil
}

func (k *fakeKeeper) Sign(a mesh.Account, leaf [32]byte, content []byte) ([]byte, error) {
	if k.block != nil {
		k.blocked.Add(1)
		<-k.block
	}
	if string(content) == "arbitrary" {
		return nil, &Violation{Kind: BadContent}
	}
	if a != testAccount {
		return nil, ErrUnknownAccount
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.signed++
	return append([]byte("signed "), content...), nil
}

func (k *fakeKeeper) Verdicts() (map[string]uint64, error) {
	return map[string]uint64{"captured": 7, "keeper_signatures": 1 << 40}, nil
}

func (k *fakeKeeper) SaveState(fd int) error {
	data, err := ReadSealed(fd)
	k.mu.Lock()
	defer k.mu.Unlock()
	if err == nil {
		k.state = data
	}
	return err
}

func (k *fakeKeeper) LoadState() (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.state == nil {
		return -1, ErrNoState
	}
	return Memfd(k.state)
}

// recorder is a Handler that passes every event on as text and keeps the descriptors.
type recorder struct {
	events chan string
	mu     sync.Mutex
	fds    []int
}

func newRecorder(t testing.TB) *recorder {
	r := &recorder{events: make(chan string, 1024)}
	t.Cleanup(r.close)
	return r
}

func (r *recorder) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	closeAll(r.fds)
	r.fds = nil
}

func (r *recorder) Enrolled(p Pod, listeners []Listener) {
	text := fmt.Sprintf("enrolled %s %s %s %v", p.UID, p.Name, p.Account, p.Addrs)
	r.mu.Lock()
	for _, l := range listeners {
		text += fmt.Sprintf(" %v%d", l.Direction, l.Family)
		r.fds = append(r.fds, l.FD)
	}
	r.mu.Unlock()
	r.events <- text
}

func (r *recorder) Left(uid string, drain time.Duration) {
	r.events <- fmt.Sprintf("left %s %v", uid, drain)
}

func (r *recorder) Certificate(c Certificate) {
	r.events <- fmt.Sprintf("certificate %s %s %d", c.Account, c.Chain, c.NotAfter.Unix())
}

func (r *recorder) Others(programs []string) {
	r.events <- fmt.Sprintf("others %d %q", len(programs), programs)
}

func (r *recorder) Earlier(uid string, e Earlier) { r.events <- fmt.Sprintf("earlier %s %+v", uid, e) }

func (r *recorder) Synced() { r.events <- "synced" }

func (r *recorder) Superseded() { r.events <- "superseded" }

func (r *recorder) Roots(td string, pem []byte) { r.events <- fmt.Sprintf("roots %s %s", td, pem) }

func (r *recorder) want(t *testing.T, want string) {
	t.Helper()
	select {
	case got := <-r.events:
		if got != want {
			t.Fatalf("event %q, want %q", got, want)
		}
	case <-time.After(10 * time.Second):
		t.Fatalf("no event, want %q", want)
	}
}

// serve runs a server until the test ends.
func serve(t testing.TB, k Keeper) (*Server, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "proxy.sock")
	s := NewServer(ServerConfig{Path: path, UID: os.Getuid(), AllowRoot: true, Keeper: k, Log: slog.New(slog.DiscardHandler)})
	start1(t, s)
	return s, path
}

func start1(t testing.TB, s *Server) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("server: %v", err)
		}
	})
	eventually(t, "the server listens", func() bool { _, err := os.Stat(s.cfg.Path); return err == nil })
}

// connect runs a client until the test ends.
func connect(t testing.TB, path string, h Handler) *Client {
	t.Helper()
	c, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx, h) }()
	t.Cleanup(func() { cancel(); <-done })
	return c
}

func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("not within ten seconds: %s", what)
		}
		runtime.Gosched()
		time.Sleep(time.Millisecond) // between polls; the deadline decides
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// leaksNothing fails the test if it leaves descriptors open. Its check runs after all other cleanups.
func leaksNothing(t *testing.T) {
	t.Helper()
	warm, err := net.ListenUnix("unixpacket", &net.UnixAddr{Net: "unixpacket", Name: filepath.Join(t.TempDir(), "warm")})
	if err != nil {
		t.Fatal(err)
	}
	warm.Close() // the runtime's poller opens descriptors of its own at first use
	before := openFiles(t)
	t.Cleanup(func() {
		eventually(t, "as many open files as before", func() bool { return openFiles(t) <= before })
	})
}
