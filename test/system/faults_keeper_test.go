package system

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/testnet"
)

// TestKeeperKilled kills the keeper of either side under load. What is open goes on, requests go on over connections
// that are open, and what needs the keeper waits for the next one.
func TestKeeperKilled(t *testing.T) {
	t.Parallel()
	m := newMesh(t, testnet.MeshConfig{})
	p := newPair(t, m)
	plain := mustAddPod(t, m.Nodes[0].Node, testnet.PodSpec{Namespace: "plain", Name: "plain"})
	seen := watch(t, p.client, p.server)
	ask(t, plain, webAddr(p.server), "-path=/?say="+clearMarker)
	for i, side := range []string{"client's", "server's"} {
		t.Run(side, func(t *testing.T) { killKeeper(t, m.Nodes[i], p) })
	}
	seen(t)
}

func killKeeper(t *testing.T, n *testnet.MeshNode, p pair) {
	loads := []*load{
		startLoad(t, p.client, "stream", p.echo, "-workers=2", "-rate=50"),
		startLoad(t, p.client, "upgrade", p.web, "-workers=2", "-rate=50"),
		startLoad(t, p.client, "h1", p.web, "-rate=50", "-path=/?say="+secretMarker),
		startLoad(t, p.client, "h2", p.web, "-rate=50", "-path=/?say="+secretMarker),
		startLoad(t, p.client, "h1new", p.web, "-rate=50", "-path=/?say="+secretMarker),
		startLoad(t, p.client, "tcp", p.echo, "-workers=8", "-rate=50"),
	}
	pause(t, 500*time.Millisecond)
	if err := n.Keeper.Kill(); err != nil {
		t.Fatal(err)
	}
	pause(t, 2*time.Second)
	if err := n.StartKeeper(t.Context()); err != nil {
		t.Fatal(err)
	}
	pause(t, 1500*time.Millisecond)
	for i, l := range loads {
		atLeast := 100
		if i == len(loads)-1 {
			atLeast = 50
		}
		mustFlawless(t, l, l.stop(t), atLeast)
	}
}

// TestBothKilled leaves a node without keeper and proxy: its pods of the mesh are refused, all else works, and a start of
// both heals it with no pod's help.
func TestBothKilled(t *testing.T) {
	m := newMesh(t, testnet.MeshConfig{})
	p := newPair(t, m)
	mustServe(t, p.client)
	plain := [2]*testnet.Pod{mustAddPod(t, m.Nodes[0].Node, testnet.PodSpec{Namespace: "plain", Name: "plain-1"}),
		mustAddPod(t, m.Nodes[1].Node, testnet.PodSpec{Namespace: "plain", Name: "plain-2"})}
	mustServe(t, plain[1])
	seen := watch(t, p.client, p.server)
	ask(t, plain[0], webAddr(p.server), "-path=/?say="+clearMarker)

	n := m.Nodes[0]
	if err := errors.Join(n.Proxy.Kill(), n.Keeper.Kill()); err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{p.web, webAddr(p.server), webAddr(plain[1])} {
		if r := ask(t, p.client, to, "-path=/?say="+secretMarker); r.Refused != 1 || r.MaxBad > 500 {
			t.Errorf("%s: want it refused at once: %v", to, r)
		}
	}
	if r := ask(t, plain[0], webAddr(p.client), "-path=/?say="+secretMarker); r.Refused != 1 || r.MaxBad > 500 {
		t.Errorf("from outside to a pod of the mesh: want it refused at once: %v", r)
	}
	for _, to := range []string{fmt.Sprintf("127.0.0.1:%d", webPort), webAddr(p.client)} {
		if r := ask(t, p.client, to); r.OK != 1 {
			t.Errorf("from the pod to itself at %s: %v", to, r)
		}
	}
	mustFlawless(t, &load{name: "pods outside the mesh"}, ask(t, plain[0], webAddr(plain[1])), 1)
	late := mustAddPod(t, n.Node, testnet.PodSpec{Namespace: "plain", Name: "late"})
	mustFlawless(t, &load{name: "a new pod outside the mesh"}, ask(t, late, webAddr(plain[1])), 1)

	if err := errors.Join(n.StartKeeper(t.Context()), n.StartProxy()); err != nil {
		t.Fatal(err)
	}
	mustReach(t, p.client, p.web, "server")
	mustReach(t, p.server, webAddr(p.client), "client")
	seen(t)
}

// TestKilledAtRandom kills what it likes when it likes. Whatever comes of calls meanwhile, they end, and not in the clear;
// and after each time everything works again.
func TestKilledAtRandom(t *testing.T) {
	t.Parallel()
	m := newMesh(t, testnet.MeshConfig{})
	p := newPair(t, m)
	plain := mustAddPod(t, m.Nodes[0].Node, testnet.PodSpec{Namespace: "plain", Name: "plain"})
	seen := watch(t, p.client, p.server)
	ask(t, plain, webAddr(p.server), "-path=/?say="+clearMarker)
	const seed = 20260101
	rng := rand.New(rand.NewPCG(seed, 1))
	loads := []*load{startLoad(t, p.client, "h1", p.web, "-rate=50", "-path=/?say="+secretMarker),
		startLoad(t, p.client, "h1new", p.web, "-rate=50", "-path=/?say="+secretMarker), startLoad(t, p.client, "tcp", p.echo, "-rate=50")}
	for round := range 8 {
		n := m.Nodes[rng.IntN(2)]
		what := rng.IntN(3) // keeper, proxy, both
		pause(t, time.Duration(rng.IntN(200))*time.Millisecond)
		t.Logf("round %d: %v of %s", round, []string{"keeper", "proxy", "both"}[what], n.Name)
		if what != 1 {
			if err := n.Keeper.Kill(); err != nil {
				t.Fatal(err)
			}
			pause(t, time.Duration(rng.IntN(300))*time.Millisecond)
		}
		if what != 0 {
			if err := n.Proxy.Kill(); err != nil {
				t.Fatal(err)
			}
			pause(t, time.Duration(rng.IntN(300))*time.Millisecond)
			if err := n.StartProxy(); err != nil {
				t.Fatal(err)
			}
		}
		if what != 1 {
			if err := n.StartKeeper(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		mustReach(t, p.client, p.web, "server")
	}
	for _, l := range loads {
		if r := l.stop(t); r.OK == 0 || r.Hung > 0 {
			t.Errorf("%s: want good answers, and an end of all: %v", l.name, r)
		}
	}
	l := startLoad(t, p.client, "h1new", p.web, "-for=1s")
	mustFlawless(t, l, l.wait(t), 50)
	seen(t)
}
