// Package system runs real programs, unmodified, in the pods of a lab, through the whole product: the CNI chain,
// keeper, proxy and controller are the binaries that users get.
package system

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/testnet"
)

var keepLogs = flag.String("keep-logs", "", "directory for the product's logs of failed tests")
var built = flag.String("bin", "", "directory of programs that are built already")

// bin holds the product's programs, built once.
var bin string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if os.Geteuid() != 0 {
		return m.Run() // every test says that it needs root
	}
	if *built != "" {
		bin = *built
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "fairlead-system")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	bin = dir
	err = testnet.Build(ctx, dir, "./cmd/...", "./examples/vote/cmd/...", "./test/demo")
	if err == nil {
		err = testnet.BuildReferencePlugins(ctx, filepath.Join(dir, "cni"))
	}
	if err == nil {
		err = buildPrograms(ctx, dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if err := closeShared(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// root skips the test for other users, unless skipping is forbidden.
func root(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") == "true" || os.Getenv("REQUIRE_ROOT") == "1" {
		t.Fatal("root is needed")
	}
	t.Skip("root is needed")
}

// newMesh makes a lab of two nodes with the product at work in it. The namespace "app" is enrolled.
func newMesh(t testing.TB, cfg testnet.MeshConfig) *testnet.Mesh {
	t.Helper()
	root(t)
	lab, err := newLab()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			saveLogs(t, lab)
		}
		if err := lab.Close(); err != nil {
			t.Error(err)
		}
	})
	return startMesh(t, lab, cfg)
}

// startMesh starts the product in a lab, until the test ends.
func startMesh(t testing.TB, lab *testnet.Lab, cfg testnet.MeshConfig) *testnet.Mesh {
	t.Helper()
	cfg.Bin = bin
	m, err := lab.StartMesh(t.Context(), cfg)
	if err != nil {
		dumpLogs(t, lab)
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := m.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return m
}

// newLab makes the lab that the product is started in.
func newLab() (*testnet.Lab, error) {
	lab, err := testnet.New(testnet.Config{Nodes: 2, Plugins: filepath.Join(bin, "cni"), CNIPlugin: filepath.Join(bin, "cni-plugin")})
	if err != nil {
		return nil, err
	}
	if err := lab.LabelNamespace("app", map[string]string{"fairlead.io/mesh": "enabled"}); err != nil {
		return nil, errors.Join(err, lab.Close())
	}
	return lab, nil
}

// saveLogs copies the product's logs to where -keep-logs says.
func saveLogs(t testing.TB, lab *testnet.Lab) {
	if *keepLogs == "" {
		return
	}
	if err := os.CopyFS(filepath.Join(*keepLogs, t.Name()), os.DirFS(lab.LogDir())); err != nil {
		t.Log(err)
	}
}

// mustAddPod starts a pod in the namespace "app" with the label app=name.
func mustAddPod(t testing.TB, n *testnet.Node, spec testnet.PodSpec) *testnet.Pod {
	t.Helper()
	if spec.Namespace == "" {
		spec.Namespace = "app"
	}
	if spec.Retry == 0 {
		spec.Retry = 10 * time.Second
	}
	if spec.Labels == nil {
		spec.Labels = map[string]string{"app": spec.Name}
	}
	p, err := n.AddPod(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// mustStart starts a program in a pod; it ends with the test at the latest.
func mustStart(t testing.TB, p *testnet.Pod, c testnet.Command) *testnet.Process {
	t.Helper()
	proc, err := p.Start(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := proc.Stop(2 * time.Second); err != nil {
			t.Error(err)
		}
	})
	return proc
}

// mustRun runs a program in a pod to its end.
func mustRun(t testing.TB, p *testnet.Pod, c testnet.Command) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := p.Run(ctx, c)
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", c.Path, c.Args, err, out)
	}
	return string(out)
}

// eventually tries until f returns nil.
func eventually(t testing.TB, limit time.Duration, what string, f func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); {
		if err = f(); err == nil {
			return
		}
		select {
		case <-t.Context().Done():
			t.Fatalf("%s: %v", what, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
	t.Fatalf("%s: not within %v: %v", what, limit, err)
}

func dumpLogs(t testing.TB, lab *testnet.Lab) {
	files, _ := filepath.Glob(filepath.Join(lab.LogDir(), "*"))
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		if len(b) > 4<<10 {
			b = b[len(b)-4<<10:]
		}
		t.Logf("%s:\n%s", filepath.Base(f), b)
	}
}
