package main

import (
	"context"
	"errors"
	"flag"
	"log/slog"
	"os"
	"time"

	"fairlead.io/fairlead/internal/node"
)

// proxyFlags are the flags of the proxy.
type proxyFlags struct {
	set      *flag.FlagSet
	cfg      node.Config
	logLevel slog.Level
}

func newProxyFlags() *proxyFlags {
	f := &proxyFlags{set: flag.NewFlagSet("nodeproxy proxy", flag.ContinueOnError)}
	f.set.StringVar(&f.cfg.Node, "node", "", "name of this node, as in Kubernetes (required)")
	f.set.StringVar(&f.cfg.KeeperSocket, "keeper", "/run/fairlead/proxy/proxy.sock", "the keeper's socket")
	f.set.StringVar(&f.cfg.Controller, "controller", "", "the controller's host:port (required)")
	f.set.StringVar(&f.cfg.Admin, "admin", ":9901", "address for /readyz, /metrics and /debug; none when empty")
	f.set.DurationVar(&f.cfg.Drain, "drain", 30*time.Second, "how long connections may go on after SIGTERM; without a successor 5s at most")
	f.set.DurationVar(&f.cfg.Limits.Detect, "detect", 20*time.Millisecond, "how long the first bytes of a connection are waited for before both sides may speak")
	f.set.Int64Var(&f.cfg.Limits.Conns, "max-connections", 10000, "connections per pod and direction")
	f.set.Int64Var(&f.cfg.Limits.Requests, "max-requests", 10000, "requests in flight per pod and direction")
	f.set.Int64Var(&f.cfg.Limits.Buffered, "max-buffered", 64<<20, "bytes that the connections of a pod may make the proxy keep, per direction: what peers do not read, and bodies that wait")
	f.set.IntVar(&f.cfg.Limits.Shakes, "max-handshakes", 1000, "handshakes that a pod answers in a second; twice as many at once")
	f.set.TextVar(&f.cfg.MapBackends, "map-backends", node.MapAuto, "when the address of a Service's endpoint is taken for the Service: auto (while another program sees every connect()), on or off")
	f.set.TextVar(&f.logLevel, "log-level", slog.LevelInfo, "lowest level that is logged: DEBUG, INFO, WARN or ERROR")
	return f
}

func runProxy(ctx context.Context, args []string) error {
	f := newProxyFlags()
	if err := parse(f.set, args, "node", "keeper", "controller"); err != nil {
		return err
	}
	if err := ordinaryUser(os.Geteuid()); err != nil {
		return err
	}
	f.cfg.Log = slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: f.logLevel}))
	return node.Run(ctx, f.cfg)
}

func ordinaryUser(uid int) error {
	if uid == 0 {
		return errors.New("the proxy runs as an ordinary user: it parses bytes from the network")
	}
	return nil
}
