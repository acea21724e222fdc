package system

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"fairlead.io/fairlead/internal/testnet"
)

// TestProxyProcess looks at the process that reads what the network sends: it has no privilege and no key lies open to it.
func TestProxyProcess(t *testing.T) {
	m := sharedMesh(t)
	for _, n := range m.Nodes {
		proc := fmt.Sprintf("/proc/%d", n.Proxy.PID())
		status := map[string]string{}
		b, err := os.ReadFile(filepath.Join(proc, "status"))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			name, value, _ := strings.Cut(line, ":")
			status[name] = strings.Join(strings.Fields(value), " ")
		}
		id := strings.TrimSpace(strings.Repeat(fmt.Sprint(testnet.ProxyUID, " "), 4))
		none := strings.Repeat("0", 16)
		for name, want := range map[string]string{"Uid": id, "Gid": id, "CapEff": none, "CapPrm": none, "CapBnd": none, "CapAmb": none, "CapInh": none, "NoNewPrivs": "1", "Groups": ""} {
			if status[name] != want {
				t.Errorf("%s: %s is %q, want %q", n.Name, name, status[name], want)
			}
		}
		noKeys(t, proc, n)
	}
}

// noKeys looks for private keys and tokens in the process's environment, arguments and open files.
func noKeys(t *testing.T, proc string, n *testnet.MeshNode) {
	t.Helper()
	token, err := os.ReadFile(filepath.Join(n.Dir(), "token"))
	if err != nil {
		t.Fatal(err)
	}
	secret := func(b []byte) bool {
		return bytes.Contains(b, []byte("PRIVATE KEY")) || bytes.Contains(b, bytes.TrimSpace(token))
	}
	for _, file := range []string{"environ", "cmdline"} {
		if b, err := os.ReadFile(filepath.Join(proc, file)); err != nil || len(b) == 0 || secret(b) {
			t.Errorf("%s: %s holds a secret or cannot be read: %v", n.Name, file, err)
		}
	}
	fds, err := os.ReadDir(filepath.Join(proc, "fd"))
	if err != nil || len(fds) == 0 {
		t.Fatalf("%d open files, %v", len(fds), err)
	}
	for _, fd := range fds {
		path := filepath.Join(proc, "fd", fd.Name())
		target, err := os.Readlink(path)
		if err != nil {
			continue // closed meanwhile
		}
		if strings.Contains(target, "/keys") || strings.Contains(target, "/token") || strings.Contains(target, "/ca/") || strings.Contains(target, "bpf-") {
			t.Errorf("%s: has %s open", n.Name, target)
		}
		if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() {
			if b, err := os.ReadFile(path); err == nil && secret(b) {
				t.Errorf("%s: has %s open, with a secret in it", n.Name, target)
			}
		}
	}
}

// TestMetrics looks at the names of all metrics after some traffic, and whether they are as Prometheus wants them.
func TestMetrics(t *testing.T) {
	c := newCast(t, nil)
	c.who(t, c.clients[0], c.vips[0], 20)
	for _, n := range c.m.Nodes {
		text, err := n.Admin(t.Context(), "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		problems, err := promlint.New(bytes.NewReader(text)).Lint()
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range problems {
			t.Errorf("%s: %s: %s", n.Name, p.Metric, p.Text)
		}
		families := metrics(t, n)
		for _, name := range []string{"fairlead_requests_total", "fairlead_request_duration_seconds", "fairlead_tcp_connections_opened_total",
			"fairlead_handshakes_total", "fairlead_certificate_expiry_timestamp_seconds", "fairlead_bpf_verdicts_total", "fairlead_build_info"} {
			if len(families[name].GetMetric()) == 0 {
				t.Errorf("%s: no %s", n.Name, name)
			}
		}
		for name := range families {
			if !strings.HasPrefix(name, "fairlead_") && !strings.HasPrefix(name, "go_") && !strings.HasPrefix(name, "process_") {
				t.Errorf("%s: a metric named %s", n.Name, name)
			}
		}
		if sum(families, "fairlead_handshakes_total", labels{"result": "ok"}) == 0 {
			t.Errorf("%s: no handshake is counted", n.Name)
		}
	}
}
