package socket

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.io/fairlead/internal/mesh"
)

func TestEventsArriveInOrder(t *testing.T) {
	leaksNothing(t)
	pod := Pod{UID: "pod", Name: mesh.Name{Namespace: "ns", Name: "web-1"}, Account: testAccount,
		Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")}}
	k := &fakeKeeper{greeted: func(h Handler) {
		h.Others([]string{"cil_sock4_connect", ""})
		h.Others(nil)
		h.Others(make([]string, maxPrograms+1))
		h.Roots("cluster.local", []byte("PEM"))
		h.Certificate(Certificate{Account: testAccount, Chain: [][]byte{[]byte("leaf"), []byte("ca")}, NotAfter: time.Unix(1e9, 0)})
		h.Certificate(Certificate{Chain: [][]byte{[]byte("own")}, NotAfter: time.Unix(2e9, 0)})
		var ls []Listener
		for _, l := range []Listener{{Out, 4, 0}, {In, 4, 0}, {Out, 6, 0}, {In, 6, 0}} {
			l.FD, _ = newSocket()
			ls = append(ls, l)
		}
		h.Enrolled(pod, ls)
		h.Earlier("pod", Earlier{Connections: 1000, More: true})
		h.Earlier("pod", Earlier{})
		h.Synced()
		h.Left("pod", 30*time.Second)
	}}
	_, path := serve(t, k)
	r := newRecorder(t)
	connect(t, path, r)
	r.want(t, `others 2 ["cil_sock4_connect" ""]`)
	r.want(t, `others 0 []`)
	r.want(t, fmt.Sprintf("others %d %q", maxPrograms, make([]string, maxPrograms)))
	r.want(t, "roots cluster.local PEM")
	r.want(t, "certificate ns/sa [leaf ca] 1000000000")
	r.want(t, "certificate / [own] 2000000000")
	r.want(t, "enrolled pod ns/web-1 ns/sa [10.0.0.1 fd00::1] out4 in4 out6 in6")
	r.want(t, "earlier pod {Connections:1000 More:true}")
	r.want(t, "earlier pod {Connections:0 More:false}")
	r.want(t, "synced")
	r.want(t, "left pod 30s")
	for _, fd := range r.fds {
		if typ, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE); err != nil || typ != unix.SOCK_STREAM {
			t.Errorf("descriptor %d: type %d, %v", fd, typ, err)
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("descriptor %d is inherited: %#x, %v", fd, flags, err)
		}
	}
}

func TestCalls(t *testing.T) {
	leaksNothing(t)
	_, path := serve(t, &fakeKeeper{})
	r := newRecorder(t)
	c := connect(t, path, r)
	ctx := t.Context()
	if err := c.Serving(ctx); err != nil {
		t.Errorf("Serving: %v", err)
	}
	r.want(t, "superseded")

	fds, err := c.Sockets(ctx, "pod", 4, MaxBatch)
	if err != nil || len(fds) != MaxBatch {
		t.Fatalf("Sockets: %d, %v", len(fds), err)
	}
	closeAll(fds)
	if _, err := c.Sockets(ctx, "other", 4, 1); !errors.Is(err, ErrUnknownPod) {
		t.Errorf("Sockets of an unknown pod: %v", err)
	}
	fd, err := c.Hop(ctx, "pod", netip.MustParseAddr("fd00::1"))
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(fd)
	sig, err := c.Sign(ctx, testAccount, sha256.Sum256([]byte("leaf")), []byte("content"))
	if err != nil || string(sig) != "signed content" {
		t.Errorf("Sign: %q, %v", sig, err)
	}
	if _, err := c.Sign(ctx, mesh.Account{Namespace: "ns", Name: "other"}, [32]byte{}, nil); !errors.Is(err, ErrUnknownAccount) {
		t.Errorf("Sign for an unknown account: %v", err)
	}
	verdicts, err := c.Verdicts(ctx)
	if err != nil || verdicts["captured"] != 7 || verdicts["keeper_signatures"] != 1<<40 {
		t.Errorf("Verdicts: %v, %v", verdicts, err)
	}
}

