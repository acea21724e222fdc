package policy

import (
	"fmt"
	"testing"

	"fairlead.io/fairlead/internal/mesh"
)

// crowd is a pod with n ALLOW policies for one account each, a DENY of paths and an AUDIT; web is the last of the accounts.
func crowd(n int) *Decider {
	lines := []string{"DENY pod any path:/admin", "AUDIT pod ns:other any"}
	for i := range n - 1 {
		lines = append(lines, fmt.Sprintf("ALLOW pod sa:shop/web%d path:/api", i))
	}
	return decider(mesh.PolicyDeny, append(lines, "ALLOW pod sa:shop/web path:/api")...)
}

func TestAskingTakesNoMemory(t *testing.T) {
	d, who := crowd(100), clients["web"]
	var r Request = protocols["get"]
	var room [8]*Rule
	if n := testing.AllocsPerRun(100, func() {
		if !d.Connection(&who, 80).NeedsRequest || !d.Request(&who, 80, r).Allowed || d.Request(&who, 80, nil).Allowed {
			t.Error("another verdict")
		}
		d.Audited(room[:0], &who, 80, r)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkRequest(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprintf("rules=%d", n), func(b *testing.B) {
			d, who := crowd(n), clients["web"]
			var r Request = protocols["get"]
			b.ReportAllocs()
			for b.Loop() {
				d.Request(&who, 80, r)
			}
		})
	}
}
