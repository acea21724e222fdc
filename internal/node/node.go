// Package node is the brain of the proxy: it turns what the keeper hands out (listeners, sockets, certificates) and
// what the controller tells (pods, services, endpoints) into the desired state of the L7 engine and the answers
// to its questions.
//
// Promises:
//  1. It holds no key and makes no socket of its own inside a pod: both are the keeper's.
//  2. Every decision is made from one immutable snapshot, and every peer is held against it: on dialling strictly,
//     on arrival as far as the table knows the address, and again when the table changes.
//  3. The last good state stays in force while keeper or controller are away.
//  4. No label value of a metric is chosen by a client; series are bounded and expire.
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"fairlead.io/fairlead/internal/admin"
	"fairlead.io/fairlead/internal/control"
	"fairlead.io/fairlead/internal/identity"
	"fairlead.io/fairlead/internal/keeper/socket"
	"fairlead.io/fairlead/internal/l7"
	"fairlead.io/fairlead/internal/mesh"
)

// Config of a node's proxy.
type Config struct {
	Node         string        // the node's name
	KeeperSocket string        // path
	Controller   string        // host:port
	Admin        string        // address of /metrics and /readyz; none when empty
	Drain        time.Duration // how long connections may go on when the context has ended
	Limits       l7.Limits
	MapBackends  MapBackends // when the address of a Service's endpoint is taken for the Service
	Log          *slog.Logger
}

// Run works the proxy until the context ends, and then until its connections have ended, at most Config.Drain.
func Run(ctx context.Context, cfg Config) error {
	n := newNode(cfg)
	n.reg.MustRegister(goCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	inner, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	g, inner := errgroup.WithContext(inner)
	g.Go(func() error { return n.link.run(inner, n.pods) })
	if cfg.Admin != "" {
		g.Go(func() error { return admin.Serve(inner, cfg.Admin, n.handler()) })
	}
	g.Go(func() error { return n.expire(inner) })
	g.Go(func() error { return n.work(inner) })
	g.Go(func() error {
		select {
		case <-inner.Done():
		case <-ctx.Done():
			if engine := n.engine.Load(); engine != nil && cfg.Drain > 0 {
				n.drain(inner, engine)
			}
			end()
		}
		return nil
	})
	err := g.Wait()
	n.drains.say(cfg.Log)
	n.pods.close()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

type node struct {
	cfg     Config
	link    *link
	creds   *credentials
	pods    *pods
	maps    *backends
	dialer  *Dialer
	metrics *metrics
	drains  *drains
	reg     *prometheus.Registry
	ready   *admin.Ready
	brain   atomic.Pointer[brain]     // nil until the proxy has its certificate
	engine  atomic.Pointer[l7.Engine] // likewise
	started time.Time

	trustReady, tableReady func()
	able                   chan struct{} // closed when there is all that serving takes
}

func newNode(cfg Config) *node {
	n := &node{cfg: cfg, link: newLink(cfg.KeeperSocket, cfg.Log), reg: prometheus.NewPedanticRegistry(), ready: &admin.Ready{},
		able: make(chan struct{}), started: time.Now()}
	n.creds = newCredentials(n.link)
	n.metrics = newMetrics(n.reg, n, &rareLog{log: cfg.Log})
	n.drains = newDrains(n.reg, n.metrics)
	n.dialer = &Dialer{Keeper: n.link, count: n.metrics}
	n.pods = newPods(n.creds, &n.dialer.sockets, cfg.Log)
	n.maps = newBackends(cfg.MapBackends, n.reg, cfg.Log)
	n.pods.backends = n.maps
	n.reg.MustRegister(admin.BuildInfo("proxy"), &nodeCollector{n.link, n.creds, n.pods, n.workload})
	tableReady := n.ready.Await("address table")
	n.trustReady = n.ready.Await("certificate of the proxy")
	n.tableReady = sync.OnceFunc(func() {
		tableReady()
		close(n.able)
	})
	n.ready.Watch("the keeper, and the pods that it has captured", n.pods.isSynced)
	return n
}

// handler serves the admin requests.
func (n *node) handler() http.Handler { return admin.Handler(n.ready, n.reg, n.debug()) }

// work waits for the proxy's own certificate, then runs the engine and the stream from the controller.
func (n *node) work(ctx context.Context) error {
	src, bundle, err := n.creds.wait(ctx, mesh.Account{})
	if err != nil {
		return err
	}
	n.trustReady()
	controller, err := identity.ControllerID(bundle.TrustDomain())
	if err != nil {
		return err
	}
	world := control.NewDiscoverClient(control.DiscoverConfig{
		Target: control.Target{Addr: n.cfg.Controller, Node: n.cfg.Node, TLS: identity.ClientTLS(src, bundle, identity.OnlyID(controller))},
		Bundle: bundle,
		Log:    n.cfg.Log,
	})
	world.SubscribeAll(n.maps.on()) // before the stream begins, so that its first word is of all
	cl := newClusters(n.cfg.Node)
	tb := newTables(cl, world, n.cfg.Log)
	b := &brain{world: world, clusters: cl, tables: tb, creds: n.creds, dialer: n.dialer, backends: n.maps, metrics: n.metrics}
	n.brain.Store(b)
	rt := newRates(world, tb)
	engine := l7.New(l7.Config{
		Log:      n.cfg.Log,
		Brain:    b,
		Recorder: n.drains,
		Rates:    rt,
		Limits:   n.cfg.Limits,
	})
	n.engine.Store(engine)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return engine.Run(ctx) })
	g.Go(func() error { return n.restore(ctx, world) })
	g.Go(func() error { return world.Run(ctx) })
	g.Go(func() error { return n.save(ctx, world) })
	g.Go(func() error { return n.follow(ctx, world, tb, engine) })
	g.Go(func() error { return rt.run(ctx) })
	g.Go(func() error { return n.maps.follow(ctx, world, engine.Reauthorize) })
	g.Go(func() error {
		select {
		case <-n.able:
			return n.link.announce(ctx)
		case <-ctx.Done():
			return nil
		}
	})
	n.pods.start(engine)
	return g.Wait()
}

