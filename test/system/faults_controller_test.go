package system

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"

	"fairlead.io/fairlead/internal/testnet"
)

// TestControllerAway does without the controller: traffic goes on, keeper and proxy start again from what is on disk,
// pods outside the mesh start, and a pod of the mesh waits until the controller is back.
func TestControllerAway(t *testing.T) {
	t.Parallel()
	m := newMesh(t, testnet.MeshConfig{})
	p := newPair(t, m)
	mustServe(t, p.client)
	mustReach(t, p.server, webAddr(p.client), "client")
	plain := mustAddPod(t, m.Nodes[0].Node, testnet.PodSpec{Namespace: "plain", Name: "plain"})
	seen := watch(t, p.client, p.server)
	ask(t, plain, webAddr(p.server), "-path=/?say="+clearMarker)
	loads := []*load{startLoad(t, p.client, "stream", p.echo, "-workers=2", "-rate=40"), startLoad(t, p.client, "h1new", p.web, "-rate=50"),
		startLoad(t, p.client, "tcp", p.echo, "-rate=50")}
	for i, echo := range []int{2, 0} { // where the client is, the service's port is named by the service and by its endpoints
		eventually(t, 10*time.Second, "the signed state is on disk", func() error {
			return stateHas(m.Nodes[i], map[string]int{p.client.UID: 1, p.server.UID: 1, "echo": echo})
		})
	}
	if err := m.Controller.Kill(); err != nil {
		t.Fatal(err)
	}
	pause(t, time.Second)
	for _, l := range loads {
		mustFlawless(t, l, l.stop(t), 20)
	}
	for _, n := range m.Nodes {
		restartAll(t, n)
		mustReach(t, p.client, p.web, "server")
		mustReach(t, p.server, webAddr(p.client), "client")
		l := startLoad(t, p.client, "h1new", p.web, "-for=500ms", "-path=/?say="+secretMarker)
		mustFlawless(t, l, l.wait(t), 25)
	}
	seen(t)

	late := mustAddPod(t, m.Nodes[0].Node, testnet.PodSpec{Namespace: "plain", Name: "late"})
	mustFlawless(t, &load{name: "a new pod outside the mesh"}, ask(t, late, webAddr(p.server)), 1)
	mustWait(t, m, p)
}

// stateHas tells whether the state on the node's disk contains each text as often.
func stateHas(n *testnet.MeshNode, want map[string]int) error {
	state, err := os.ReadFile(filepath.Join(n.StateDir(), "state"))
	if err != nil {
		return err
	}
	for text, times := range want {
		if bytes.Count(state, []byte(text)) < times {
			return fmt.Errorf("%q is not in it", text)
		}
	}
	return nil
}

// restartAll kills keeper and proxy and starts them again.
func restartAll(t *testing.T, n *testnet.MeshNode) {
	t.Helper()
	if err := errors.Join(n.Keeper.Kill(), n.Proxy.Kill(), n.StartKeeper(t.Context()), n.StartProxy()); err != nil {
		t.Fatal(err)
	}
	mustReady(t, n)
}

// mustWait has a pod of the mesh wait for the controller.
func mustWait(t *testing.T, m *testnet.Mesh, p pair) {
	t.Helper()
	began := time.Now()
	_, err := m.Nodes[0].AddPod(t.Context(), testnet.PodSpec{Namespace: "app", Name: "waiting"})
	var refused *types.Error
	if !errors.As(err, &refused) || refused.Code != types.ErrTryAgainLater {
		t.Fatalf("a new pod of the mesh while the controller is away: want code 11: %v", err)
	}
	t.Logf("refused after %v: %v", time.Since(began).Round(time.Millisecond), err)
	added := make(chan error, 1)
	go func() {
		_, err := m.Nodes[0].AddPod(t.Context(), testnet.PodSpec{Namespace: "app", Name: "patient", Retry: 30 * time.Second})
		added <- err
	}()
	pause(t, 500*time.Millisecond)
	if err := m.StartController(); err != nil {
		t.Fatal(err)
	}
	if err := <-added; err != nil {
		t.Fatalf("the pod that waited: %v", err)
	}
	after := mustAddPod(t, m.Nodes[1].Node, testnet.PodSpec{Name: "after"})
	mustReach(t, after, p.web, "server")
}
