package control_test

import (
	"fmt"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/control"
	"fairlead.io/fairlead/internal/mesh"
)

var database = mesh.Name{Namespace: "shop", Name: "db"}

// first is the first endpoint that a proxy knows of a service.
func first(c *control.DiscoverClient, n mesh.Name) string {
	e := c.Snapshot().Endpoints(n)
	if e == nil {
		return "unknown"
	}
	if of := e.Of("http"); len(of) > 0 {
		return fmt.Sprint(of[0].Addr)
	}
	return "none"
}

// allPlane serves two services; a third has no endpoints.
func allPlane(t *testing.T) *plane {
	p := newPlane(t, nil)
	p.write("ns.yaml", namespaceYAML("shop", "disabled"), serviceYAML("shop", "web", "10.96.0.1"), serviceYAML("shop", "db", "10.96.0.2"),
		serviceYAML("shop", "none", "10.96.0.3"))
	p.write("web.yaml", sliceYAML("shop", "web", "10.1.0.1"))
	p.write("db.yaml", sliceYAML("shop", "db", "10.1.0.2"))
	return p
}

// A proxy that asks for all services is told which those are, follows each of them, and keeps those that it has asked for
// by name when it wants the others no longer.
func TestAllEndpoints(t *testing.T) {
	p := allPlane(t)
	p.serve()
	proxy := p.proxy("a")
	eventually(t, "world", proxy.Synced)
	proxy.Subscribe(web)
	eventually(t, "one service", func() bool { return first(proxy, web) == "10.1.0.1:8080" })
	if proxy.Snapshot().AllEndpoints() || first(proxy, database) != "unknown" {
		t.Error("all are known before they were asked for")
	}
	proxy.SubscribeAll(true)
	proxy.SubscribeAll(true)
	eventually(t, "all services", func() bool { return proxy.Snapshot().AllEndpoints() })
	if first(proxy, web) != "10.1.0.1:8080" || first(proxy, database) != "10.1.0.2:8080" {
		t.Errorf("web at %s, db at %s", first(proxy, web), first(proxy, database))
	}
	p.write("db.yaml", sliceYAML("shop", "db", "10.1.0.4"))
	p.write("late.yaml", serviceYAML("shop", "late", "10.96.0.9"), sliceYAML("shop", "late", "10.1.0.9"))
	late, none := mesh.Name{Namespace: "shop", Name: "late"}, mesh.Name{Namespace: "shop", Name: "none"}
	eventually(t, "a change of each", func() bool { return first(proxy, database) == "10.1.0.4:8080" && first(proxy, late) == "10.1.0.9:8080" })

	// By name and together: neither takes from the other.
	proxy.Subscribe(none)
	eventually(t, "an answer for a service without endpoints", func() bool { return first(proxy, none) == "none" })
	proxy.Subscribe(database)
	proxy.Subscribe(late)
	proxy.Unsubscribe(late)
	proxy.Unsubscribe(none)
	eventually(t, "the one without endpoints is forgotten", func() bool { return first(proxy, none) == "unknown" })
	if first(proxy, late) != "10.1.0.9:8080" || !proxy.Snapshot().AllEndpoints() {
		t.Errorf("late at %s, though all are wanted", first(proxy, late))
	}
	p.write("late.yaml", serviceYAML("shop", "late", "10.96.0.9"))
	eventually(t, "endpoints that are gone", func() bool { return first(proxy, late) == "unknown" })
	p.write("late.yaml", serviceYAML("shop", "late", "10.96.0.9"), sliceYAML("shop", "late", "10.1.0.9"))
	eventually(t, "endpoints that are back", func() bool { return first(proxy, late) == "10.1.0.9:8080" })

	proxy.SubscribeAll(false)
	eventually(t, "only those by name", func() bool { return !proxy.Snapshot().AllEndpoints() })
	if first(proxy, web) != "10.1.0.1:8080" || first(proxy, database) != "10.1.0.4:8080" || first(proxy, late) != "unknown" {
		t.Errorf("web at %s, db at %s, late at %s", first(proxy, web), first(proxy, database), first(proxy, late))
	}
}

// What is wanted before the stream begins comes with its first message, and again after a reconnect.
func TestAllEndpointsSurviveAReconnect(t *testing.T) {
	p := allPlane(t)
	stop := p.serve()
	proxy := control.NewDiscoverClient(control.DiscoverConfig{Target: p.proxyTarget("a"), Bundle: p.bundle})
	proxy.SubscribeAll(true)
	running(t, "proxy", proxy.Run)
	eventually(t, "world", proxy.Synced)
	if !proxy.Snapshot().AllEndpoints() || first(proxy, database) != "10.1.0.2:8080" {
		t.Error("the first delta is not of all")
	}
	stop()
	eventually(t, "lost", func() bool { return !proxy.Connected() })
	p.write("db.yaml", sliceYAML("shop", "db", "10.1.0.8"))
	p.restart()
	eventually(t, "a change after the reconnect", func() bool {
		if !proxy.Snapshot().AllEndpoints() {
			t.Fatal("not all were known for a moment")
		}
		return first(proxy, database) == "10.1.0.8:8080"
	})
}

// The signed state of a node that knows all services is of all services. Who restores it is subscribed to none by that.
func TestAllEndpointsAreInTheSignedState(t *testing.T) {
	p := allPlane(t)
	stop := p.serve()
	proxy := p.proxy("a")
	proxy.SubscribeAll(true)
	var state []byte
	eventually(t, "a state of all", func() bool {
		state = proxy.State()
		d, _, err := control.OpenState(state, p.bundle, "a")
		return err == nil && d.AllEndpoints && len(d.Endpoints) == 2
	})
	stop()
	next := control.NewDiscoverClient(control.DiscoverConfig{Target: p.proxyTarget("a"), Bundle: p.bundle, StateFirst: time.Millisecond})
	if err := next.Restore(state); err != nil {
		t.Fatal(err)
	}
	if !next.Snapshot().AllEndpoints() || first(next, database) != "10.1.0.2:8080" {
		t.Errorf("restored: all %v, db at %s", next.Snapshot().AllEndpoints(), first(next, database))
	}
	next.Subscribe(web)
	p.restart()
	running(t, "next proxy", next.Run)
	eventually(t, "the controller's own word", next.Connected)
	if next.Snapshot().AllEndpoints() || first(next, web) != "10.1.0.1:8080" || first(next, database) != "unknown" {
		t.Errorf("all %v, web at %s, db at %s", next.Snapshot().AllEndpoints(), first(next, web), first(next, database))
	}
}
