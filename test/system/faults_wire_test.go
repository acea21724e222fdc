package system

import (
	"context"
	"testing"

	"fairlead.io/fairlead/internal/testnet"
	"fairlead.io/fairlead/internal/testnet/capture"
)

const (
	secretMarker = "never-in-the-clear-1b9d6bcd" // sent between pods of the mesh
	clearMarker  = "always-in-the-clear-4c35f1a7" // sent once by a pod outside, to see that the capture sees
)

// watch captures at the pods until the function that it returns is called, which fails the test if there was plaintext
// of the mesh, or if the capture has not seen what it must see.
func watch(t testing.TB, pods ...*testnet.Pod) func(testing.TB) {
	t.Helper()
	c, err := capture.New(secretMarker, clearMarker)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pods {
		if err := c.Attach(p.Name, p.Do, "eth0"); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	return func(t testing.TB) {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		s := c.Stats()
		if s.Hits[secretMarker] > 0 || s.Dropped > 0 || s.Cut > 0 {
			t.Errorf("captured %d times plaintext of the mesh, %d packets dropped, %d cut: %v", s.Hits[secretMarker], s.Dropped, s.Cut, s.First)
		}
		if s.Hits[clearMarker] == 0 || s.TLSFlows == 0 {
			t.Errorf("the capture does not see: %+v", s)
		}
	}
}