// follow brings every change of the world to the clusters and the rules, and holds live connections against it.
func (n *node) follow(ctx context.Context, world World, tb *tables, engine *l7.Engine) error {
	later := time.NewTimer(time.Hour)
	defer later.Stop()
	for {
		s := world.Snapshot()
		for _, service := range tb.clusters.update(s) {
			if world.Snapshot().Service(service) == nil { // still gone: subscriptions have a limit
				world.Unsubscribe(service)
			}
		}
		if again := tb.update(s); again > 0 {
			later.Reset(again)
		}
		if b := n.brain.Load(); b != nil {
			b.deciders.sweep(world.Snapshot())
		}
		engine.Reauthorize()
		if world.Synced() {
			n.tableReady()
		}
		select {
		case <-world.Changed():
		case <-later.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// restoreAfter is how long the controller may take to tell the world before the state is used that the keeper has kept.
const restoreAfter = 3 * time.Second

// restore puts the state that the keeper has kept in force if the controller does not tell a newer one soon. Of a service or a
// pod that is younger than the state a node knows nothing, and would dial it in the clear: what connects waits so long.
func (n *node) restore(ctx context.Context, world *control.DiscoverClient) error {
	soon, cancel := context.WithTimeout(ctx, restoreAfter)
	defer cancel()
	if world.Await(soon) {
		return nil
	}
	fd, err := n.link.LoadState(ctx)
	if err != nil {
		if !errors.Is(err, socket.ErrNoState) {
			n.cfg.Log.Warn("saved state cannot be loaded", "err", err)
		}
		return nil
	}
	state, err := socket.ReadState(fd)
	if err == nil {
		err = world.Restore(state)
	}
	if err != nil {
		n.cfg.Log.Warn("saved state cannot be used", "err", err)
	}
	return nil
}

// save hands each new signed state to the keeper.
func (n *node) save(ctx context.Context, world *control.DiscoverClient) error {
	for {
		select {
		case <-world.States():
		case <-ctx.Done():
			return nil
		}
		if err := n.saveOnce(ctx, world.State()); err != nil && ctx.Err() == nil {
			n.cfg.Log.Warn("state cannot be saved", "err", err)
		}
	}
}

func (n *node) saveOnce(ctx context.Context, state []byte) error {
	fd, err := socket.Memfd(state)
	if err != nil {
		return fmt.Errorf("make memfd: %w", err)
	}
	defer closeFD(fd)
	return n.link.SaveState(ctx, fd)
}

// expire drops idle series, and accounts that are nobody's, now and then.
func (n *node) expire(ctx context.Context) error {
	t := time.NewTicker(time.Minute)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			n.metrics.expire()
			for _, p := range n.pods.list() {
				countersOf(p).expire(time.Now())
			}
			n.creds.sweep(n.pods.accounts())
		case <-ctx.Done():
			return nil
		}
	}
}

// table is the snapshot; the empty one before there is any.
func (n *node) table() *mesh.Snapshot {
	if b := n.brain.Load(); b != nil {
		return b.world.Snapshot()
	}
	return &nothing
}

var nothing mesh.Snapshot

// workload is the name that metrics give a local pod.
func (n *node) workload(uid string) mesh.Name {
	if p := n.table().Pod(uid); p != nil {
		return mesh.Name{Namespace: p.Name.Namespace, Name: p.Workload}
	}
	name, _ := n.pods.name(uid)
	return name
}

// serves tells whether there is a service of that name.
func (n *node) serves(service mesh.Name) bool { return n.table().Service(service) != nil }
