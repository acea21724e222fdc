package node

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"

	"fairlead.io/fairlead/test/cluster/proc"
)

// initMain is process 1 of a node, in all its namespaces.
func initMain(args []string) error {
	spec, err := read(args)
	if err == nil {
		err = spec.boot()
	}
	proc.Child{}.Ready(err)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	return newSupervisor(spec, log).Run(ctx)
}

// boot makes of the namespaces a machine. They are the whole process's, so it is no matter which thread does it.
func (s Spec) boot() error {
	if err := s.makeRoot(); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(s.Name)); err != nil {
		return fmt.Errorf("set the host name: %w", err)
	}
	if err := setSysctls(); err != nil {
		return err
	}
	// On cgroup2 alone a cgroup with controllers for its children has no processes.
	own := s.inside()
	if err := own.Sub("init.scope").Join(); err != nil {
		return err
	}
	own.EnableControllers()
	return nil
}
