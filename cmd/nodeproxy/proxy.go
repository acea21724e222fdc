package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"time"

	"fairlead.io/fairlead/internal/node"
)

func runProxy(ctx context.Context, args []string) error {
	var cfg node.Config
	var level slog.Level
	f := flag.NewFlagSet("nodeproxy proxy", flag.ContinueOnError)
	f.StringVar(&cfg.Node, "node", "", "name of this node, as in Kubernetes (required)")
	f.StringVar(&cfg.KeeperSocket, "keeper", "/run/fairlead/proxy/proxy.sock", "the keeper's socket")
	f.StringVar(&cfg.Controller, "controller", "", "the controller's host:port (required)")
	f.StringVar(&cfg.Admin, "admin", ":9901", "address for /readyz, /metrics and /debug; none when empty")
	f.DurationVar(&cfg.Limits.Detect, "detect", 20*time.Millisecond, "how long the first bytes of a connection are waited for before both sides may speak")
	f.Int64Var(&cfg.Limits.Conns, "max-connections", 10000, "connections per pod and direction")
	f.Int64Var(&cfg.Limits.Requests, "max-requests", 10000, "requests in flight per pod and direction")
	f.TextVar(&level, "log-level", slog.LevelInfo, "lowest level that is logged: DEBUG, INFO, WARN or ERROR")
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	if cfg.Node == "" || cfg.Controller == "" {
		return errors.New("--node and --controller are required")
	}
	if os.Geteuid() == 0 {
		return errors.New("the proxy runs as an ordinary user: it parses bytes from the network")
	}
	cfg.Log = slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	return node.Run(ctx, cfg)
}
