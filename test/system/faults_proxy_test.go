package system

import (
	"fmt"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/testnet"
)

// TestProxyKilled kills the proxy of either side under load. What is new waits for the next one; what was under way ends
// by a reset or a clear answer; nothing hangs.
func TestProxyKilled(t *testing.T) {
	t.Parallel()
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
	slow := startLoad(t, p.client, "h1", p.web, "-workers=4", "-rate=40", "-path=/?ms=100", "-method=POST")
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
	mustReady(t, n)
	pause(t, time.Second)
	mustFlawless(t, fresh, fresh.stop(t), 50)
	mustFlawless(t, echo, echo.stop(t), 50)
	if r := held.stop(t); r.Hung+r.Refused+r.Other > 0 || r.Reset != 2 {
		t.Errorf("connections that were open: want both reset: %v", r)
	}
	r := slow.stop(t)
	if r.OK == 0 || r.Hung+r.Refused+r.Other > 0 || r.Bad() == 0 || r.Bad() > 8 {
		t.Errorf("requests under way: want a reset or an error of the gateway for those of one moment: %v", r)
	}
}

// TestNoProxy leaves either side without a proxy for too long: then what is new is refused at once, in both directions,
// nothing goes out in the clear, and the next proxy heals it.
func TestNoProxy(t *testing.T) {
	t.Parallel()
	m := newMesh(t, testnet.MeshConfig{KeeperArgs: []string{"--away=2s"}})
	p := newPair(t, m)
	mustServe(t, p.client)
	plain := mustAddPod(t, m.Nodes[0].Node, testnet.PodSpec{Namespace: "plain", Name: "plain"})
	seen := watch(t, p.client, p.server)
	if r := ask(t, plain, webAddr(p.server), "-path=/?say="+clearMarker); r.OK != 1 {
		t.Fatalf("a pod outside the mesh is not answered: %v", r)
	}
	for i, side := range []string{"client's", "server's"} {
		t.Run(side, func(t *testing.T) { withoutProxy(t, m.Nodes[i], p, plain) })
	}
	seen(t)
}

func withoutProxy(t *testing.T, n *testnet.MeshNode, p pair, plain *testnet.Pod) {
	if err := n.Proxy.Kill(); err != nil {
		t.Fatal(err)
	}
	here, there := p.client, p.server
	if n.Node == p.server.Node {
		here, there = p.server, p.client
	}
	eventually(t, 10*time.Second, "new connections are refused", func() error {
		if r := ask(t, here, webAddr(there), "-limit=500ms"); r.Refused == 0 {
			return fmt.Errorf("%v", r)
		}
		return nil
	})
	for _, from := range []*testnet.Pod{here, plain} {
		to := there
		if from == plain {
			to = here
		}
		for _, mode := range []string{"h1new", "tcp"} {
			addr := webAddr(to)
			if mode == "tcp" {
				addr = echoAddr(to)
			}
			l := startLoad(t, from, mode, addr, "-for=500ms", "-path=/?say="+secretMarker)
			if r := l.wait(t); r.OK > 0 || r.Refused == 0 || r.Refused != r.Bad() || r.MaxBad > 500 {
				t.Errorf("%s: want all refused at once: %v", l.name, r)
			}
		}
	}
	// Through the other side's proxy it is that which is refused, and says so.
	if r := ask(t, there, webAddr(here), "-path=/?say="+secretMarker); r.Status[502] != 1 || r.MaxBad > 2000 {
		t.Errorf("a request to a pod without proxy: want status 502 at once: %v", r)
	}
	if r := ask(t, here, fmt.Sprintf("127.0.0.1:%d", webPort)); r.OK != 1 {
		t.Errorf("loopback in the pod: %v", r)
	}
	if err := n.StartProxy(); err != nil {
		t.Fatal(err)
	}
	mustReach(t, here, webAddr(there), there.Name)
	mustReach(t, there, webAddr(here), here.Name)
}
