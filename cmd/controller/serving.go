package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"

	"golang.org/x/sync/errgroup"

	"fairlead.io/fairlead/internal/compile"
	"fairlead.io/fairlead/internal/control"
	"fairlead.io/fairlead/internal/identity"
)

// serving is a controller at work: a world, who may be believed in it, and the server for its nodes. It is the same
// wherever the objects come from.
type serving struct {
	world  *compile.World
	trust  *trust
	own    *identity.Rotator
	server *control.Server
}

// prove tells which node a bearer token stands for.
type prove func(ctx context.Context, token string) (node string, err error)

func newServing(o *options, world *compile.World, t *trust, tokens prove, log *slog.Logger) (*serving, error) {
	own, err := ownCertificate(t.ca, o, log)
	if err != nil {
		return nil, err
	}
	server := control.NewServer(control.Config{
		World: world, CA: t.ca, Bundle: t.bundle, Source: own, Tokens: tokens,
		LeafTTL: o.leafTTL, WarmUp: o.warmUp, Leave: o.leave, Log: log,
	})
	t.rootsChanged, t.issuerChanged = server.RootsChanged, own.Renew
	return &serving{world: world, trust: t, own: own, server: server}, nil
}

// run serves the nodes until the context ends.
func (s *serving) run(ctx context.Context, nodes net.Listener) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.own.Run(ctx) })
	group.Go(func() error { return s.trust.follow(ctx) })
	group.Go(func() error { return s.server.Run(ctx, nodes) })
	return group.Wait()
}

// ownCertificate is the controller's, signed by its own CA.
func ownCertificate(ca *identity.CA, o *options, log *slog.Logger) (*identity.Rotator, error) {
	id, err := identity.ControllerID(ca.TrustDomain())
	if err != nil {
		return nil, err
	}
	renew := func(context.Context) (*tls.Certificate, error) {
		return ca.Issue(identity.Request{ID: id, TTL: o.leafTTL})
	}
	first, err := renew(context.Background())
	if err != nil {
		return nil, err
	}
	r := identity.NewRotator(identity.RotatorConfig{Renew: renew, Log: log})
	r.Set(first)
	return r, nil
}

func listen(addr, whom string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen for %s: %w", whom, err)
	}
	return l, nil
}
