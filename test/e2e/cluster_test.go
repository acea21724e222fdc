package e2e

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// cluster is a Kubernetes that the tests may do everything to.
type cluster struct {
	Kubeconfig string `json:"kubeconfig"`
	Kubectl    string `json:"kubectl"`
	Helm       string `json:"helm"`

	own    bool // started by us: its nodes can be stopped
	nodes  []string
	agents map[string]string // pods of the agent, by node
}

// open finds the cluster of KUBECONFIG or starts one of our own, loads the images, and puts an agent on every node.
func open(ctx context.Context) (*cluster, error) {
	c := &cluster{Kubeconfig: os.Getenv("KUBECONFIG"), Kubectl: "kubectl", Helm: "helm", agents: map[string]string{}}
	if c.Kubeconfig == "" {
		c.own = true
		if out, err := launch(ctx, "up", "--nodes", "2", "--port", ownPort, "--dual-stack"); err != nil {
			return c, fmt.Errorf("%w\n%s", err, out)
		}
		out, err := launch(ctx, "paths")
		if err != nil {
			return c, err
		}
		if err := json.Unmarshal(out, c); err != nil {
			return c, fmt.Errorf("parse paths of the cluster: %w", err)
		}
		if err := c.load(ctx); err != nil {
			return c, err
		}
	}
	names, err := c.try(ctx, "get", "nodes", "-o", "jsonpath={.items[*].metadata.name}")
	if err != nil {
		return c, err
	}
	c.nodes = strings.Fields(names)
	if len(c.nodes) < 2 {
		return c, fmt.Errorf("%d nodes, at least two are needed", len(c.nodes))
	}
	return c, c.startAgents(ctx)
}

// ownName and ownPort are those of the cluster that we start: with others it runs beside one that is up.
var (
	ownName = cmp.Or(os.Getenv("FAIRLEAD_E2E_CLUSTER"), "lab")
	ownPort = cmp.Or(os.Getenv("FAIRLEAD_E2E_PORT"), "16443")
)

// launch runs the program that starts a cluster on this machine.
func launch(ctx context.Context, args ...string) ([]byte, error) {
	return command(ctx, filepath.Join(*bin, "cluster"), append([]string{"--name", ownName}, args...)...)
}

// load brings all images to all nodes.
func (c *cluster) load(ctx context.Context) error {
	images, err := filepath.Glob(filepath.Join(*dist, "*.tar"))
	if err != nil || len(images) == 0 {
		return fmt.Errorf("find images in %s: %w", *dist, errors.Join(err, os.ErrNotExist))
	}
	out, err := launch(ctx, append([]string{"load"}, images...)...)
	if err != nil {
		return fmt.Errorf("load images: %w\n%s", err, out)
	}
	return nil
}

func (c *cluster) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if !c.own {
		_, err := c.try(ctx, "delete", "namespace", testNamespace, voteNamespace, "--ignore-not-found")
		return err
	}
	out, err := launch(ctx, "down")
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

// command runs a program and returns what it writes to its output. An error has what it writes to the other.
func command(ctx context.Context, path string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.WaitDelay = 5 * time.Second
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("%s %s: %w: %s", filepath.Base(path), strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, nil
}

// patience is how long one call of kubectl may take.
const patience = 2 * time.Minute

// try runs kubectl.
func (c *cluster) try(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	out, err := command(ctx, c.Kubectl, append([]string{"--kubeconfig", c.Kubeconfig}, args...)...)
	return strings.TrimSpace(string(out)), err
}

// kubectl runs kubectl, and ends the test if it fails.
func (c *cluster) kubectl(t testing.TB, args ...string) string {
	t.Helper()
	out, err := c.try(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// get reads an object, or a list of them, into v.
func (c *cluster) get(t testing.TB, v any, args ...string) {
	t.Helper()
	text := c.kubectl(t, append([]string{"get", "-o", "json"}, args...)...)
	if err := json.Unmarshal([]byte(text), v); err != nil {
		t.Fatalf("parse %v: %v", args, err)
	}
}

// apply creates objects, or changes them.
func (c *cluster) apply(t testing.TB, manifest string) {
	t.Helper()
	if err := c.applyText(t.Context(), manifest); err != nil {
		t.Fatal(err)
	}
}

// deleteText deletes what a manifest names.
func (c *cluster) deleteText(t testing.TB, manifest string) {
	t.Helper()
	if err := c.pipe(t.Context(), manifest, "delete", "--timeout=100s"); err != nil {
		t.Fatal(err)
	}
}

func (c *cluster) applyText(ctx context.Context, manifest string) error {
	return c.pipe(ctx, manifest, "apply")
}

// pipe hands a manifest to a command of kubectl.
func (c *cluster) pipe(ctx context.Context, manifest string, args ...string) error {
	file, err := os.CreateTemp("", "e2e-*.yaml")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	_, err = file.WriteString(manifest)
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	_, err = c.try(ctx, append(args, "-f", file.Name())...)
	return err
}

// fairlead runs the command line tool, and ends the test if it fails.
func (c *cluster) fairlead(t testing.TB, args ...string) string {
	t.Helper()
	out, err := c.tryFairlead(t.Context(), args...)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return out
}

func (c *cluster) tryFairlead(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	out, err := command(ctx, filepath.Join(*bin, "fairlead"), append([]string{"--kubeconfig", c.Kubeconfig}, args...)...)
	return string(out), err
}

// eventually asks until f says that all is well, for at most d, and returns how long that took. It asks less often when it takes
// long: each call of kubectl costs a tenth of a second of a processor.
func eventually(t testing.TB, d time.Duration, what string, f func() error) time.Duration {
	t.Helper()
	began := time.Now()
	for {
		err := f()
		if err == nil {
			return time.Since(began)
		}
		if time.Since(began) > d {
			t.Fatalf("%s: not within %v: %v", what, d, err)
		}
		select {
		case <-t.Context().Done():
			t.Fatalf("%s: %v: %v", what, t.Context().Err(), err)
		case <-time.After(min(200*time.Millisecond+time.Since(began)/10, time.Second)):
		}
	}
}
