package main

import (
	"context"
	"io"
	"log/slog"

	"golang.org/x/sync/errgroup"

	"fairlead.io/fairlead/internal/compile"
	"fairlead.io/fairlead/internal/identity"
)

func run(ctx context.Context, args []string, stderr io.Writer) error {
	if len(args) > 0 && args[0] == "uninstall" {
		return uninstall(ctx, args[1:], stderr)
	}
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	td, err := identity.ParseTrustDomain(o.trustDomain)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewJSONHandler(stderr, &slog.HandlerOptions{Level: o.logLevel}))
	if o.source == fromKubernetes {
		return runKubernetes(ctx, o, td, log)
	}
	return runDir(ctx, o, td, log)
}

// runDir serves what a directory says.
func runDir(ctx context.Context, o *options, td identity.TrustDomain, log *slog.Logger) error {
	trust, err := openTrust(ctx, td, newFiles(o, td), log)
	if err != nil {
		return err
	}
	if trust.tokens, err = openTokens(o.tokens); err != nil {
		return err
	}
	world := compile.NewWorld(compile.Config{SystemNamespaces: o.systemNamespaces(), DefaultPolicy: o.policy})
	dir := compile.NewDir(compile.DirConfig{Path: o.dir(), World: world, Log: log})
	if err := dir.Load(); err != nil { // before anybody is told a half-empty world
		return err
	}
	serving, err := newServing(o, world, trust, trust.tokens.Node, log)
	if err != nil {
		return err
	}

	nodes, err := listen(o.listen, "nodes")
	if err != nil {
		return err
	}
	defer nodes.Close()
	adminListener, err := listen(o.admin, "admin")
	if err != nil {
		return err
	}
	defer adminListener.Close()
	admin := newAdmin()
	admin.awaits, admin.ignored = dir.Pending, dir.Ignored
	admin.serve(serving, dir.Problems)
	log.Info("controller started", "nodes", nodes.Addr().String(), "admin", adminListener.Addr().String(), "trustDomain", td.Name())

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return dir.Run(ctx) })
	group.Go(func() error { return serving.run(ctx, nodes) })
	group.Go(func() error { return admin.run(ctx, adminListener) })
	return group.Wait()
}
