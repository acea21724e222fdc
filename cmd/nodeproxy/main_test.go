package main

import (
	"context"
	"flag"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.io/fairlead/internal/cni"
	"fairlead.io/fairlead/internal/identity"
)

func requireRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") == "true" || os.Getenv("REQUIRE_ROOT") == "1" {
		t.Fatal("needs root")
	}
	t.Skip("needs root")
}

func TestRoles(t *testing.T) {
	for _, args := range [][]string{nil, {"--help"}, {"kepper"}} {
		err := run(t.Context(), args)
		if err == nil || !strings.Contains(err.Error(), "cleanup, cleanup-ready, keeper, keeper-ready, preflight") {
			t.Errorf("nodeproxy %q: %v, want the roles there are", args, err)
		}
	}
}

func TestKeeperSaysEverythingThatIsMissing(t *testing.T) {
	err := run(t.Context(), []string{"keeper", "--state="})
	for _, name := range []string{"--node", "--controller", "--roots", "--token-file", "--state"} {
		if err == nil || !strings.Contains(err.Error(), name+" is required") {
			t.Errorf("%v, want %s", err, name)
		}
	}
	if err := run(t.Context(), []string{"cleanup", "everything"}); err == nil || !strings.Contains(err.Error(), `unexpected argument "everything"`) {
		t.Errorf("cleanup everything: %v", err)
	}
}

func TestEveryFlagIsDocumented(t *testing.T) {
	newKeeperFlags().set.VisitAll(func(f *flag.Flag) {
		if len(f.Usage) < 10 {
			t.Errorf("--%s: %q", f.Name, f.Usage)
		}
	})
}

func TestNodeAddresses(t *testing.T) {
	f := newKeeperFlags()
	if err := f.parse([]string{"--node-address=10.0.0.1,fd00::1", "--node-address", "10.0.0.2"}); err != nil {
		t.Fatal(err)
	}
	if want := netip.MustParseAddr("10.0.0.2"); len(f.nodeAddrs.addrs) != 3 || f.nodeAddrs.addrs[2] != want {
		t.Errorf("addresses: %v", f.nodeAddrs)
	}
	f = newKeeperFlags()
	f.set.SetOutput(io.Discard)
	if err := f.parse([]string{"--node-address=node-1"}); err == nil {
		t.Error("a name was taken for an address")
	}
}

