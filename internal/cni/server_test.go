package cni

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type handlerFunc func(context.Context, *Request) error

func (f handlerFunc) CNI(ctx context.Context, r *Request) error { return f(ctx, r) }

var quiet = slog.New(slog.DiscardHandler)

// mustServe runs a keeper's end and returns its socket.
func mustServe(t *testing.T, h handlerFunc) string {
	t.Helper()
	socket := filepath.Join(shortDir(t), "cni.sock")
	s, err := Listen(socket, h, quiet)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return socket
}

// shortDir keeps a socket's path under the 108 bytes that the kernel takes.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "fl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func mustOpenNetNS(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Open("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func inode(t *testing.T, f *os.File) uint64 {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

func addRequest() *Request {
	return &Request{Command: Add, ContainerID: "c1", IfName: "eth0", Pod: Pod{"shop", "web-1", "u-1"},
		NetNSPath: "/run/netns/x", Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")}, Budget: 2000}
}

func TestARequestArrivesWhole(t *testing.T) {
	netns := mustOpenNetNS(t)
	var got Request
	var ino uint64
	var deadline time.Duration
	socket := mustServe(t, func(ctx context.Context, r *Request) error {
		got, ino = *r, inode(t, r.NetNS)
		d, _ := ctx.Deadline()
		deadline = time.Until(d)
		return nil
	})
	want := addRequest()
	if err := Call(t.Context(), socket, want, netns); err != nil {
		t.Fatal(err)
	}
	want.Version = Version
	if d := cmp.Diff(*want, got, cmpopts.IgnoreFields(Request{}, "NetNS"), cmpopts.EquateComparable(netip.Addr{})); d != "" {
		t.Error(d)
	}
	if ino != inode(t, netns) {
		t.Errorf("namespace %d arrived, %d was sent", ino, inode(t, netns))
	}
	if deadline <= 0 || deadline > 2*time.Second {
		t.Errorf("handler's time is %s, not the plugin's budget", deadline)
	}
	for give := time.Now().Add(5 * time.Second); ; <-time.After(time.Millisecond) { // it is closed behind the answer
		if _, err := got.NetNS.Stat(); errors.Is(err, os.ErrClosed) {
			break
		}
		if time.Now().After(give) {
			t.Fatal("the namespace stays open")
		}
	}
}

func TestARefusalReachesTheRuntimeAsItIs(t *testing.T) {
	for name, tc := range map[string]struct {
		err  error
		want *types.Error
	}{
		"a refusal":     {types.NewError(7, "no", "because"), types.NewError(7, "no", "because")},
		"try again":     {TryAgain("wait", "for it"), types.NewError(11, "wait", "for it")},
		"another error": {errors.New("oh"), types.NewError(11, "oh", "")},
		"a very long one": {TryAgain(strings.Repeat("\x01", 100_000), strings.Repeat("<", 100_000)),
			types.NewError(11, strings.Repeat("\x01", 4096), strings.Repeat("<", 4096))},
	} {
		t.Run(name, func(t *testing.T) {
			socket := mustServe(t, func(context.Context, *Request) error { return tc.err })
			err := Call(t.Context(), socket, &Request{Command: Status}, nil)
			var got *types.Error
			if !errors.As(err, &got) {
				t.Fatalf("got %v", err)
			}
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestNoKeeperIsKnownAtOnce(t *testing.T) {
	socket := filepath.Join(shortDir(t), "cni.sock")
	start := time.Now()
	if err := Call(t.Context(), socket, &Request{Command: Status}, nil); !errors.Is(err, ErrKeeperAway) {
		t.Errorf("no socket: %v", err)
	}
	s, err := Listen(socket, handlerFunc(nil), quiet)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Call(t.Context(), socket, &Request{Command: Status}, nil); !errors.Is(err, ErrKeeperAway) {
		t.Errorf("a dead keeper's socket: %v", err)
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("took %s", took)
	}
}

func TestASlowKeeperCostsTheBudgetAndNoMore(t *testing.T) {
	socket := mustServe(t, func(ctx context.Context, _ *Request) error {
		<-ctx.Done()
		<-time.After(50 * time.Millisecond) // the answer of a keeper that is late
		return nil
	})
	start := time.Now()
	err := Call(t.Context(), socket, &Request{Command: Status, Budget: 100}, nil)
	if !errors.Is(err, ErrKeeperAway) {
		t.Errorf("got %v", err)
	}
	if took := time.Since(start); took < 90*time.Millisecond || took > 2*time.Second {
		t.Errorf("took %s of a budget of 100ms", took)
	}
}

func TestASuccessorReplacesTheSocketAndKeepsIt(t *testing.T) {
	path := filepath.Join(shortDir(t), "cni.sock")
	old, err := Listen(path, handlerFunc(nil), quiet)
	if err != nil {
		t.Fatal(err)
	}
	successor, err := Listen(path, handlerFunc(func(context.Context, *Request) error { return TryAgain("successor", "") }), quiet)
	if err != nil {
		t.Fatal(err)
	}
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- successor.Run(ctx) }()
	if err := Call(t.Context(), path, &Request{Command: Status}, nil); err == nil || err.Error() != "successor" {
		t.Errorf("got %v", err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestForeignMessagesAreRefused speaks to the server below Call.
func TestForeignMessagesAreRefused(t *testing.T) {
	called := make(chan *Request, 100)
	socket := mustServe(t, func(_ context.Context, r *Request) error { called <- r; return nil })
	netns, file, mount := mustOpenNetNS(t), mustOpen(t, "/dev/null"), mustOpen(t, "/proc/self/ns/mnt")
	good := mustMarshal(t, func(r *Request) {})
	for name, tc := range map[string]struct {
		message []byte
		files   []*os.File
	}{
		"no JSON":                {[]byte("hello"), []*os.File{netns}},
		"too long":               {append([]byte(`{"x":"`+strings.Repeat("x", MaxMessage)+`",`), good[1:]...), []*os.File{netns}},
		"another version":        {mustMarshal(t, func(r *Request) { r.Version = 2 }), []*os.File{netns}},
		"an unknown command":     {mustMarshal(t, func(r *Request) { r.Command = "FLY" }), nil},
		"ADD without a pod":      {mustMarshal(t, func(r *Request) { r.Pod = Pod{} }), []*os.File{netns}},
		"a pod with a path":      {mustMarshal(t, func(r *Request) { r.Pod.Name = "../x" }), []*os.File{netns}},
		"no descriptor":          {good, nil},
		"two descriptors":        {good, []*os.File{netns, netns}},
		"more than fit":          {good, []*os.File{netns, netns, netns, netns, netns, netns, netns}},
		"no namespace":           {good, []*os.File{file}},
		"a mount namespace":      {good, []*os.File{mount}},
		"a descriptor for a DEL": {mustMarshal(t, func(r *Request) { r.Command = Del }), []*os.File{netns}},
	} {
		t.Run(name, func(t *testing.T) {
			before := openFiles(t)
			reply := mustExchange(t, socket, tc.message, tc.files)
			if reply.OK || reply.Code != types.ErrDecodingFailure || reply.Message == "" {
				t.Errorf("reply %+v", reply)
			}
			select {
			case r := <-called:
				t.Errorf("the handler was called: %+v", r)
			default:
			}
			waitFor(t, "the descriptors to be closed", func() bool { return openFiles(t) <= before })
		})
	}
	if reply := mustExchange(t, socket, good, []*os.File{netns}); !reply.OK {
		t.Errorf("the good one: %+v", reply)
	}
}

func mustOpen(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func mustMarshal(t *testing.T, edit func(*Request)) []byte {
	t.Helper()
	r := addRequest()
	r.Version = Version
	edit(r)
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustExchange(t *testing.T, socket string, message []byte, files []*os.File) *Reply {
	t.Helper()
	conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: socket, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	var fds []int
	for _, f := range files {
		fds = append(fds, int(f.Fd()))
	}
	var oob []byte
	if len(fds) > 0 {
		oob = syscall.UnixRights(fds...)
	}
	if _, _, err := conn.WriteMsgUnix(message, oob, nil); err != nil {
		t.Fatal(err)
	}
	reply, err := readReply(conn)
	if err != nil {
		t.Fatal(err)
	}
	return reply
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		<-time.After(5 * time.Millisecond)
	}
}
