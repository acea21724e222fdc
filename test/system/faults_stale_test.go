package system

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead.io/fairlead/internal/testnet"
)

// waitLong is for what reaches a node that was cut off, whose connection is made anew.
const waitLong = 30 * time.Second

// TestAddressReused gives the address of a pod that went to a pod of another account, before the client's node has
// heard of either: nothing is sent to it in the old one's name.
func TestAddressReused(t *testing.T) {
	m := newMesh(t, testnet.MeshConfig{})
	p := newPair(t, m)
	n := m.Nodes[0]
	count := func() float64 {
		return metric(t, n, "fairlead_handshakes_total", `direction="outbound"`, `result="wrong_identity"`)
	}
	mend := cut(t, m, n)
	before, old := count(), webAddr(p.server)
	if err := p.server.Delete(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The address plugin goes round; without its memory it begins with the first free address.
	last, err := filepath.Glob(filepath.Join(m.Nodes[1].Dir(), "ipam", "lab", "last_reserved_ip.*"))
	if err != nil || len(last) == 0 {
		t.Fatalf("memory of the address plugin: %v, %v", last, err)
	}
	for _, file := range last {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	heir := mustAddPod(t, m.Nodes[1].Node, testnet.PodSpec{Name: "heir", Account: "heir"})
	if webAddr(heir) != old {
		t.Fatalf("the new pod has %s, the old one had %s", webAddr(heir), old)
	}
	mustServe(t, heir)
	for _, addr := range []string{old, p.web} {
		if r := ask(t, p.client, addr); r.OK > 0 || r.Status[502]+r.Status[503] != 1 || r.MaxBad > 6000 {
			t.Errorf("%s: want it refused with a clear answer: %v", addr, r)
		}
	}
	if got := count() - before; got < 1 {
		t.Errorf("counted %v handshakes with a wrong identity", got)
	}
	mend()
	mustReach(t, p.client, old, "heir")
	eventually(t, waitLong, "the service of the old pod has no endpoint", func() error {
		if r := ask(t, p.client, p.web); r.Status[503] != 1 {
			return fmt.Errorf("%v", r)
		}
		return nil
	})
}

// TestStaleTable has pods join and leave without the dialling node knowing: what it costs is bounded, and of a pod that
// it knows to be in the mesh nothing is ever sent in the clear.
func TestStaleTable(t *testing.T) {
	t.Parallel()
	m := newMesh(t, testnet.MeshConfig{ControllerArgs: []string{"--leave=2s"}})
	p := newPair(t, m)
	plain := mustAddPod(t, m.Nodes[0].Node, testnet.PodSpec{Namespace: "plain", Name: "plain"})
	seen := watch(t, p.client, p.server)
	ask(t, plain, webAddr(p.server), "-path=/?say="+clearMarker)
	mend := cut(t, m, m.Nodes[0])

	// Joined: the residual case of a plaintext connection to it is the receiver's to refuse, by policy.
	joiner := mustAddPod(t, m.Nodes[1].Node, testnet.PodSpec{Name: "joiner"})
	mustServe(t, joiner)
	for _, mode := range []string{"h1new", "tcp"} {
		addr := map[string]string{"h1new": webAddr(joiner), "tcp": echoAddr(joiner)}[mode]
		if r := askMode(t, p.client, mode, addr); r.OK+r.Bad() != 1 || r.Hung > 0 || max(r.MaxOK, r.MaxBad) > 2000 {
			t.Errorf("to a pod that has just joined, %s: %v", mode, r)
		}
	}
	// Left: the client's node goes on to ask it for its certificate.
	if err := p.server.Edit(func(o *corev1.Pod) { o.Labels["fairlead.io/mesh"] = "disabled" }); err != nil {
		t.Fatal(err)
	}
	eventually(t, waitLong, "the pod has left", func() error {
		r := ask(t, p.client, webAddr(p.server), "-path=/?say="+secretMarker)
		if r.Hung > 0 || max(r.MaxOK, r.MaxBad) > 6000 {
			t.Errorf("to a pod that is leaving: %v", r)
		}
		if r.OK > 0 {
			return fmt.Errorf("%v", r)
		}
		return nil
	})
	seen(t)
	mend()
	mustReach(t, p.client, webAddr(p.server), "server")
	mustReach(t, p.client, webAddr(joiner), "joiner")
}

// TestYoungerThanTheState starts a proxy again from a kept state that is older than a service, while the controller takes its
// time: whoever connects to the service waits for the controller's word, and nothing goes out in the clear.
func TestYoungerThanTheState(t *testing.T) {
	t.Parallel()
	m := newMesh(t, testnet.MeshConfig{})
	p := newPair(t, m)
	n := m.Nodes[0]
	plain := mustAddPod(t, n.Node, testnet.PodSpec{Namespace: "plain", Name: "plain"})
	seen := watch(t, p.client, p.server)
	ask(t, plain, webAddr(p.server), "-path=/?say="+clearMarker)
	eventually(t, 10*time.Second, "a state on disk", func() error { return stateHas(n, map[string]int{p.server.UID: 1}) })

	young, err := m.Lab.AddService(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "app", Name: "young"},
		Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "server"}, Ports: []corev1.ServicePort{{Name: "web", Port: webPort}}}})
	if err != nil {
		t.Fatal(err)
	}
	addr := fmt.Sprintf("%s:%d", young.Spec.ClusterIP, webPort)
	mustReach(t, p.client, addr, "server")
	if stateHas(n, map[string]int{"young": 1}) == nil {
		t.Fatal("the state on disk has the service already: nothing is proved")
	}
	if err := m.Controller.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(n.Proxy.Kill(), n.StartProxy()); err != nil {
		t.Fatal(err)
	}
	l := startLoad(t, p.client, "h1new", addr, "-rate=20", "-path=/?say="+secretMarker)
	pause(t, 1500*time.Millisecond)
	if err := m.Controller.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	mustReach(t, p.client, addr, "server")
	mustFlawless(t, l, l.stop(t), 4)
	seen(t)
}
