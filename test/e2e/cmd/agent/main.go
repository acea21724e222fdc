// Agent is what the tests on a cluster have on each node: a privileged pod in the node's own namespaces, whose commands
// `kubectl exec` runs. It runs the node's programs, captures packets, and says what the product has left or holds.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

var commands = map[string]func(context.Context, []string) (any, error){
	"wait":      wait,
	"node":      node,
	"capture":   captureCommand,
	"leftovers": leftovers,
	"holdings":  holdings,
	"sever":     sever,
	"rewrite":   rewrite,
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "agent:", err)
		os.Exit(1)
	}
}

// run prints what the command returns as JSON.
func run(ctx context.Context, args []string) error {
	if len(args) == 0 || commands[args[0]] == nil {
		return errors.New("wait, node, capture, leftovers, holdings, sever or rewrite")
	}
	out, err := commands[args[0]](ctx, args[1:])
	if err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	if out == nil {
		return nil
	}
	e := json.NewEncoder(os.Stdout)
	e.SetIndent("", " ")
	return e.Encode(out)
}

// wait is the pod's own process.
func wait(ctx context.Context, _ []string) (any, error) {
	<-ctx.Done()
	return nil, nil
}
