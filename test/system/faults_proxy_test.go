package system

import (
	"testing"
	"time"

	"fairlead.io/fairlead/internal/testnet"
)

// TestProxyKilled kills the proxy of either side under load. What is new waits for the next one; what was under way ends
// by a reset or a clear answer; nothing hangs.
func TestProxyKilled(t *testing.T) {
	m := newMesh(t, testnet.MeshConfig{})
	p := newPair(t, m)
	for i, side := range []string{"client's", "server's"} {
		for _, away := range []time.Duration{time.Second, 3 * time.Second} {
			t.Run(side+" for "+away.String(), func(t *testing.T) { killProxy(t, m.Nodes[i], p, away) })
		}
	}
}

func killProxy(t *testing.T, n *testnet.MeshNode, p pair, away time.Duration) {
	held := startLoad(t, p.client, "stream", p.echo, "-workers=2", "-rate=40")
	slow := startLoad(t, p.client, "h1", p.web, "-workers=4", "-rate=40", "-path=/?ms=100")
	pause(t, 300*time.Millisecond)
	if err := n.Proxy.Kill(); err != nil {
		t.Fatal(err)
	}
	// From here on everything is new: workers of these two make a connection for each call.
	fresh := startLoad(t, p.client, "h1new", p.web, "-workers=8", "-rate=100")
	echo := startLoad(t, p.client, "tcp", p.echo, "-workers=8", "-rate=100")
	pause(t, away)
	if err := n.StartProxy(); err != nil {
		t.Fatal(err)
	}
	if err := n.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	pause(t, time.Second)
	mustFlawless(t, fresh, fresh.stop(t), 50)
	mustFlawless(t, echo, echo.stop(t), 50)
	if r := held.stop(t); r.Hung+r.Refused+r.Other > 0 || r.Reset != 2 {
		t.Errorf("connections that were open: want both reset: %v", r)
	}
	r := slow.stop(t)
	if r.OK == 0 || r.Hung+r.Refused+r.Other > 0 || r.Bad() > 8 {
		t.Errorf("requests under way: want a reset or an error of the gateway for those of one moment: %v", r)
	}
}
