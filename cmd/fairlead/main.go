// Fairlead is the command line tool: it installs the mesh, checks it, and shows what passes through it.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"fairlead.io/fairlead/internal/fleet"
)

func main() {
	os.Exit(run())
}

// run is main with an exit status, so that what is deferred happens.
func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return execute(ctx, fleet.Clock{}, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
}
