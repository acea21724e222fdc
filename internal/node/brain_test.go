package node

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fairlead.io/fairlead/internal/identity"
	"fairlead.io/fairlead/internal/l7/balance"
	"fairlead.io/fairlead/internal/mesh"
)

// fakeWorld is a World that the test moves on.
type fakeWorld struct {
	mu     sync.Mutex
	s      *mesh.Snapshot
	synced bool
	next   chan struct{}
	subs   []mesh.Name

	changed chan struct{}
}

func newWorld() *fakeWorld {
	return &fakeWorld{s: &mesh.Snapshot{}, next: make(chan struct{}), changed: make(chan struct{}, 1)}
}

func (w *fakeWorld) apply(d mesh.Delta) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.s, w.synced = w.s.Apply(d), true
	close(w.next)
	w.next = make(chan struct{})
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

func (w *fakeWorld) Changed() <-chan struct{} { return w.changed }

func (w *fakeWorld) Unsubscribe(n mesh.Name) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.subs = slices.DeleteFunc(w.subs, func(s mesh.Name) bool { return s == n })
}

func (w *fakeWorld) Snapshot() *mesh.Snapshot {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.s
}

func (w *fakeWorld) Synced() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.synced
}

func (w *fakeWorld) Connected() bool { return w.Synced() }

func (w *fakeWorld) Subscribe(n mesh.Name) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.subs = append(w.subs, n)
}

func (w *fakeWorld) Wait(ctx context.Context, ok func(*mesh.Snapshot) bool) (*mesh.Snapshot, error) {
	for {
		w.mu.Lock()
		s, next := w.s, w.next
		w.mu.Unlock()
		if ok(s) {
			return s, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-next:
		}
	}
}

var (
	vip  = netip.MustParseAddr("10.96.0.10")
	dbIP = netip.MustParseAddr("10.244.2.9")
	db   = &mesh.Pod{UID: "db", Name: mesh.Name{Namespace: "data", Name: "db-0"}, Account: mesh.Account{Namespace: "data", Name: "db"},
		Node: "n2", Workload: "db", Addrs: []netip.Addr{dbIP}, InMesh: true}
)

func dbService() mesh.Delta {
	return mesh.Delta{Pods: []*mesh.Pod{db}, Services: []*mesh.Service{{Name: dbSvc, Addrs: []netip.Addr{vip},
		Ports: []mesh.Port{{Name: "sql", Number: 3306, Protocol: mesh.TCP}}}}}
}

func dbEndpoints(eps ...mesh.Endpoint) mesh.Delta {
	return mesh.Delta{Endpoints: []*mesh.Endpoints{{Service: dbSvc, Ports: []mesh.PortEndpoints{{Port: "sql", Endpoints: eps}}}}}
}

var discard = slog.New(slog.DiscardHandler)

func testBrain(w World) *brain {
	c := newClusters("n1")
	return &brain{world: w, clusters: c, tables: newTables(c, w, discard)}
}

func TestOutboundWaitsForTheTableAndTheEndpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		b := testBrain(w)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := b.Outbound(ctx, webPod, netip.AddrPortFrom(vip, 3306)); !errors.Is(err, ErrNoTable) {
			t.Fatalf("without a table: %v", err)
		}
		go func() {
			time.Sleep(100 * time.Millisecond) // synctest: no real time
			w.apply(dbService())
			time.Sleep(100 * time.Millisecond) // synctest: no real time
			w.apply(dbEndpoints(mesh.Endpoint{Addr: netip.AddrPortFrom(dbIP, 3306), Ready: true}))
		}()
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		d, err := b.Outbound(ctx, webPod, netip.AddrPortFrom(vip, 3306))
		if err != nil {
			t.Fatal(err)
		}
		e, err := d.Cluster.Pick(balance.Choice{})
		if err != nil || !e.Mesh || e.Account != db.Account || e.Node != "n2" || d.Service != dbSvc || d.Port.Protocol != mesh.TCP {
			t.Errorf("destination %+v, endpoint %+v, %v", d, e, err)
		}
		if len(w.subs) == 0 || w.subs[0] != dbSvc {
			t.Errorf("subscribed to %v", w.subs)
		}
	})
}

func TestOutboundOfOtherAddresses(t *testing.T) {
	w := newWorld()
	w.apply(dbService())
	b := testBrain(w)
	if _, err := b.Outbound(t.Context(), webPod, netip.AddrPortFrom(vip, 1)); !errors.Is(err, ErrNoPort) {
		t.Errorf("a port that the service has not: %v", err)
	}
	d, err := b.Outbound(t.Context(), webPod, netip.AddrPortFrom(dbIP, 3306))
	if err != nil || d.Endpoint == nil || !d.Endpoint.Mesh || d.Endpoint.Account != db.Account {
		t.Errorf("a pod's address: %+v, %v", d, err)
	}
	d, err = b.Outbound(t.Context(), webPod, netip.MustParseAddrPort("203.0.113.1:443"))
	if err != nil || d.Endpoint == nil || d.Endpoint.Mesh || d.Endpoint.Pod != nil {
		t.Errorf("an address outside: %+v, %v", d, err)
	}
}

