// Nodeproxy is Fairlead's program on a node. Its first argument says which of its roles it takes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"sort"
	"strings"
	"syscall"
)

// roles are what nodeproxy can be. A role returns when its context ends.
var roles = map[string]func(ctx context.Context, args []string) error{
	"keeper":        runKeeper,
	"keeper-ready":  runKeeperReady,
	"proxy":         runProxy,
	"cleanup":       runCleanup,
	"cleanup-ready": runCleanupReady,
	"preflight":     runPreflight,
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	err := run(ctx, os.Args[1:])
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "nodeproxy:", err)
		os.Exit(1)
	}
}

// parse parses a role's flags, and names every required one that is empty.
func parse(f *flag.FlagSet, args []string, required ...string) error {
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	var errs []error
	for _, name := range required {
		if f.Lookup(name).Value.String() == "" {
			errs = append(errs, fmt.Errorf("--%s is required", name))
		}
	}
	return errors.Join(errs...)
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 {
		if role, ok := roles[args[0]]; ok {
			return role(ctx, args[1:])
		}
	}
	names := make([]string, 0, len(roles))
	for name := range roles {
		names = append(names, name)
	}
	sort.Strings(names)
	return fmt.Errorf("the first argument is one of: %s; each has --help", strings.Join(names, ", "))
}
