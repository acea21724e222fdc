package conformance

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// lab is the cluster that the suite runs on.
type lab struct {
	Kubeconfig string `json:"kubeconfig"`
	Kubectl    string `json:"kubectl"`
}

const clusterName, clusterPort = "conformance", "16447"

// open starts a cluster of two nodes with the Gateway API's definitions and the mesh in it. With KUBECONFIG it takes that one, as
// it is.
func open(t *testing.T) *lab {
	t.Helper()
	if k := os.Getenv("KUBECONFIG"); k != "" {
		return &lab{Kubeconfig: k, Kubectl: "kubectl"}
	}
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("root is needed, or a cluster in KUBECONFIG")
		}
		t.Skip("root is needed, or a cluster in KUBECONFIG")
	}
	l := &lab{}
	launcher := filepath.Join(*bin, "cluster")
	if !*keep {
		t.Cleanup(func() { // the test's context has ended
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
			defer cancel()
			if out, err := exec.CommandContext(ctx, launcher, "--name", clusterName, "down").CombinedOutput(); err != nil {
				t.Errorf("take the cluster down: %v\n%s", err, out)
			}
		})
	}
	run(t, "", launcher, "--name", clusterName, "up", "--nodes", "2", "--port", clusterPort)
	if err := json.Unmarshal([]byte(run(t, "", launcher, "--name", clusterName, "paths")), l); err != nil {
		t.Fatalf("parse paths of the cluster: %v", err)
	}
	tars, err := filepath.Glob(filepath.Join(*images, "*.tar"))
	if err != nil || len(tars) == 0 {
		t.Fatalf("find images in %s: %v", *images, err)
	}
	run(t, "", launcher, append([]string{"--name", clusterName, "load"}, tars...)...)
	run(t, "", l.Kubectl, "--kubeconfig", l.Kubeconfig, "apply", "--server-side", "-f", definitions(t))
	manifest := run(t, "", filepath.Join(*bin, "fairlead"), "--kubeconfig", l.Kubeconfig, "install")
	run(t, manifest, l.Kubectl, "--kubeconfig", l.Kubeconfig, "apply", "--server-side", "--force-conflicts", "-f", "-")
	run(t, "", filepath.Join(*bin, "fairlead"), "--kubeconfig", l.Kubeconfig, "check", "--wait", "3m")
	return l
}

// definitions is the directory of the Gateway API's standard channel, in the module of the version that the suite is of.
func definitions(t *testing.T) string {
	t.Helper()
	dir := strings.TrimSpace(run(t, "", "go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/gateway-api"))
	return filepath.Join(dir, "config", "crd", "standard")
}

// run runs a program, which gets input, and returns what it writes to its output; if it fails, so does the test.
func run(t *testing.T, input, path string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.WaitDelay = 5 * time.Second
	cmd.Stdin = strings.NewReader(input)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(fmt.Errorf("%s %s: %w\n%s%s", filepath.Base(path), strings.Join(args, " "), err, out, stderr.String()))
	}
	return string(out)
}
