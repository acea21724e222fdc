package main

import (
	"context"
	"log/slog"
	"net/netip"

	"golang.org/x/sync/errgroup"

	"fairlead.io/fairlead/internal/admin"
	"fairlead.io/fairlead/internal/compile"
	"fairlead.io/fairlead/internal/identity"
	"fairlead.io/fairlead/internal/kube"
)

// replica is one controller of a cluster. All keep up what the API server tells; the one that leads serves the nodes.
type replica struct {
	o        *options
	td       identity.TrustDomain
	log      *slog.Logger
	source   *kube.Source
	election *kube.Election
	reviewer *kube.Reviewer
	statuses func(*compile.World) *kube.Statuses
	taints   func(keepers func() []string) *kube.Taints
	address  func(nodes, admin netip.AddrPort) *kube.Address
	admin    *adminServer
	adminAt  netip.AddrPort
}

func runKubernetes(ctx context.Context, o *options, td identity.TrustDomain, log *slog.Logger) error {
	client, err := kube.Connect(o.kube.kubeconfig, "fairlead-controller/"+admin.Version, log)
	if err != nil {
		return err
	}
	// A client of its own for what anybody can make the controller ask: a flood of tokens must not delay the lease.
	asking, err := kube.Connect(o.kube.kubeconfig, "fairlead-controller/"+admin.Version, log)
	if err != nil {
		return err
	}
	custom, err := kube.ConnectCustom(o.kube.kubeconfig, "fairlead-controller/"+admin.Version)
	if err != nil {
		return err
	}
	k := &o.kube
	r := &replica{
		o: o, td: td, log: log, admin: newAdmin(),
		source: kube.NewSource(kube.SourceConfig{
			Client: client, Custom: custom, Namespace: k.namespace, IssuerSecret: k.issuerSecret, RootsConfigMap: k.rootsConfigMap, Log: log,
		}),
		election: kube.NewElection(kube.ElectionConfig{
			Client: client, Namespace: k.namespace, Name: k.podName, Duration: k.lease, Renew: k.renew, Retry: k.leaseTry, Log: log,
		}),
		reviewer: kube.NewReviewer(kube.ReviewerConfig{
			Client: asking, Namespace: k.namespace, Account: k.nodeAccount, Audience: kube.Audience,
		}),
	}
	r.address = func(nodes, adminAt netip.AddrPort) *kube.Address {
		return kube.NewAddress(kube.AddressConfig{
			Client: client, Namespace: k.namespace, PodName: k.podName, PodIP: netip.MustParseAddr(k.podIP),
			Nodes: nodes.Port(), Admin: adminAt.Port(), Log: log,
		})
	}
	r.statuses = func(world *compile.World) *kube.Statuses {
		return kube.NewStatuses(kube.StatusesConfig{Client: custom, Source: r.source, World: world, Log: log})
	}
	r.taints = func(keepers func() []string) *kube.Taints {
		return kube.NewTaints(kube.TaintsConfig{Client: client, Source: r.source, Keepers: keepers, Log: log})
	}
	r.admin.awaits, r.admin.election = r.source.Pending, r.election
	r.admin.register(r.reviewer, r.source)
	return r.run(ctx)
}

func (r *replica) run(ctx context.Context) error {
	l, err := listen(r.o.admin, "admin")
	if err != nil {
		return err
	}
	defer l.Close()
	r.adminAt = addrPort(l.Addr())
	r.log.Info("controller started", "admin", l.Addr().String(), "trustDomain", r.td.Name(), "replica", r.o.kube.podName)

	// The election ends first: what it leads ends after the lease was given back, and the rest with it.
	rest, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return r.source.Run(rest) })
	group.Go(func() error { return r.admin.run(rest, l) })
	group.Go(func() error { defer stop(); return r.take(ctx) })
	return group.Wait()
}

// take waits until everything has been read, and then for the lease.
func (r *replica) take(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-r.source.Synced():
	}
	r.log.Info("cluster read")
	return r.election.Run(ctx, r.lead)
}

// lead serves the nodes until the context ends.
func (r *replica) lead(ctx context.Context) error {
	t := r.awaitTrust(ctx)
	if t == nil {
		return nil
	}
	world := compile.NewWorld(compile.Config{SystemNamespaces: r.o.systemNamespaces(), Namespace: r.o.kube.namespace, DefaultPolicy: r.o.policy})
	feed := kube.NewFeed(kube.FeedConfig{Source: r.source, World: world, Log: r.log})
	if err := feed.Load(ctx); err != nil {
		return nil // the context has ended
	}
	s, err := newServing(r.o, world, t, r.reviewer.Node, r.log)
	if err != nil {
		return err
	}
	nodes, err := listen(r.o.listen, "nodes")
	if err != nil {
		return err
	}
	defer nodes.Close()
	r.admin.serve(s, feed.Problems)
	r.log.Info("serving nodes", "nodes", nodes.Addr().String())

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return feed.Run(ctx) })
	group.Go(func() error { return r.statuses(world).Run(ctx) })
	group.Go(func() error { return s.run(ctx, nodes) })
	group.Go(func() error { return r.address(addrPort(nodes.Addr()), r.adminAt).Run(ctx) })
	if r.o.kube.startupTaint {
		group.Go(func() error { return r.taints(s.server.Keepers).Run(ctx) })
	}
	return group.Wait()
}

// awaitTrust waits for an issuer that the roots vouch for; nil when the context has ended.
func (r *replica) awaitTrust(ctx context.Context) *trust {
	k := &r.o.kube
	authority := kube.NewAuthority(kube.AuthorityConfig{Source: r.source, TrustDomain: r.td, Make: k.makeIssuer, Log: r.log})
	last := ""
	for {
		t, err := openTrust(ctx, r.td, authority, r.log)
		r.admin.waits(err)
		if err == nil {
			t.wait = k.issuerWait
			return t
		}
		if err.Error() != last && ctx.Err() == nil {
			last = err.Error()
			r.log.Warn("no issuer yet", "err", err)
		}
		if !authority.Next(ctx) {
			return nil
		}
	}
}

func addrPort(a interface{ String() string }) netip.AddrPort {
	p, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.AddrPort{}
	}
	return p
}
