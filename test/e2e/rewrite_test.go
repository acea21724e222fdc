package e2e

import (
	"fmt"
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
	over := make(chan error, 2)
	// The same is done to a service outside the mesh: its clients show that the other program is at work.
	plain := lab.kubectl(t, "-n", outside, "get", "service", "plain", "-o", "jsonpath={.spec.clusterIP}")
	first := podsOf(t, outside, "app=plain")[0]
	go func() {
		over <- lab.agent(t.Context(), node, nil, "rewrite", plain+":80", first[1]+":8080", "75s")
	}()
	go func() {
		over <- lab.agent(t.Context(), node, nil, "rewrite", service+":80", backend[1]+":8080", "75s")
	}()
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
	eventually(t, 60*time.Second, "both replicas called, though the service's address is rewritten to one of them", func() error {
		try++
		r := startLoad(t, ns, fmt.Sprint("client-", try), node, "-mode=h2", "-workers=1", "-rate=50", "-for=2s", "-to=strict:80").wait(t, 40*time.Second)
		mustFlawless(t, "through the rewritten address", r, 50)
		if len(r.Servers) != 2 {
			return fmt.Errorf("answers came from %v", r.Servers)
		}
		return nil
	})
	named := 0.0
	samples, err := metrics(t, component(t, "node")[node][0], 9901, "fairlead_requests_total")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range samples {
		if s.labels["direction"] == "outbound" && s.labels["src_namespace"] == ns && s.labels["dst_service"] == "strict" {
			named += s.value
		}
	}
	if named < 50 {
		t.Errorf("%v requests are counted for the service", named)
	}
	for range 2 {
		if err := <-over; err != nil {
			t.Errorf("the other program: %v", err)
		}
	}
}