func TestClustersFollowTheSnapshot(t *testing.T) {
	w := newWorld()
	w.apply(dbService())
	w.apply(dbEndpoints(mesh.Endpoint{Addr: netip.AddrPortFrom(dbIP, 3306), Ready: true}))
	b := testBrain(w)
	d, err := b.Outbound(t.Context(), webPod, netip.AddrPortFrom(vip, 3306))
	if err != nil {
		t.Fatal(err)
	}
	left := *db
	left.InMesh = false
	w.apply(mesh.Delta{Pods: []*mesh.Pod{&left}})
	b.clusters.update(w.Snapshot())
	if e, err := d.Cluster.Pick(balance.Choice{}); err != nil || e.Mesh {
		t.Errorf("after the pod left the mesh: %+v, %v", e, err)
	}
	w.apply(mesh.Delta{GoneServices: []mesh.Name{dbSvc}})
	if gone := b.clusters.update(w.Snapshot()); !slices.Equal(gone, []mesh.Name{dbSvc}) {
		t.Errorf("gone: %v", gone)
	}
	if _, err := d.Cluster.Pick(balance.Choice{}); !errors.Is(err, balance.ErrNone) {
		t.Errorf("after the service is gone: %v", err)
	}
}

func TestPeersAreHeldAgainstTheTable(t *testing.T) {
	td, err := identity.ParseTrustDomain("cluster.local")
	if err != nil {
		t.Fatal(err)
	}
	id := func(a mesh.Account) identity.ID {
		id, err := identity.AccountID(td, a)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	proxy, err := identity.ProxyID(td, "n2")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld()
	w.apply(dbService())
	b := testBrain(w)
	other := mesh.Account{Namespace: "data", Name: "intruder"}
	for name, tc := range map[string]struct {
		addr  netip.Addr
		peer  identity.Peer
		cause string
	}{
		"as the table says":  {dbIP, identity.Peer{ID: id(db.Account), Node: "n2"}, ""},
		"another account":    {dbIP, identity.Peer{ID: id(other), Node: "n2"}, "wrong_identity"},
		"another node":       {dbIP, identity.Peer{ID: id(db.Account), Node: "n1"}, "wrong_node"},
		"no account at all":  {dbIP, identity.Peer{ID: proxy, Node: "n2"}, "wrong_identity"},
		"an unknown address": {netip.MustParseAddr("10.244.2.77"), identity.Peer{ID: id(other), Node: "n2"}, ""},
	} {
		err := b.checkPeer(tc.addr, tc.peer)
		got := ""
		if c, ok := identity.CauseOf(err); ok {
			got = c.String()
		}
		if got != tc.cause || (err != nil) != (tc.cause != "") {
			t.Errorf("%s: %v, want cause %q", name, err, tc.cause)
		}
	}
}

// An app that listens on IPv4 alone is not sent what was dialled by IPv6.
func TestAddressFamilyStays(t *testing.T) {
	w := newWorld()
	d := dbService()
	vip6 := netip.MustParseAddr("fd96::a")
	d.Services[0].Addrs = append(d.Services[0].Addrs, vip6)
	w.apply(d)
	v4, v6 := netip.AddrPortFrom(dbIP, 3306), netip.MustParseAddrPort("[fd44:2::9]:3306")
	w.apply(dbEndpoints(mesh.Endpoint{Addr: v4, Ready: true}, mesh.Endpoint{Addr: v6, Ready: true}))
	b := testBrain(w)
	for from, want := range map[netip.Addr]netip.AddrPort{vip: v4, vip6: v6} {
		d, err := b.Outbound(t.Context(), webPod, netip.AddrPortFrom(from, 3306))
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			if e, err := d.Cluster.Pick(balance.Choice{}); err != nil || e.Addr != want {
				t.Fatalf("%v led to %v, %v, want %v", from, e, err, want)
			}
		}
	}
}

func TestDestinationsMove(t *testing.T) {
	w := newWorld()
	w.apply(mesh.Delta{Pods: []*mesh.Pod{db}})
	b := testBrain(w)
	at := netip.AddrPortFrom(vip, 3306)
	foreign, err := b.Outbound(t.Context(), webPod, at)
	if err != nil {
		t.Fatal(err)
	}
	direct, err := b.Outbound(t.Context(), webPod, netip.AddrPortFrom(dbIP, 3306))
	if err != nil {
		t.Fatal(err)
	}
	if b.Moved(foreign) || b.Moved(direct) {
		t.Error("moved, though nothing has changed")
	}
	w.apply(dbService())
	w.apply(dbEndpoints())
	if !b.Moved(foreign) {
		t.Error("an address that is a service's now has not moved")
	}
	service, err := b.Outbound(t.Context(), webPod, at)
	if err != nil {
		t.Fatal(err)
	}
	if b.Moved(service) || b.Moved(direct) {
		t.Error("moved, though nothing has changed for them")
	}
	left := *db
	left.InMesh = false
	w.apply(mesh.Delta{Pods: []*mesh.Pod{&left}, GoneServices: []mesh.Name{dbSvc}})
	if !b.Moved(service) || !b.Moved(direct) {
		t.Error("a service that is gone, or a pod that left the mesh, has not moved")
	}
}
