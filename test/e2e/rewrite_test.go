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
	over := make(chan error, 1)
	go func() {
		over <- lab.agent(t.Context(), node, nil, "rewrite", service+":80", backend[1]+":8080", "75s")
	}()
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
	if err := <-over; err != nil {
		t.Errorf("the other program: %v", err)
	}
}
