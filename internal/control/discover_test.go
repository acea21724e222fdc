package control_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead.io/fairlead/internal/compile"
	"fairlead.io/fairlead/internal/control"
	"fairlead.io/fairlead/internal/control/controlpb"
	"fairlead.io/fairlead/internal/identity"
	"fairlead.io/fairlead/internal/mesh"
)

type certificate = tls.Certificate

var web = mesh.Name{Namespace: "shop", Name: "web"}

func TestEndpointsComeWithTheirSubscription(t *testing.T) {
	p := newPlane(t, nil)
	p.write("ns.yaml", namespaceYAML("shop", "disabled"), serviceYAML("shop", "web", "10.96.0.1"), serviceYAML("shop", "db", "10.96.0.2"))
	p.write("web.yaml", sliceYAML("shop", "web", "10.1.0.1"))
	p.write("db.yaml", sliceYAML("shop", "db", "10.1.0.2"))
	p.serve()
	proxy := p.proxy("a")
	eventually(t, "world", proxy.Synced)
	if _, services, endpoints := proxy.Snapshot().Counts(); services != 2 || endpoints != 0 {
		t.Fatalf("%d services, %d endpoints before any subscription", services, endpoints)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	proxy.Subscribe(web)
	s, err := proxy.Wait(ctx, func(s *mesh.Snapshot) bool { return s.Endpoints(web) != nil })
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(s.Endpoints(web).Of("http")[0].Addr); got != "10.1.0.1:8080" {
		t.Errorf("endpoint %s", got)
	}
	if s.Service(web).Ports[0].Protocol != mesh.HTTP1 {
		t.Errorf("service %+v", s.Service(web))
	}
	p.write("web.yaml", sliceYAML("shop", "web", "10.1.0.3"))
	p.write("db.yaml", sliceYAML("shop", "db", "10.1.0.4"))
	eventually(t, "new endpoint", func() bool {
		return fmt.Sprint(proxy.Snapshot().Endpoints(web).Of("http")[0].Addr) == "10.1.0.3:8080"
	})
	none := mesh.Name{Namespace: "shop", Name: "none"}
	proxy.Subscribe(none)
	if _, err := proxy.Wait(ctx, func(s *mesh.Snapshot) bool { return s.Endpoints(none) != nil }); err != nil {
		t.Fatalf("a service without endpoints is not answered: %v", err)
	}
	proxy.Unsubscribe(web)
	eventually(t, "forgotten", func() bool { return proxy.Snapshot().Endpoints(web) == nil })
	if proxy.Snapshot().Endpoints(mesh.Name{Namespace: "shop", Name: "db"}) != nil {
		t.Error("endpoints that nobody subscribed to")
	}
}

func TestSubscriptionsSurviveAReconnect(t *testing.T) {
	p := newPlane(t, nil)
	p.write("web.yaml", serviceYAML("shop", "web", "10.96.0.1"), sliceYAML("shop", "web", "10.1.0.1"))
	stop := p.serve()
	proxy := p.proxy("a")
	proxy.Subscribe(web)
	eventually(t, "endpoints", func() bool { return proxy.Snapshot().Endpoints(web) != nil })
	stop()
	eventually(t, "lost", func() bool { return !proxy.Connected() })
	if proxy.Snapshot().Endpoints(web) == nil {
		t.Fatal("the endpoints went with the controller")
	}
	p.write("web.yaml", serviceYAML("shop", "web", "10.96.0.1"), sliceYAML("shop", "web", "10.1.0.7"))
	p.restart()
	eventually(t, "new endpoint after the reconnect", func() bool {
		e := proxy.Snapshot().Endpoints(web)
		if e == nil {
			t.Fatal("the endpoints were gone for a moment")
		}
		return fmt.Sprint(e.Of("http")[0].Addr) == "10.1.0.7:8080"
	})
}

func TestNoConnectionOutlivesItsCertificate(t *testing.T) {
	p := newPlane(t, func(c *control.Config) { c.LeafTTL = time.Second })
	p.write("web.yaml", serviceYAML("shop", "web", "10.96.0.1"), sliceYAML("shop", "web", "10.1.0.1"))
	p.serve()
	proxy := p.proxy("a")
	proxy.Subscribe(web)
	eventually(t, "world", func() bool { return proxy.Connected() && proxy.Snapshot().Endpoints(web) != nil })
	for range 2 {
		eventually(t, "the connection is ended", func() bool { return !proxy.Connected() })
		if proxy.Snapshot().Service(web) == nil || proxy.Snapshot().Endpoints(web) == nil {
			t.Fatal("the world went with the connection")
		}
		eventually(t, "connected again", proxy.Connected)
	}
}

func TestASlowReceiverGetsTheNewestState(t *testing.T) {
	p := newPlane(t, nil)
	p.write("ns.yaml", namespaceYAML("shop", "disabled"))
	p.serve()
	slow := p.muteProxy("a")
	slow.await(t, func(bool) bool { return true })
	const changes, pods = 100, 200
	var gone []compile.Key
	for i := range changes {
		var set []compile.Object
		for n := range pods {
			set = append(set, podObject(fmt.Sprintf("p%d-%d", n, i), fmt.Sprintf("10.2.%d.%d", n/250, n%250+1)))
		}
		p.world.Update(set, gone)
		gone = nil
		for _, o := range set {
			gone = append(gone, o.Key)
		}
	}
	messages := 0
	s := &mesh.Snapshot{}
	for s.Version() < p.world.Version() {
		m, err := slow.stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		messages++
		s = s.Apply(mesh.Delta{Version: m.GetDelta().GetVersion()})
	}
	if messages >= changes/2 {
		t.Errorf("%d messages for %d changes: they were queued", messages, changes)
	}
}

func podObject(name, addr string) compile.Object {
	return compile.Object{
		Key: compile.Key{Kind: compile.Pod, Namespace: "shop", Name: name},
		Value: &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID("uid-" + name)},
			Spec:       corev1.PodSpec{NodeName: "a"},
			Status:     corev1.PodStatus{PodIP: addr},
		},
	}
}

