package e2e

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// chart is the product's, as users have it.
const chart = "../../deploy/daemonset"

// helm runs helm, and ends the test if it fails.
func helm(t testing.TB, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	out, err := tryHelm(ctx, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func tryHelm(ctx context.Context, args ...string) (string, error) {
	out, err := command(ctx, lab.Helm, append([]string{"--kubeconfig", lab.Kubeconfig}, args...)...)
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, out)
	}
	return string(out), err
}

// settings are the values that the tests' installation has: FAIRLEAD_E2E_HELM are flags of helm, for a cluster that is not ours,
// such as "-f deploy/daemonset/values-k3s.yaml --set image.repository=registry.example/mesh".
func settings() []string { return append(strings.Fields(os.Getenv("FAIRLEAD_E2E_HELM")), lifeFlags...) }

// lifeFlags are the flags that the test that goes on wants itself.
var lifeFlags []string

// cniDirs are the directories of CNI configurations and plugins on the nodes.
func cniDirs() []string {
	if dirs := strings.Fields(os.Getenv("FAIRLEAD_E2E_CNI")); len(dirs) > 0 {
		return dirs
	}
	return []string{"/etc/cni/net.d", "/opt/cni/bin"}
}

// testInstalled installs the chart into a cluster that already runs something.
func testInstalled(t *testing.T) {
	pods, earlier := uids(t, voteNamespace), bot(t)
	helm(t, "lint", "--strict", chart)
	if text := helm(t, "template", "fairlead", chart, "-n", systemNamespace); strings.Contains(text, "helm.sh/hook") {
		t.Error("helm template prints hooks: whoever applies that uninstalls the mesh at once")
	}
	began := time.Now()
	helm(t, append([]string{"install", "fairlead", chart, "-n", systemNamespace, "--create-namespace", "--wait", "--timeout", "3m"}, settings()...)...)
	t.Logf("installed in %v", time.Since(began).Round(time.Second))
	nodes := component(t, "node")
	for _, n := range lab.nodes {
		if len(nodes[n]) != 1 {
			t.Errorf("pods on node %s: %v", n, nodes[n])
		}
	}
	if n, err := inMesh(t); err != nil || n != 0 {
		t.Errorf("%d pods in the mesh, though nobody has enrolled any (%v)", n, err)
	}
	mustBeUntouched(t, pods)
	if now := bot(t); now.Unexpected != earlier.Unexpected {
		t.Errorf("the bot lost %d requests: %s %v", now.Unexpected-earlier.Unexpected, now.LastError, now.Other)
	}
}

// mustBeUntouched wants the pods there, and none of them started again.
func mustBeUntouched(t testing.TB, before map[string]int) {
	t.Helper()
	after := uids(t, voteNamespace)
	for name, n := range before {
		if m, there := after[name]; !there || m != n {
			t.Errorf("pod %s: started again %d times, before %d (there: %t)", name, m, n, there)
		}
	}
}

// testUninstalled takes the product away: nothing of it is left on any node, and the cluster's pods start and talk as before.
func testUninstalled(t *testing.T) {
	pods, earlier := uids(t, voteNamespace), bot(t)
	began := time.Now()
	helm(t, "uninstall", "fairlead", "-n", systemNamespace, "--wait", "--timeout", "4m")
	t.Logf("uninstalled in %v", time.Since(began).Round(time.Second))
	if now := bot(t); now.Unexpected-earlier.Unexpected > 1 { // a dial that takes longer than the 300 ms that a pod waits when it leaves
		t.Errorf("the bot lost %d of %d requests: %s %v", now.Unexpected-earlier.Unexpected, now.Total-earlier.Total, now.LastError, now.Other)
	}
	mustBeClean(t)
	mustBeUntouched(t, pods)
	mustAnswer(t)
	lab.kubectl(t, "-n", voteNamespace, "rollout", "restart", "deploy/catalog")
	lab.kubectl(t, "-n", voteNamespace, "rollout", "status", "deploy/catalog", "--timeout=90s")
	// A client of gRPC may wait some seconds before it tries again where a catalog has gone. Then all is as it was.
	eventually(t, 90*time.Second, "the bot at its usual rate after the mesh has gone", func() error {
		first := bot(t)
		time.Sleep(5 * time.Second) // the time that is counted
		if now := bot(t); now.OK < first.OK+30 {
			return fmt.Errorf("%d good answers in five seconds, last failure: %s", now.OK-first.OK, now.LastError)
		}
		return nil
	})
	hits := uint64(0)
	for _, s := range lab.capture(t, 3*time.Second, voteMarker) {
		hits += s.Hits[voteMarker]
	}
	if hits == 0 {
		t.Error("no plaintext on the wire: something of the mesh is still at work")
	}
}

// mustBeClean wants nothing of the product on any node, nor in the cluster.
func mustBeClean(t testing.TB) {
	t.Helper()
	for _, n := range lab.nodes {
		var found []string
		if err := lab.agent(t.Context(), n, &found, append([]string{"leftovers"}, cniDirs()...)...); err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			t.Errorf("left on %s: %s", n, f)
		}
	}
	for _, kind := range []string{"secret", "configmap", "lease", "endpointslice", "pod", "daemonset", "deployment", "job", "role", "rolebinding", "serviceaccount"} {
		left := lab.kubectl(t, "-n", systemNamespace, "get", kind, "-o", "name")
		for _, usual := range []string{"configmap/kube-root-ca.crt", "serviceaccount/default", ""} {
			if left == usual {
				left = ""
			}
		}
		if left != "" {
			t.Errorf("left in %s: %s", systemNamespace, left)
		}
	}
	if left := lab.kubectl(t, "get", "clusterrole,clusterrolebinding", "-l", "app.kubernetes.io/name=fairlead", "-o", "name"); left != "" {
		t.Errorf("left in the cluster: %s", left)
	}
}

// testByTool installs, enrols and uninstalls with the command line tool and kubectl instead of Helm.
func testByTool(t *testing.T) {
	lab.apply(t, lab.fairlead(t, "install"))
	lab.kubectl(t, "-n", systemNamespace, "rollout", "status", "deploy/fairlead-controller", "--timeout=90s")
	lab.kubectl(t, "-n", systemNamespace, "rollout", "status", "daemonset/fairlead-node", "--timeout=90s")
	lab.fairlead(t, "check", "--wait", "60s")
	t.Run("meshed", func(t *testing.T) { // so that its namespace goes before the mesh does
		ns := namespace(t, "e2e-tool", true)
		mustServe(t, server{namespace: ns, name: "strict", replicas: 1, node: lab.nodes[1], annotations: onlyMesh})
		mustFlawless(t, "in a mesh that the tool has installed", call(t, ns, "client", lab.nodes[0], "h1", "strict:80"), 20)
	})
	lab.deleteText(t, lab.fairlead(t, "uninstall"))
	mustBeClean(t)
}
