package control_test

import (
	"net/netip"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/control"
)

// stays checks for longer than a pod is kept after all have agreed that something does not change.
func stays(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(600 * time.Millisecond); time.Now().Before(end); <-time.After(5 * time.Millisecond) {
		if !ok() {
			t.Fatalf("not for long: %s", what)
		}
	}
}

func TestASilentProxyHoldsALeavingPod(t *testing.T) {
	p := newPlane(t, nil)
	p.write("ns.yaml", namespaceYAML("shop", "enabled"), accountYAML("shop", "web"))
	p.write("web.yaml", podYAML("shop", "web", "web", "a", "10.1.0.1"))
	p.serve()
	keeper := p.loyal("a", map[string]string{"uid-web": "10.1.0.1"})
	proxy, mute := p.proxy("b"), p.muteProxy("c")
	eventually(t, "announced", func() bool { return inMesh(proxy, "uid-web") })
	mute.ackAll(t)
	p.write("web.yaml")
	mute.await(t, func(gone bool) bool { return gone })
	stays(t, "the pod is captured", func() bool { return isEnrolled(keeper, "uid-web") })
	mute.ackAll(t)
	eventually(t, "released", func() bool { return !isEnrolled(keeper, "uid-web") })
}

func TestAProxyIsToldNothingBeforeTheKeepersAreHeard(t *testing.T) {
	p := newPlane(t, nil)
	p.write("ns.yaml", namespaceYAML("shop", "enabled"), accountYAML("shop", "web"))
	p.write("web.yaml", podYAML("shop", "web", "web", "a", "10.1.0.1"))
	p.serve()
	proxy := p.proxy("b")
	stays(t, "the proxy keeps what it has", func() bool { return !proxy.Synced() })
	keeper := control.NewPodsClient(p.keeperTarget("a"), nil)
	running(t, "keeper", keeper.Run)
	eventually(t, "keeper is told", keeper.Connected)
	keeper.SetCaptured(keeper.Assignment().Version, map[string][]netip.Addr{"uid-web": {netip.MustParseAddr("10.1.0.1")}})
	eventually(t, "world", proxy.Synced)
	if !inMesh(proxy, "uid-web") {
		t.Error("the first word was that the pod is outside")
	}
}
