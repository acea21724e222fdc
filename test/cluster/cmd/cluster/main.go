// Command cluster runs a real Kubernetes on this machine, for tests: each node is a set of namespaces.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"fairlead.io/fairlead/test/cluster/enter"
	"fairlead.io/fairlead/test/cluster/network"
	"fairlead.io/fairlead/test/cluster/node"
)

func main() {
	code, err := start(os.Args)
	if err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// start finds out as what this program was called: it is also the processes that a cluster consists of.
func start(args []string) (int, error) {
	if called, err := node.Main(args); called {
		return 0, err
	}
	if called, err := network.Main(args); called {
		return 0, err
	}
	if called, code, err := enter.Main(args); called {
		return code, err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	err := run(ctx, args[1:], os.Stdout, os.Stderr)
	if errors.Is(err, errUsage) {
		return 2, err
	}
	return 0, err
}

// run runs one command. What it is asked for goes to out, what it does to the log.
func run(ctx context.Context, args []string, out, log io.Writer) error {
	name, args, err := globalName(args)
	if err != nil {
		return err
	}
	if len(args) == 0 {
		return usage(log)
	}
	for _, c := range commands {
		if c.name != args[0] {
			continue
		}
		if os.Geteuid() != 0 {
			return errors.New("root is needed: for namespaces, mounts and cgroups")
		}
		return c.run(env{ctx: ctx, name: name, args: args[1:], out: out, log: log})
	}
	return errors.Join(fmt.Errorf("no command %q", args[0]), usage(log))
}