// The keeper's program, with the controller away: it answers the plugin, leaves its pins at the end, and cleanup takes
// them back.
func TestKeeperLifecycle(t *testing.T) {
	requireRoot(t)
	dir := t.TempDir()
	bpffs := filepath.Join(dir, "bpf")
	if err := os.Mkdir(bpffs, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("none", bpffs, "bpf", 0, "mode=0700"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(bpffs, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	td, err := identity.ParseTrustDomain("cluster.local")
	if err != nil {
		t.Fatal(err)
	}
	ca, err := identity.NewCA(td)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{"roots.pem": ca.RootPEM(), "token": []byte("secret\n")} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	dirs := []string{"--run", filepath.Join(dir, "run"), "--state", filepath.Join(dir, "state"), "--keys", filepath.Join(dir, "run/keys")}
	kernel := []string{"--bpffs", bpffs, "--instance", "lifecycle", "--netns-dir", dir, "--log-level", "ERROR"}
	t.Cleanup(func() { _ = run(context.Background(), append([]string{"cleanup"}, kernel...)) })
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- run(ctx, append([]string{"keeper", "--node", "n1", "--controller", "127.0.0.1:1", "--roots", filepath.Join(dir, "roots.pem"),
			"--token-file", filepath.Join(dir, "token"), "--proxy-uid", "65532", "--kubelet-cgroup=auto", "--node-address=auto", "--host-netns=/proc/self/ns/net", "--linger=1s"},
			append(kernel, dirs...)...))
	}()
	socket, proxySocket := filepath.Join(dir, "run/cni.sock"), filepath.Join(dir, "run/proxy/proxy.sock")
	deadline := time.Now().Add(20 * time.Second)
	for err = os.ErrNotExist; err != nil && !strings.Contains(err.Error(), "not heard from the controller"); {
		select {
		case err := <-done:
			t.Fatalf("keeper ended: %v", err)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("no answer to STATUS: %v", err)
		}
		err = cni.Call(ctx, socket, &cni.Request{Command: cni.Status}, nil)
	}
	until(t, "the proxy's socket is the proxy's alone", func() bool { // it comes by itself, not with the plugin's
		var st unix.Stat_t
		return unix.Stat(proxySocket, &st) == nil && st.Uid == 65532 && st.Mode&0o777 == 0o600
	})
	err = run(ctx, []string{"keeper-ready", "--run", filepath.Join(dir, "run")})
	if err == nil || !strings.Contains(err.Error(), "waiting for certificate of the keeper, pods of this node") {
		t.Errorf("keeper-ready: %v", err)
	}
	if err := run(ctx, append([]string{"cleanup", "--timeout=50ms"}, append(kernel, dirs...)...)); err == nil || !strings.Contains(err.Error(), "a keeper of this node still lives") {
		t.Errorf("cleanup below a keeper: %v", err)
	}
	stop()
	if err := <-done; err != nil {
		t.Errorf("keeper: %v", err)
	}
	pins, _ := filepath.Glob(filepath.Join(bpffs, "fairlead/lifecycle/*"))
	if len(pins) == 0 {
		t.Error("nothing is in force after a clean shutdown")
	}
	cleanUp(t, filepath.Join(dir, "run"), append(kernel, dirs...))
	for _, path := range []string{filepath.Join(bpffs, "fairlead"), filepath.Join(dir, "run"), filepath.Join(dir, "state")} {
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("%s is left after cleanup: %v", path, err)
		}
	}
}

// cleanUp runs cleanup as a pod does: it is not ready as long as there is what it must not remove, then it is, and it
// stays until it is told to end.
func cleanUp(t *testing.T, runDir string, args []string) {
	t.Helper()
	foreign, socket := filepath.Join(runDir, "somebody's"), filepath.Join(t.TempDir(), "ready.sock")
	if err := os.WriteFile(foreign, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	done := make(chan error, 1)
	go func() {
		done <- run(ctx, append([]string{"cleanup", "--remove-state", "--wait", "--ready-socket", socket, "--log-level=ERROR+4"}, args...))
	}()
	ready := func() error { return run(ctx, []string{"cleanup-ready", "--ready-socket", socket}) }
	until(t, "what is left is named", func() bool {
		err := ready()
		return err != nil && strings.Contains(err.Error(), "left on this node: "+foreign)
	})
	if err := os.Remove(foreign); err != nil {
		t.Fatal(err)
	}
	until(t, "ready", func() bool { return ready() == nil })
	select {
	case err := <-done:
		t.Fatalf("cleanup did not stay: %v", err)
	default:
	}
	stop()
	if err := <-done; err != nil {
		t.Errorf("cleanup: %v", err)
	}
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
		<-time.After(20 * time.Millisecond)
	}
}

func TestWhatTheKernelLacksIsNamedInOneLine(t *testing.T) {
	requireRoot(t)
	for role, args := range map[string][]string{
		"preflight": nil, "keeper": {"--node=n", "--controller=127.0.0.1:1", "--roots=r", "--token-file=t", "--keys=" + t.TempDir(), "--run=" + t.TempDir()},
	} {
		err := run(t.Context(), append(append([]string{role}, args...), "--guard", "--simulate-missing=sk_lookup,connect_retval,tcx"))
		const want = "preflight: this kernel lacks: error of a connect hook not supported (needs Linux 5.18): simulated; " +
			"sk_lookup not supported (needs Linux 5.9): simulated; tcx not supported (needs Linux 6.6): simulated for --guard"
		if err == nil || err.Error() != want {
			t.Errorf("%s: %v", role, err)
		}
	}
	if err := run(t.Context(), []string{"preflight", "--simulate-missing=,"}); err == nil || !strings.Contains(err.Error(), `"" is none of`) {
		t.Errorf("an empty key: %v", err)
	}
}
