package system

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/testnet"
)

// TestCNITime prints what our plugin adds to the start of a pod: each ADD of its own, as the runtime calls it, with the
// real keeper behind it, for pods that have been scheduled before, as they are in a cluster. A millisecond is no verdict on a busy machine: only that all of them are there is one.
func TestCNITime(t *testing.T) {
	root(t)
	const pods = 100
	record := filepath.Join(t.TempDir(), "took")
	t.Setenv("STOPWATCH_PLUGIN", filepath.Join(bin, "cni-plugin"))
	t.Setenv("STOPWATCH_LOG", record)
	lab, err := testnet.New(testnet.Config{Nodes: 1, Plugins: filepath.Join(bin, "cni"), CNIPlugin: filepath.Join(bin, "stopwatch")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lab.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := lab.LabelNamespace("app", map[string]string{"fairlead.io/mesh": "enabled"}); err != nil {
		t.Fatal(err)
	}
	m := startMesh(t, lab, testnet.MeshConfig{})
	for _, namespace := range []string{"app", "plain"} {
		if err := os.WriteFile(record, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		lead := map[string]time.Duration{"app": 60 * time.Millisecond}[namespace] // for others nobody is waited for
		for i := range pods {
			p := mustAddPod(t, m.Nodes[0].Node, testnet.PodSpec{Namespace: namespace, Name: fmt.Sprintf("pod-%d", i), Lead: lead})
			if err := p.Delete(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		took := readTimes(t, record)
		if len(took) < pods {
			t.Fatalf("%d calls of ADD for %d pods of namespace %s", len(took), pods, namespace)
		}
		slices.Sort(took)
		t.Logf("our plugin's ADD for a pod of namespace %s: median %v, p99 %v, of %d", namespace, took[len(took)/2], took[len(took)*99/100], len(took))
	}
}

// readTimes reads the ADDs of a stopwatch's file.
func readTimes(t testing.TB, path string) []time.Duration {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var took []time.Duration
	for line := range strings.Lines(string(b)) {
		var command string
		var nanoseconds int64
		if _, err := fmt.Sscan(line, &command, &nanoseconds); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if command == "ADD" {
			took = append(took, time.Duration(nanoseconds).Round(10*time.Microsecond))
		}
	}
	return took
}