func TestAStateIsRestoredOnlyIfTheControllerSignedItForThisNode(t *testing.T) {
	p := newPlane(t, nil)
	p.write("web.yaml", namespaceYAML("shop", "disabled"), serviceYAML("shop", "web", "10.96.0.1"), sliceYAML("shop", "web", "10.1.0.1"))
	p.serve()
	proxy := p.proxy("a")
	proxy.Subscribe(web)
	eventually(t, "signed state with the endpoints", func() bool {
		d, _, err := control.OpenState(proxy.State(), p.bundle, "a")
		if proxy.State() == nil || len(d.Endpoints) == 0 {
			p.write("tick.yaml", namespaceYAML(fmt.Sprintf("n%d", time.Now().UnixNano()), "disabled"), serviceYAML("shop", "tick", fmt.Sprintf("10.97.0.%d", 1+time.Now().UnixNano()%250)))
			return false
		}
		return err == nil
	})
	good := proxy.State()

	restored := func(node string, b *identity.Bundle, raw []byte) (*control.DiscoverClient, error) {
		c := control.NewDiscoverClient(control.DiscoverConfig{Target: control.Target{Node: node}, Bundle: b})
		return c, c.Restore(raw)
	}
	c, err := restored("a", p.bundle, good)
	if err != nil || !c.Synced() {
		t.Fatalf("restore: %v", err)
	}
	if diff := cmp.Diff(c.Snapshot().Endpoints(web).Of("http")[0].Addr.String(), "10.1.0.1:8080"); diff != "" {
		t.Error(diff)
	}

	stranger := must[*identity.CA](t)(identity.NewCA(td))
	foreign := must[*identity.Bundle](t)(identity.ParseBundle(td, stranger.RootPEM()))
	var ss controlpb.SignedState
	if err := proto.Unmarshal(good, &ss); err != nil {
		t.Fatal(err)
	}
	edited := proto.Clone(&ss).(*controlpb.SignedState)
	edited.State[len(edited.State)-1] ^= 1
	byProxy := proto.Clone(&ss).(*controlpb.SignedState)
	byProxy.Chain = p.issue(must[identity.ID](t)(identity.ProxyID(td, "a")), "a").Certificate
	for name, try := range map[string]struct {
		node string
		b    *identity.Bundle
		raw  []byte
	}{
		"other node":       {"b", p.bundle, good},
		"other roots":      {"a", foreign, good},
		"edited":           {"a", p.bundle, must[[]byte](t)(proto.Marshal(edited))},
		"signed by others": {"a", p.bundle, must[[]byte](t)(proto.Marshal(byProxy))},
		"cut off":          {"a", p.bundle, good[:len(good)/2]},
		"empty":            {"a", p.bundle, nil},
	} {
		if c, err := restored(try.node, try.b, try.raw); !errors.Is(err, control.ErrNotOurs) || c.Synced() {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRootsAreRotatedWithoutARestart(t *testing.T) {
	p := newPlane(t, nil)
	p.write("ns.yaml", namespaceYAML("shop", "enabled"))
	p.serve()
	keeper := p.keeper("a")
	eventually(t, "told", keeper.Connected)
	old := p.ca.RootPEM()
	if string(keeper.Assignment().Roots) != string(old) {
		t.Fatal("not the roots")
	}
	// The node's side of the bundle is its own, as in another process.
	node := must[*identity.Bundle](t)(identity.ParseBundle(td, old))
	next := must[*identity.CA](t)(identity.NewCA(td))
	both := append(append([]byte{}, old...), next.RootPEM()...)
	replace(t, p.bundle, both)
	p.server.RootsChanged()
	eventually(t, "two roots", func() bool { return string(keeper.Assignment().Roots) == string(p.bundle.PEM()) })
	replace(t, node, keeper.Assignment().Roots)
	if node.Len() != 2 {
		t.Fatalf("%d roots", node.Len())
	}

	key := must[[]byte](t)(next.KeyPEM())
	if err := p.ca.Replace(next.CertPEM(), key); err != nil {
		t.Fatal(err)
	}
	p.source.set(p.issue(controllerID(t), ""))
	replace(t, p.bundle, next.RootPEM())
	p.server.RootsChanged()
	eventually(t, "new root alone", func() bool { return string(keeper.Assignment().Roots) == string(next.RootPEM()) })
	target := p.keeperTarget("a")
	target.TLS = identity.ClientTLS(identity.Static{Cert: p.issue(must[identity.ID](t)(identity.KeeperID(td, "a")), "a")}, node, identity.OnlyID(controllerID(t)))
	if _, err := issue(t, target, "", control.Subject{}); err != nil {
		t.Fatalf("with both roots, after the change of issuer: %v", err)
	}
}

func replace(t *testing.T, b *identity.Bundle, roots []byte) {
	t.Helper()
	if err := b.Replace(roots); err != nil {
		t.Fatal(err)
	}
}

// Await tells a controller that is there from one that is not, and waits for neither longer than it has to.
func TestAwait(t *testing.T) {
	p := newPlane(t, nil)
	p.write("web.yaml", namespaceYAML("shop", "disabled"), serviceYAML("shop", "web", "10.96.0.1"))
	p.serve()
	if c := p.proxy("a"); !c.Await(t.Context()) || c.Snapshot().Service(web) == nil {
		t.Error("not the controller's word")
	}

	nobody := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	target := p.proxyTarget("a")
	target.Addr = nobody.Addr().String()
	silent := control.NewDiscoverClient(control.DiscoverConfig{Target: target})
	running(t, "client of a silent controller", silent.Run)
	soon, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if silent.Await(soon) {
		t.Error("a controller that says nothing has told the world")
	}

	if err := nobody.Close(); err != nil {
		t.Fatal(err)
	}
	absent := control.NewDiscoverClient(control.DiscoverConfig{Target: target})
	running(t, "client of an absent controller", absent.Run)
	if absent.Await(t.Context()) {
		t.Error("a controller that is not there has told the world")
	}
}
