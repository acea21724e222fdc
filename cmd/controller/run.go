package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"golang.org/x/sync/errgroup"

	"fairlead.io/fairlead/internal/compile"
	"fairlead.io/fairlead/internal/control"
	"fairlead.io/fairlead/internal/identity"
)

// trustPoll is how often the files of issuer, roots and tokens are read again.
const trustPoll = time.Second

func run(ctx context.Context, args []string, stderr io.Writer) error {
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewJSONHandler(stderr, nil))

	trust, err := openTrust(o)
	if err != nil {
		return err
	}
	own, err := ownCertificate(trust.ca, o.leafTTL, log)
	if err != nil {
		return err
	}

	world := compile.NewWorld(compile.Config{SystemNamespaces: o.systemNamespaces(), DefaultPolicy: o.policy})
	dir := compile.NewDir(compile.DirConfig{Path: o.dir(), World: world, Log: log})
	if err := dir.Load(); err != nil { // before anybody is told a half-empty world
		return err
	}

	server := control.NewServer(control.Config{
		World: world, CA: trust.ca, Bundle: trust.bundle, Source: own, Tokens: trust.Node,
		LeafTTL: o.leafTTL, WarmUp: o.warmUp, Leave: o.leave, Log: log,
	})
	trust.rootsChanged, trust.issuerChanged = server.RootsChanged, own.Renew

	nodes, err := net.Listen("tcp", o.listen)
	if err != nil {
		return fmt.Errorf("listen for nodes: %w", err)
	}
	defer nodes.Close()
	adminListener, err := net.Listen("tcp", o.admin)
	if err != nil {
		return fmt.Errorf("listen for admin: %w", err)
	}
	defer adminListener.Close()
	admin := &admin{world: world, dir: dir, server: server, trust: trust, own: own}
	log.Info("controller started", "nodes", nodes.Addr().String(), "admin", adminListener.Addr().String(),
		"trustDomain", trust.ca.TrustDomain().Name())

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return own.Run(ctx) })
	group.Go(func() error { return trust.follow(ctx, trustPoll, log) })
	group.Go(func() error { return dir.Run(ctx) })
	group.Go(func() error { return server.Run(ctx, nodes) })
	group.Go(func() error { return admin.run(ctx, adminListener) })
	return group.Wait()
}

// ownCertificate is the controller's, signed by its own CA.
func ownCertificate(ca *identity.CA, ttl time.Duration, log *slog.Logger) (*identity.Rotator, error) {
	id, err := identity.ControllerID(ca.TrustDomain())
	if err != nil {
		return nil, err
	}
	renew := func(context.Context) (*tls.Certificate, error) {
		return ca.Issue(identity.Request{ID: id, TTL: ttl})
	}
	first, err := renew(context.Background())
	if err != nil {
		return nil, err
	}
	r := identity.NewRotator(identity.RotatorConfig{Renew: renew, Log: log})
	r.Set(first)
	return r, nil
}
