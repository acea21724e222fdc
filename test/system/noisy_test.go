package system

import (
	"fmt"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/testnet"
)

// TestNoisyNeighbour has a pod with more connections than it may, which floods requests and bytes over those that it has. Another pod
// of the node, and its server on the other, lose nothing, and none of their connections is refused: most of them are made for one call.
func TestNoisyNeighbour(t *testing.T) {
	t.Parallel()
	m := newMesh(t, testnet.MeshConfig{ProxyArgs: []string{"--max-connections=300"}})
	p := newPair(t, m)
	sinkWeb, sinkEcho := mustAddLoadService(t, m.Lab, "app", "sink")
	mustServe(t, mustAddPod(t, m.Nodes[1].Node, testnet.PodSpec{Name: "sink", Account: "sink"}))
	noisy := mustAddPod(t, m.Nodes[0].Node, testnet.PodSpec{Name: "noisy", Account: "noisy"})
	mustReach(t, noisy, sinkWeb, "sink")
	refused := func() float64 {
		return metric(t, m.Nodes[0], "fairlead_proxy_events_total", `event="connection_limit"`, `direction="outbound"`)
	}
	if n := refused(); n != 0 {
		t.Fatalf("%v connections were refused before there was any noise", n)
	}

	bytes := startLoad(t, noisy, "stream", sinkEcho, "-rate=100000", "-workers=4", "-body=1000000")
	crowd := startLoad(t, noisy, "h1", sinkWeb, "-rate=100000", "-workers=600", "-path=/?ms=20")
	eventually(t, 10*time.Second, "the noisy pod is refused", func() error {
		return wantAtLeast(refused(), 100)
	})
	still := []*load{
		startLoad(t, p.client, "h1new", p.web, "-rate=40"),
		startLoad(t, p.client, "h1", p.web, "-rate=40"),
		startLoad(t, p.client, "h2", p.web, "-rate=40", "-method=POST", "-body=1000"),
		startLoad(t, p.client, "tcp", p.echo, "-rate=40"),
		startLoad(t, p.client, "stream", p.echo, "-rate=40"),
	}
	before := refused()
	pause(t, 3*time.Second)
	if err := wantAtLeast(refused(), before+1); err != nil {
		t.Errorf("while the others called, the noise had ended: %v", err)
	}
	for _, l := range still {
		mustFlawless(t, l, l.stop(t), 5)
	}
	if r := crowd.stop(t); r.OK < 300 || r.Reset < 100 || r.Bad() > r.Reset {
		t.Errorf("want answers on as many connections as are allowed, and resets on the others: %v", r)
	} else if n := refused(); n < float64(r.Reset) {
		t.Errorf("%v refusals were counted, want %d or more", n, r.Reset)
	}
	if r := bytes.stop(t); r.OK == 0 || r.Bad() > 0 {
		t.Errorf("the noisy pod keeps the connections that it had: %v", r)
	}
	for _, direction := range []string{"inbound", "outbound"} {
		if n := metric(t, m.Nodes[1], "fairlead_proxy_events_total", `event="connection_limit"`, `direction="`+direction+`"`); n != 0 {
			t.Errorf("%v connections were refused on the other node, %s", n, direction)
		}
	}
}

func wantAtLeast(got, want float64) error {
	if got < want {
		return fmt.Errorf("%v, want %v or more", got, want)
	}
	return nil
}
