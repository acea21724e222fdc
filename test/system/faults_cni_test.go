package system

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/testnet"
)

// TestCNITime tells how long ADD takes for pods of the mesh and for others. It asserts no time: machines differ.
func TestCNITime(t *testing.T) {
	m := newMesh(t, testnet.MeshConfig{})
	for _, namespace := range []string{"app", "plain"} {
		var took []time.Duration
		for i := range 100 {
			began := time.Now()
			p := mustAddPod(t, m.Nodes[0].Node, testnet.PodSpec{Namespace: namespace, Name: fmt.Sprintf("pod-%d", i)})
			took = append(took, time.Since(began))
			if err := p.Delete(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		slices.Sort(took)
		t.Logf("a pod of namespace %s, all of its network: median %v, p99 %v", namespace, took[50].Round(time.Millisecond), took[98].Round(time.Millisecond))
	}
}