func TestState(t *testing.T) {
	leaksNothing(t)
	_, path := serve(t, &fakeKeeper{})
	c := connect(t, path, newRecorder(t))
	if _, err := c.LoadState(t.Context()); !errors.Is(err, ErrNoState) {
		t.Fatalf("LoadState before SaveState: %v", err)
	}
	want := strings.Repeat("state ", 100_000)
	fd, err := Memfd([]byte(want))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := c.SaveState(t.Context(), fd); err != nil {
		t.Fatal(err)
	}
	got, err := c.LoadState(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	data, err := ReadState(got)
	if err != nil || string(data) != want {
		t.Errorf("LoadState: %d bytes, %v; want %d", len(data), err, len(want))
	}
}

// A thousand callers share a few hundred slots, and every reply finds its caller.
func TestCallsArePipelined(t *testing.T) {
	leaksNothing(t)
	_, path := serve(t, &fakeKeeper{})
	c := connect(t, path, newRecorder(t))
	var wg sync.WaitGroup
	for i := range 1000 {
		wg.Go(func() {
			content := fmt.Sprintf("content %d", i)
			sig, err := c.Sign(t.Context(), testAccount, [32]byte{}, []byte(content))
			if err != nil || string(sig) != "signed "+content {
				t.Errorf("Sign: %q, %v", sig, err)
			}
			fds, err := c.Sockets(t.Context(), "pod", 4, 2)
			if err != nil {
				t.Error(err)
			}
			closeAll(fds)
		})
	}
	wg.Wait()
}

// What comes for a call that gave up is closed, and its slot is free again.
func TestAbandonedCalls(t *testing.T) {
	leaksNothing(t)
	k := &fakeKeeper{block: make(chan struct{})}
	_, path := serve(t, k)
	c := connect(t, path, newRecorder(t))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range workers { // every worker of the keeper waits
		wg.Go(func() {
			if _, err := c.Sign(ctx, testAccount, [32]byte{}, nil); !errors.Is(err, context.Canceled) {
				t.Errorf("Sign: %v", err)
			}
		})
	}
	release := sync.OnceFunc(func() { close(k.block) })
	t.Cleanup(release)
	eventually(t, "the keeper's workers wait", func() bool { return k.blocked.Load() == workers })
	for range 50 { // so these wait behind them
		wg.Go(func() {
			if _, err := c.Sockets(ctx, "pod", 4, 8); !errors.Is(err, context.Canceled) {
				t.Errorf("Sockets: %v", err)
			}
		})
	}
	eventually(t, "all calls are under way", func() bool { return len(c.slots) == workers+50 })
	cancel()
	wg.Wait()
	release()
	eventually(t, "all slots are free", func() bool { return len(c.slots) == 0 })
}

func TestKeeperGoes(t *testing.T) {
	leaksNothing(t)
	k := &fakeKeeper{block: make(chan struct{})}
	path := t.TempDir() + "/proxy.sock"
	s := NewServer(ServerConfig{Path: path, UID: unix.Getuid(), AllowRoot: true, Keeper: k, Log: discard})
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Run(ctx) }()
	eventually(t, "the server listens", func() bool { return unix.Access(path, unix.F_OK) == nil })
	c, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	ran, signed := make(chan error, 1), make(chan error, 1)
	go func() { ran <- c.Run(t.Context(), newRecorder(t)) }()
	go func() { _, err := c.Sign(t.Context(), testAccount, [32]byte{}, nil); signed <- err }()
	eventually(t, "the call is under way", func() bool { return k.blocked.Load() == 1 })
	cancel()
	if err := <-ran; err == nil {
		t.Error("Run returned no error")
	}
	if err := <-signed; !errors.Is(err, ErrClosed) {
		t.Errorf("Sign: %v, want ErrClosed", err)
	}
	if _, err := c.Verdicts(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("Verdicts after the end: %v, want ErrClosed", err)
	}
	close(k.block)
	if err := <-served; err != nil {
		t.Error(err)
	}
	if unix.Access(path, unix.F_OK) != nil {
		t.Error("the server took its socket's path away, which may be its successor's")
	}
}
