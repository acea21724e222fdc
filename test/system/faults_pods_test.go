package system

import (
	"fmt"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/testnet"
)

// replica starts one more server of the service "server".
func replica(t testing.TB, n *testnet.MeshNode, name string) *testnet.Pod {
	t.Helper()
	p := mustAddPod(t, n.Node, testnet.PodSpec{Name: name, Account: "server", Labels: map[string]string{"app": "server"}, NotReady: true})
	mustServe(t, p)
	if err := p.SetReady(true); err != nil {
		t.Fatal(err)
	}
	return p
}

// TestPodsReplaced replaces every pod of a service under load, as a rolling update does: no request fails.
func TestPodsReplaced(t *testing.T) {
	t.Parallel()
	m := newMesh(t, testnet.MeshConfig{})
	web, echo := mustAddLoadService(t, m.Lab, "app", "server")
	client := mustAddPod(t, m.Nodes[0].Node, testnet.PodSpec{Name: "client"})
	var old []*testnet.Pod
	for i := range 3 {
		old = append(old, replica(t, m.Nodes[i%2], fmt.Sprintf("old-%d", i)))
	}
	mustReach(t, client, web, "old-2")
	loads := []*load{
		startLoad(t, client, "h1", web, "-rate=50", "-method=POST", "-body=1000", "-path=/?ms=50"),
		startLoad(t, client, "h1new", web, "-rate=50"),
		startLoad(t, client, "h2", web, "-rate=50", "-method=POST", "-body=1000", "-path=/?ms=50"),
		startLoad(t, client, "tcp", echo, "-rate=50"),
	}
	for i, p := range old {
		replica(t, m.Nodes[(i+1)%2], fmt.Sprintf("new-%d", i))
		if err := p.Terminate(); err != nil {
			t.Fatal(err)
		}
		pause(t, time.Second) // the pod's own grace: what it has begun it ends
		if err := p.Delete(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, l := range loads {
		mustFlawless(t, l, l.stop(t), 50)
	}
}

// TestPodKilled deletes pods with no grace at all: requests that they had are lost, with an answer that says so, and no
// others.
func TestPodKilled(t *testing.T) {
	t.Parallel()
	m := newMesh(t, testnet.MeshConfig{})
	web, _ := mustAddLoadService(t, m.Lab, "app", "server")
	client := mustAddPod(t, m.Nodes[0].Node, testnet.PodSpec{Name: "client"})
	pods := []*testnet.Pod{replica(t, m.Nodes[0], "server-0"), replica(t, m.Nodes[1], "server-1"), replica(t, m.Nodes[1], "server-2")}
	mustReach(t, client, web, "server-2")
	const workers = 6
	l := startLoad(t, client, "h1", web, "-workers=6", "-rate=60", "-method=POST", "-path=/?ms=50")
	for _, p := range pods[:2] {
		pause(t, time.Second)
		if err := p.Delete(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	pause(t, time.Second)
	r := l.stop(t)
	if r.OK < 60 || r.Hung+r.Refused+r.Other+r.Reset > 0 || r.Bad() > 2*workers || r.MaxBad > 6000 {
		t.Errorf("want no more bad answers than were under way, and each an answer: %v", r)
	}
	if err := pods[2].Delete(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, "a service without endpoints answers 503 at once", func() error {
		if r := ask(t, client, web); r.Status[503] != 1 || r.MaxBad > 500 {
			return fmt.Errorf("%v", r)
		}
		return nil
	})
}

// TestEndpointsFail has, beside two good endpoints, one that refuses, one that resets and one that is not there.
func TestEndpointsFail(t *testing.T) {
	t.Parallel()
	m := newMesh(t, testnet.MeshConfig{})
	web, _ := mustAddLoadService(t, m.Lab, "app", "server")
	client := mustAddPod(t, m.Nodes[0].Node, testnet.PodSpec{Name: "client"})
	replica(t, m.Nodes[0], "good-0")
	replica(t, m.Nodes[1], "good-1")
	bad := func(name string, args ...string) *testnet.Pod {
		p := mustAddPod(t, m.Nodes[1].Node, testnet.PodSpec{Name: name, Account: "server", Labels: map[string]string{"app": "server"}})
		if args != nil {
			mustServe(t, p, args...)
		}
		return p
	}
	mustReach(t, client, web, "good-1")
	for _, c := range []struct {
		name string
		make func() *testnet.Pod
	}{
		{"refuses", func() *testnet.Pod { return bad("refuses") }},
		{"resets", func() *testnet.Pod { return bad("resets", "-reset") }},
		{"is not there", func() *testnet.Pod {
			p := bad("gone", "-reset")
			if err := p.Do(func() error { return setDown("eth0") }); err != nil {
				t.Fatal(err)
			}
			return p
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := c.make()
			l := startLoad(t, client, "h1", web, "-rate=100", "-workers=16", "-for=5s")
			r := l.wait(t)
			if r.OK < 200 || r.Hung+r.Refused+r.Other+r.Reset > 0 || r.Bad()*10 > r.OK || r.MaxBad > 6000 || r.MaxOK > 11000 {
				t.Errorf("want most answers good, and all within the time of a connect or two: %v", r)
			}
			if err := p.Delete(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
	}
}
