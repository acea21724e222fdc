package system

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/testnet"
)

// TestTheKeeperInstallsThePlugin follows the plugin's life on a node: chained onto what is there, put back when the network's
// own agent rewrites its file, called for a pod, and taken out by the cleanup, entry and binary.
func TestTheKeeperInstallsThePlugin(t *testing.T) {
	root(t)
	lab, err := testnet.New(testnet.Config{Nodes: 1, Plugins: filepath.Join(bin, "cni")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lab.Close(); err != nil {
			t.Error(err)
		}
	})
	conf := filepath.Join(lab.Node(0).ConfDir(), "10-lab.conflist")
	plugin := filepath.Join(lab.Node(0).BinDir(), "fairlead-cni")
	before, err := os.ReadFile(conf)
	if err != nil {
		t.Fatal(err)
	}
	if err := lab.LabelNamespace("app", map[string]string{"fairlead.io/mesh": "enabled"}); err != nil {
		t.Fatal(err)
	}
	m, err := lab.StartMesh(t.Context(), testnet.MeshConfig{Bin: bin, InstallCNI: true})
	if err != nil {
		t.Fatal(err)
	}
	stopped := false
	stop := func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := m.Stop(ctx); err != nil {
			t.Error(err)
		}
		stopped = true
	}
	t.Cleanup(func() {
		if !stopped {
			stop()
		}
	})

	if err := os.WriteFile(conf, before, 0o644); err != nil { // as an agent that restarts does
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, "the entry is back", func() error {
		b, err := os.ReadFile(conf)
		if err == nil && !bytes.Contains(b, []byte("fairlead-cni")) {
			err = errors.New("no entry")
		}
		return err
	})
	p := mustAddPod(t, m.Nodes[0].Node, testnet.PodSpec{Name: "web"})
	metrics, err := m.Nodes[0].Admin(t.Context(), "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(metrics, []byte(`fairlead_keeper_events_total{event="pods_captured"} 1`)) {
		t.Errorf("the pod %s was not captured:\n%s", p.Name, metrics)
	}
	if err := p.Delete(t.Context()); err != nil {
		t.Error(err)
	}
	stop()
	after, err := os.ReadFile(conf)
	if err != nil || !sameJSON(t, after, before) {
		t.Errorf("after the cleanup the configuration is, %v:\n%s\nit was:\n%s", err, after, before)
	}
	if _, err := os.Stat(plugin); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the binary is still there: %v", err)
	}
	if _, err := m.Nodes[0].AddPod(t.Context(), testnet.PodSpec{Namespace: "app", Name: "later"}); err != nil {
		t.Errorf("a pod cannot start after the cleanup: %v", err)
	}
}

func sameJSON(t testing.TB, a, b []byte) bool {
	t.Helper()
	var x, y any
	if err := errors.Join(json.Unmarshal(a, &x), json.Unmarshal(b, &y)); err != nil {
		t.Fatal(err)
	}
	return reflect.DeepEqual(x, y)
}
