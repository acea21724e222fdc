package node

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/keeper/socket"
	"fairlead.io/fairlead/internal/mesh"
)

// keeperEnd is the keeper's side of the socket. It tells one pod, without listeners, to whoever attaches.
type keeperEnd struct {
	verdicts func() (map[string]uint64, error)
	pod      string
}

func (k *keeperEnd) Attached(h socket.Handler) {
	h.Enrolled(podNamed(k.pod), nil)
	h.Synced()
}
func (k *keeperEnd) Detached(socket.Handler)                 {}
func (k *keeperEnd) Serving(h socket.Handler)                { h.Superseded() }
func (k *keeperEnd) Sockets(string, int, int) ([]int, error) { return nil, socket.ErrUnknownPod }
func (k *keeperEnd) Hop(string, netip.Addr) (int, error)     { return -1, socket.ErrUnknownPod }
func (k *keeperEnd) Verdicts() (map[string]uint64, error)    { return k.verdicts() }
func (k *keeperEnd) SaveState(int) error                     { return nil }
func (k *keeperEnd) LoadState() (int, error)                 { return -1, socket.ErrNoState }
func (k *keeperEnd) Sign(mesh.Account, [32]byte, []byte) ([]byte, error) {
	return nil, socket.ErrLimited
}

// serve runs a keeper at the path until it is stopped.
func (k *keeperEnd) serve(t *testing.T, path string) (stop func()) {
	t.Helper()
	s := socket.NewServer(socket.ServerConfig{Path: path, UID: os.Geteuid(), AllowRoot: true, Keeper: k, Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("keeper: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// runLink runs a link to the path until the test ends.
func runLink(t *testing.T, path string, log *slog.Logger) (*link, *pods) {
	t.Helper()
	l, p := newLink(path, log), testPods()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = l.run(ctx, p) })
	t.Cleanup(running.Wait)
	t.Cleanup(cancel)
	return l, p
}

// A call that the keeper's restart cuts off is made again, and pods that left meanwhile go.
func TestCallsOutliveTheKeeper(t *testing.T) {
	path := filepath.Join(t.TempDir(), "proxy.sock")
	called := make(chan struct{}, 1)
	hold := make(chan struct{})
	first := &keeperEnd{pod: "a", verdicts: func() (map[string]uint64, error) {
		called <- struct{}{}
		<-hold
		return nil, nil
	}}
	stop := first.serve(t, path)
	l, p := runLink(t, path, slog.New(slog.DiscardHandler))
	got := make(chan error, 1)
	var counts map[string]uint64
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		var err error
		counts, err = l.Verdicts(ctx)
		got <- err
	}()
	<-called
	go close(hold) // the answer may still come, or be cut off
	stop()
	second := &keeperEnd{pod: "b", verdicts: func() (map[string]uint64, error) { return map[string]uint64{"second": 1}, nil }}
	second.serve(t, path)
	if err := <-got; err != nil || len(counts) > 1 {
		t.Errorf("a call across the restart: %v, %v", counts, err)
	}
	eventually(t, "the second keeper's pod is here and the first's is not", func() bool {
		_, a := p.name("a")
		_, b := p.name("b")
		return b && !a
	})
	if _, err := l.Hop(t.Context(), "c", client); !errors.Is(err, socket.ErrUnknownPod) {
		t.Errorf("a refusal: %v", err)
	}
}

func TestCallsWaitForTheKeeperAsLongAsTheyMay(t *testing.T) {
	var out lines
	l, _ := runLink(t, filepath.Join(t.TempDir(), "proxy.sock"), slog.New(slog.NewTextHandler(&out, nil)))
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := l.LoadState(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("without a keeper: %v", err)
	}
	if n := out.count("keeper is away"); n != 1 {
		t.Errorf("%d lines about one absence", n)
	}
}

// A call that ends every connection is given up.
func TestACallIsNotTriedForEver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "proxy.sock")
	var calls atomic.Int64
	k := &keeperEnd{pod: "a", verdicts: func() (map[string]uint64, error) {
		calls.Add(1)
		return nil, &socket.Violation{Kind: socket.Malformed}
	}}
	k.serve(t, path)
	l, _ := runLink(t, path, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := l.Verdicts(ctx); !errors.Is(err, socket.ErrClosed) || calls.Load() != callTries {
		t.Errorf("%v after %d calls, want %d", err, calls.Load(), callTries)
	}
}

// lines is a log that may be read while it is written.
type lines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lines) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), text)
}
