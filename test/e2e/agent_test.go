package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// testNamespace has what the tests themselves need.
const testNamespace = "fairlead-e2e"

// agentManifest is a privileged pod in each node's own namespaces.
const agentManifest = `
apiVersion: v1
kind: Namespace
metadata: {name: fairlead-e2e, labels: {pod-security.kubernetes.io/enforce: privileged}}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent, namespace: fairlead-e2e}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec:
      hostNetwork: true
      hostPID: true
      automountServiceAccountToken: false
      terminationGracePeriodSeconds: 1
      tolerations: [{operator: Exists}]
      containers:
        - name: agent
          image: fairlead-e2e:dev
          imagePullPolicy: IfNotPresent
          command: [/agent, wait]
          securityContext: {privileged: true}
`

func (c *cluster) startAgents(ctx context.Context) error {
	if err := c.applyText(ctx, agentManifest); err != nil {
		return err
	}
	if _, err := c.try(ctx, "-n", testNamespace, "rollout", "status", "daemonset/agent", "--timeout=90s"); err != nil {
		return err
	}
	return c.findAgents(ctx)
}

func (c *cluster) findAgents(ctx context.Context) error {
	pods, err := c.try(ctx, "-n", testNamespace, "get", "pods", "-l", "app=agent", "--field-selector", "status.phase=Running",
		"-o", `jsonpath={range .items[*]}{.spec.nodeName} {.metadata.name}{"\n"}{end}`)
	if err != nil {
		return err
	}
	for line := range strings.Lines(pods) {
		node, pod, _ := strings.Cut(strings.TrimSpace(line), " ")
		c.agents[node] = pod
	}
	for _, n := range c.nodes {
		if c.agents[n] == "" {
			return fmt.Errorf("no agent on node %s", n)
		}
	}
	return nil
}

// agent runs a command of the agent on a node, and reads its answer into v if there is one.
func (c *cluster) agent(ctx context.Context, node string, v any, args ...string) error {
	out, err := c.try(ctx, append([]string{"-n", testNamespace, "exec", c.agents[node], "--", "/agent"}, args...)...)
	if err != nil || v == nil {
		return err
	}
	if err := json.Unmarshal([]byte(out), v); err != nil {
		return fmt.Errorf("parse answer of agent %v: %w", args, err)
	}
	return nil
}

// node runs a shell command on a node, in its own namespaces.
func (c *cluster) node(t testing.TB, node, script string) string {
	t.Helper()
	out, err := c.tryNode(t.Context(), node, script)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (c *cluster) tryNode(ctx context.Context, node, script string) (string, error) {
	return c.try(ctx, "-n", testNamespace, "exec", c.agents[node], "--", "/agent", "node", "sh", "-c", script)
}

// seen is what a capture has seen: capture.Stats, as JSON.
type seen struct {
	Packets, Segments, Dropped, Cut, Flows, TLSFlows uint64
	Hits                                             map[string]uint64
	First                                            []struct{ Where, Src, Dst string }
	Opened                                           []struct{ Where, Src, Dst string }
}

// capture looks at the packets of all nodes' devices at once for a while. more are flags of the agent.
func (c *cluster) capture(t testing.TB, length time.Duration, marker string, more ...string) map[string]seen {
	t.Helper()
	return c.watch(t, length, marker, more...)()
}

// watch starts a capture of the devices that there are; what it returns waits for the end and tells what was seen.
func (c *cluster) watch(t testing.TB, length time.Duration, marker string, more ...string) func() map[string]seen {
	t.Helper()
	type answer struct {
		node string
		seen seen
		err  error
	}
	answers := make(chan answer, len(c.nodes))
	for _, n := range c.nodes {
		go func() {
			a := answer{node: n}
			a.err = c.agent(t.Context(), n, &a.seen, append([]string{"capture", "-for", length.String(), "-marker", marker}, more...)...)
			answers <- a
		}()
	}
	return func() map[string]seen {
		t.Helper()
		all := map[string]seen{}
		for range c.nodes {
			a := <-answers
			switch {
			case a.err != nil:
				t.Fatalf("capture on %s: %v", a.node, a.err)
			case a.seen.Dropped+a.seen.Cut > 0:
				t.Fatalf("capture on %s: %d packets dropped, %d cut: nothing is proved", a.node, a.seen.Dropped, a.seen.Cut)
			}
			all[a.node] = a.seen
		}
		return all
	}
}
