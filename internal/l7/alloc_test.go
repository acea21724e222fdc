//go:build !race

package l7

import "testing"

// TestAllocations holds what a request allocates on its way to what it did, so that it can only fall.
func TestAllocations(t *testing.T) {
	for _, p := range passages {
		t.Run(p.name, func(t *testing.T) {
			c := passage(t, p.framed, p.grpc, p.inMesh, p.rules)
			var failed error
			call := func() {
				if err := c.call(); err != nil && failed == nil {
					failed = err
				}
			}
			for range 200 { // tables, pools and buffers
				call()
			}
			got := testing.AllocsPerRun(500, call)
			if failed != nil {
				t.Fatal(failed)
			}
			t.Logf("%.0f allocations", got)
			if got > p.allocate {
				t.Errorf("%.0f allocations, want at most %.0f", got, p.allocate)
			}
		})
	}
}
