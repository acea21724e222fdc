package system

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.io/fairlead/internal/testnet"
)

// policyOf is what the product changes in a pod: rules, the number of routes in all tables, sysctls.
func policyOf(t testing.TB, p *testnet.Pod) []string {
	t.Helper()
	var found []string
	err := p.Do(func() error {
		for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
			rules, err := ruleList(family)
			if err != nil {
				return err
			}
			for _, r := range rules {
				found = append(found, fmt.Sprintf("rule %d %v", family, r))
			}
			routes, err := routeList(family)
			if err != nil {
				return err
			}
			found = append(found, fmt.Sprintf("%d routes of family %d", len(routes), family))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"net/ipv4/tcp_fwmark_accept", "net/ipv4/fwmark_reflect", "net/ipv6/fwmark_reflect"} {
		found = append(found, name+" = "+mustRun(t, p, testnet.Command{Path: "cat", Args: []string{"/proc/sys/" + name}}))
	}
	return found
}

// TestNothingLeft stops the product and takes it back: a pod of the mesh that stays is as one that never was in it, and
// works.
func TestNothingLeft(t *testing.T) {
	m := newMesh(t, testnet.MeshConfig{})
	p := newPair(t, m)
	plain := mustAddPod(t, m.Nodes[0].Node, testnet.PodSpec{Namespace: "plain", Name: "plain"})
	if slices.Equal(policyOf(t, p.client), policyOf(t, plain)) {
		t.Error("no difference between a pod of the mesh and another: the comparison does not see")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := m.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	if got, want := policyOf(t, p.client), policyOf(t, plain); !slices.Equal(got, want) {
		t.Errorf("left in the pod:\n%v\nwant as in one that never was in the mesh:\n%v", got, want)
	}
	if r := ask(t, p.client, webAddr(p.server)); r.OK != 1 {
		t.Errorf("without the mesh: %v", r)
	}
	for _, n := range m.Nodes {
		out, err := n.Run(ctx, testnet.Command{Path: "find", Args: []string{n.BPFFS(), "-mindepth", "2"}})
		if err != nil || len(out) > 0 {
			t.Errorf("left pinned: %q, %v", out, err)
		}
	}
	// With everything gone a pod outside the mesh starts and ends as ever.
	if err := os.RemoveAll(m.Nodes[0].RunDir()); err != nil {
		t.Fatal(err)
	}
	late := mustAddPod(t, m.Nodes[0].Node, testnet.PodSpec{Namespace: "plain", Name: "late"})
	for _, gone := range []*testnet.Pod{late, p.client} {
		if err := gone.Delete(t.Context()); err != nil {
			t.Errorf("DEL of %s: %v", gone.Name, err)
		}
	}
}

// TestPinsLost takes the kernel's side away while the state on disk stays, as a restart of the machine does: the next keeper captures
// the pods anew, and nothing goes out in the clear.
func TestPinsLost(t *testing.T) {
	m := newMesh(t, testnet.MeshConfig{})
	p := newPair(t, m)
	plain := mustAddPod(t, m.Nodes[0].Node, testnet.PodSpec{Namespace: "plain", Name: "plain"})
	n := m.Nodes[0]
	if err := errors.Join(n.Proxy.Kill(), n.Keeper.Kill(), n.Cleanup(t.Context())); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(policyOf(t, p.client), policyOf(t, plain)) {
		t.Error("the pod is still captured: nothing was lost")
	}
	if err := errors.Join(n.StartKeeper(t.Context()), n.StartProxy()); err != nil {
		t.Fatal(err)
	}
	mustReady(t, n)
	seen := watch(t, p.client, p.server)
	ask(t, plain, webAddr(p.server), "-path=/?say="+clearMarker)
	for _, to := range []string{p.web, webAddr(p.server)} {
		if r := ask(t, p.client, to, "-path=/?say="+secretMarker); r.OK != 1 {
			t.Errorf("to %s: %v", to, r)
		}
	}
	seen(t)
	if slices.Equal(policyOf(t, p.client), policyOf(t, plain)) {
		t.Error("the pod was not captured anew")
	}
}
