package e2e

import (
	"bytes"
	"fmt"
	"os/exec"
	"testing"
	"time"
)

// testRewritten: another program on connect4 rewrites a service's address, as replacements for kube-proxy do. The mesh still
// balances request by request and still names the service.
func testRewritten(t *testing.T) {
	ns := namespace(t, "e2e-rewrite", true)
	mustServe(t, server{namespace: ns, name: "strict", replicas: 2, annotations: onlyMesh})
	node := lab.nodes[0]
	service := lab.kubectl(t, "-n", ns, "get", "service", "strict", "-o", "jsonpath={.spec.clusterIP}")
	backend := podsOf(t, ns, "app=strict")[0]
	outside := namespace(t, "e2e-rewrite-out", false)
	mustServe(t, server{namespace: outside, name: "plain", replicas: 2})
	// The same is done to a service outside the mesh: its clients show that the other program is at work.
	plain := lab.kubectl(t, "-n", outside, "get", "service", "plain", "-o", "jsonpath={.spec.clusterIP}")
	first := podsOf(t, outside, "app=plain")[0]
	rewriting(t, node, plain+":80", first[1]+":8080")
	rewriting(t, node, service+":80", backend[1]+":8080")
	at := 0
	eventually(t, 30*time.Second, "one replica called by everybody outside the mesh", func() error {
		at++
		r := call(t, outside, fmt.Sprint("outside-", at), node, "h1new", "plain:80", "-calls=15")
		if len(r.Servers) != 1 || r.Servers[first[0]] != r.OK || r.OK < 20 {
			return fmt.Errorf("answers came from %v", r.Servers)
		}
		return nil
	})
	try := 0
	eventually(t, 60*time.Second, "both replicas called by the service's name, though its address is rewritten to one of them", func() error {
		try++
		before := namedRequests(t, node, ns, "strict")
		r := startLoad(t, ns, fmt.Sprint("client-", try), node, "-mode=h2", "-workers=1", "-rate=50", "-for=2s", "-to=strict:80").wait(t, 40*time.Second)
		mustFlawless(t, "through the rewritten address", r, 10)
		if named := namedRequests(t, node, ns, "strict") - before; len(r.Servers) != 2 || named < float64(r.OK) {
			return fmt.Errorf("answers came from %v, %v of %d requests are counted for the service", r.Servers, named, r.OK)
		}
		return nil
	})
}

// namedRequests are the requests that a node's proxy has counted for a service, of the pods of the service's namespace.
func namedRequests(t testing.TB, node, ns, service string) (n float64) {
	t.Helper()
	samples, err := metrics(t, component(t, "node")[node][0], 9901, "fairlead_requests_total")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range samples {
		if s.labels["direction"] == "outbound" && s.labels["src_namespace"] == ns && s.labels["dst_service"] == service {
			n += s.value
		}
	}
	return n
}

// rewriting has another program on a node rewrite one address to another, until the test's end.
func rewriting(t testing.TB, node, from, to string) {
	t.Helper()
	cmd := exec.Command(lab.Kubectl, "--kubeconfig", lab.Kubeconfig, "-n", testNamespace, "exec", "-i", lab.agents[node], "--", "/agent", "rewrite", from, to, "150s")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &said, &said, 10*time.Second
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the other program: %v: %s", err, &said)
		}
	})
}
