package control_test

import (
	"net/netip"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/control"
)

func TestAPodIsAnnouncedOnlyAfterItsCapture(t *testing.T) {
	p := newPlane(t, nil)
	p.write("ns.yaml", namespaceYAML("shop", "enabled"), accountYAML("shop", "web"))
	p.serve()
	keeper, proxy := p.keeper("a"), p.proxy("b")
	eventually(t, "proxy has the world", proxy.Synced)

	p.write("web.yaml", podYAML("shop", "web", "web", "a", "10.1.0.1"))
	eventually(t, "keeper is told", func() bool { return isEnrolled(keeper, "uid-web") })
	eventually(t, "proxy knows the pod", func() bool { return proxy.Snapshot().Pod("uid-web") != nil })
	if inMesh(proxy, "uid-web") {
		t.Fatal("announced as in the mesh before it was captured")
	}
	// The address that the keeper saw counts, not the status.
	captured := netip.MustParseAddr("10.1.0.9")
	keeper.SetCaptured(keeper.Assignment().Version, map[string][]netip.Addr{"uid-web": {captured}})
	eventually(t, "announced", func() bool { return inMesh(proxy, "uid-web") })
	if got := proxy.Snapshot().PodByAddr(captured); got == nil || got.UID != "uid-web" {
		t.Fatalf("captured address belongs to %v", got)
	}
	if on, known := keeper.Assignment().Namespaces["shop"]; !known || !on {
		t.Fatalf("namespaces %v", keeper.Assignment().Namespaces)
	}
}

func TestALeavingPodIsReleasedOnlyWhenAllProxiesKnow(t *testing.T) {
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
	eventually(t, "proxy sees it outside", func() bool { return !inMesh(proxy, "uid-web") })
	if !isEnrolled(keeper, "uid-web") {
		t.Fatal("released before the slow proxy had acknowledged")
	}
	if proxy.Snapshot().Pod("uid-web") == nil {
		t.Fatal("the row went before the pod was released")
	}
	mute.ackAll(t)
	eventually(t, "released", func() bool { return !isEnrolled(keeper, "uid-web") })
	eventually(t, "row gone", func() bool { return proxy.Snapshot().Pod("uid-web") == nil })
}

func TestALeavingPodIsReleasedAtTheDeadline(t *testing.T) {
	p := newPlane(t, func(c *control.Config) { c.Leave = 50 * time.Millisecond })
	p.write("ns.yaml", namespaceYAML("shop", "enabled"), accountYAML("shop", "web"))
	p.write("web.yaml", podYAML("shop", "web", "web", "a", "10.1.0.1"))
	p.serve()
	keeper := p.loyal("a", map[string]string{"uid-web": "10.1.0.1"})
	mute := p.muteProxy("c")
	mute.await(t, func(bool) bool { return true })
	eventually(t, "captured", func() bool { return isEnrolled(keeper, "uid-web") })
	p.write("ns.yaml", namespaceYAML("shop", "disabled"), accountYAML("shop", "web"))
	eventually(t, "released though one proxy is silent", func() bool {
		e, known := enrolment(keeper, "uid-web")
		return known && !e.Enrolled
	})
}

func TestAPodThatComesBackIsAnnouncedOnlyAfterANewCapture(t *testing.T) {
	p := newPlane(t, nil)
	p.write("ns.yaml", namespaceYAML("shop", "enabled"), accountYAML("shop", "web"))
	p.write("web.yaml", podYAML("shop", "web", "web", "a", "10.1.0.1"))
	p.serve()
	keeper, proxy := p.keeper("a"), p.proxy("a")
	eventually(t, "told", func() bool { return isEnrolled(keeper, "uid-web") })
	captured := map[string][]netip.Addr{"uid-web": {netip.MustParseAddr("10.1.0.1")}}
	first := keeper.Assignment().Version
	keeper.SetCaptured(first, captured)
	eventually(t, "announced", func() bool { return inMesh(proxy, "uid-web") })

	p.write("ns.yaml", namespaceYAML("shop", "disabled"), accountYAML("shop", "web"))
	eventually(t, "told to release", func() bool { return !isEnrolled(keeper, "uid-web") })
	p.write("ns.yaml", namespaceYAML("shop", "enabled"), accountYAML("shop", "web"))
	eventually(t, "told to capture again", func() bool { return isEnrolled(keeper, "uid-web") })
	// The report of before, from before the release: it says nothing of now.
	keeper.SetCaptured(first, captured)
	p.write("other.yaml", namespaceYAML("other", "disabled"))
	eventually(t, "the other namespace", func() bool { _, ok := keeper.Assignment().Namespaces["other"]; return ok })
	if pod := p.world.Delta(0, nil2).Pods; len(pod) != 1 || pod[0].InMesh {
		t.Fatal("an old report put the pod into the mesh")
	}
	keeper.SetCaptured(keeper.Assignment().Version, captured)
	eventually(t, "announced again", func() bool { return inMesh(proxy, "uid-web") })
}

