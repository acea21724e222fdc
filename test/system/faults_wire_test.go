package system

import (
	"context"
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"fairlead.io/fairlead/internal/testnet"
	"fairlead.io/fairlead/internal/testnet/capture"
)

const (
	secretMarker = "never-in-the-clear-1b9d6bcd"  // sent between pods of the mesh
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

// setDown takes a device of the calling thread's namespace down.
func setDown(device string) error {
	link, err := netlink.LinkByName(device)
	if err != nil {
		return err
	}
	return netlink.LinkSetDown(link)
}

// cut has the controller's host send nothing to a node any more, until the function that it returns is called: the node
// stays with what it knows.
func cut(t testing.TB, m *testnet.Mesh, n *testnet.MeshNode) (mend func()) {
	t.Helper()
	host := netip.PrefixFrom(n.Addrs[0], 32)
	hole := &netlink.Route{Dst: &net.IPNet{IP: host.Addr().AsSlice(), Mask: net.CIDRMask(32, 32)}, Type: unix.RTN_BLACKHOLE}
	if err := m.Lab.Control().Do(func() error { return netlink.RouteAdd(hole) }); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := m.Lab.Control().Do(func() error { return netlink.RouteDel(hole) }); err != nil {
			t.Error(err)
		}
	}
}