func TestARestartTakesNoPodOutOfTheMesh(t *testing.T) {
	p := newPlane(t, nil)
	p.write("ns.yaml", namespaceYAML("shop", "enabled"), accountYAML("shop", "web"))
	p.write("web.yaml", podYAML("shop", "web", "web", "a", "10.1.0.1"))
	stop := p.serve()
	proxy := p.proxy("b")
	keeper := p.loyal("a", map[string]string{"uid-web": "10.1.0.1"})
	eventually(t, "announced", func() bool { return inMesh(proxy, "uid-web") })
	before := proxy.Snapshot().Version()
	stop()
	eventually(t, "both lost", func() bool { return !proxy.Connected() && !keeper.Connected() })

	p.restart()
	outside := 0
	eventually(t, "a newer world", func() bool {
		if !inMesh(proxy, "uid-web") {
			outside++
		}
		return proxy.Connected() && proxy.Snapshot().Version() > before
	})
	if outside > 0 || !inMesh(proxy, "uid-web") {
		t.Fatalf("the pod was out of the mesh, seen %d times", outside)
	}
}

func TestProxiesAreToldAfterTheWarmUpThoughAKeeperIsMissing(t *testing.T) {
	p := newPlane(t, func(c *control.Config) { c.WarmUp = 50 * time.Millisecond })
	p.write("ns.yaml", namespaceYAML("shop", "enabled"), accountYAML("shop", "web"))
	p.write("web.yaml", podYAML("shop", "web", "web", "a", "10.1.0.1"))
	p.serve()
	proxy := p.proxy("b")
	eventually(t, "world", proxy.Synced)
	if inMesh(proxy, "uid-web") {
		t.Fatal("in the mesh though nobody captured it")
	}
}

func TestARestartOfAKeeperTakesNoPodOutOfTheMesh(t *testing.T) {
	p := newPlane(t, nil)
	p.write("ns.yaml", namespaceYAML("shop", "enabled"), accountYAML("shop", "web"))
	p.write("web.yaml", podYAML("shop", "web", "web", "a", "10.1.0.1"))
	p.serve()
	first := control.NewPodsClient(p.keeperTarget("a"), nil)
	stop := running(t, "first keeper", first.Run)
	eventually(t, "told", func() bool { return isEnrolled(first, "uid-web") })
	captured := map[string][]netip.Addr{"uid-web": {netip.MustParseAddr("10.1.0.1")}}
	first.SetCaptured(first.Assignment().Version, captured)
	proxy := p.proxy("b")
	eventually(t, "announced", func() bool { return inMesh(proxy, "uid-web") })
	stop()

	second := p.keeper("a") // it has nothing to report yet
	eventually(t, "second keeper told", func() bool { return isEnrolled(second, "uid-web") })
	p.write("other.yaml", namespaceYAML("other", "disabled"))
	eventually(t, "its stream is at work", func() bool { _, ok := second.Assignment().Namespaces["other"]; return ok })
	if pods := p.world.Delta(0, nil2).Pods; len(pods) != 1 || !pods[0].InMesh {
		t.Fatal("the pod left the mesh with the keeper's process")
	}
	second.SetCaptured(second.Assignment().Version, nil)
	eventually(t, "what is not captured is not in the mesh", func() bool { return !inMesh(proxy, "uid-web") })
}

func TestAPodThatLeftWhileTheControllerWasAwayLeavesInOrder(t *testing.T) {
	p := newPlane(t, nil)
	p.write("ns.yaml", namespaceYAML("shop", "enabled"), accountYAML("shop", "web"))
	p.write("web.yaml", podYAML("shop", "web", "web", "a", "10.1.0.1"))
	stop := p.serve()
	before := p.world.Version()
	stop()
	p.write("ns.yaml", namespaceYAML("shop", "disabled"), accountYAML("shop", "web"))
	p.restart()
	mute := p.muteProxy("c") // told, and silent
	mute.await(t, func(outside bool) bool { return outside })

	keeper := control.NewPodsClient(p.keeperTarget("a"), nil)
	captured := map[string][]netip.Addr{"uid-web": {netip.MustParseAddr("10.1.0.1")}}
	keeper.SetCaptured(before, captured)
	running(t, "keeper", keeper.Run)
	eventually(t, "keeper is told", keeper.Connected)
	if !isEnrolled(keeper, "uid-web") {
		t.Fatal("released before all proxies knew")
	}
	mute.ackAll(t)
	eventually(t, "released", func() bool { return !isEnrolled(keeper, "uid-web") })
}
