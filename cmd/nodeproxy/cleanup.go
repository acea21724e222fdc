package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"fairlead.io/fairlead/internal/cni/install"
	"fairlead.io/fairlead/internal/keeper"
	"fairlead.io/fairlead/internal/redirect"
)

const (
	defaultCleanupSocket = "/tmp/fairlead-cleanup.sock"
	cleanupAgain         = 2 * time.Second
)

// cleanupFlags say what there is to clean up.
type cleanupFlags struct {
	*keeperFlags

	removeState, stay bool
	timeout           time.Duration
	readySocket       string
}

func newCleanupFlags() *cleanupFlags {
	f := &cleanupFlags{keeperFlags: newFlags("cleanup")}
	f.addDirs()
	f.set.BoolVar(&f.removeState, "remove-state", false, "remove what the keeper keeps in --state, --run and --keys too, and the directories if they are empty then")
	f.set.BoolVar(&f.stay, "wait", false, "try again until nothing is left, then stay until SIGTERM; for a pod, whose readiness is asked by cleanup-ready")
	f.set.DurationVar(&f.timeout, "timeout", time.Minute, "how long a keeper that still lives is waited for")
	f.set.StringVar(&f.readySocket, "ready-socket", defaultCleanupSocket, "where cleanup-ready asks, with --wait")
	return f
}

// runCleanup takes back what an instance has on the node, whatever became of its processes.
func runCleanup(ctx context.Context, args []string) error {
	f := newCleanupFlags()
	if err := f.parse(args); err != nil {
		return err
	}
	log := f.log()
	f.kernel.Log = log
	if !f.stay {
		return f.once(ctx)
	}
	return f.untilClean(ctx, log)
}

// untilClean cleans up, then stays.
func (f *cleanupFlags) untilClean(ctx context.Context, log *slog.Logger) error {
	if err := os.MkdirAll(filepath.Dir(f.readySocket), 0o755); err != nil { // an image of our own has no /tmp
		return fmt.Errorf("make directory for probes: %w", err)
	}
	var left atomic.Pointer[string]
	say := func(what string) { left.Store(&what) }
	say("the clean-up")
	served := make(chan error, 1)
	go func() {
		served <- serveReady(ctx, f.readySocket, log, func() []string {
			if what := *left.Load(); what != "" {
				return []string{what}
			}
			return nil
		})
	}()
	for {
		err := f.once(ctx)
		if err == nil {
			say("")
			log.Info("nothing is left on this node")
			return <-served
		}
		if ctx.Err() == nil {
			say(err.Error())
			log.Error("not clean yet", "err", err)
		}
		select {
		case err := <-served:
			return err
		case <-time.After(cleanupAgain):
		}
	}
}

// once cleans up, and names what it leaves.
func (f *cleanupFlags) once(ctx context.Context) error {
	if err := f.awaitKeepers(ctx); err != nil {
		return err
	}
	if f.cni.confDir != "" { // before anything else: from now on no new pod waits for us
		if err := install.Uninstall(f.installed()); err != nil {
			return fmt.Errorf("uninstall the CNI plugin: %w", err)
		}
	}
	if err := redirect.CleanUp(f.kernel); err != nil {
		return fmt.Errorf("clean up instance %s: %w", f.kernel.Instance, err)
	}
	if f.removeState {
		if err := keeper.RemoveState(f.dirs()); err != nil {
			return fmt.Errorf("remove state: %w", err)
		}
	}
	left, err := f.remains()
	if err != nil {
		return fmt.Errorf("look for what is left: %w", err)
	}
	if len(left) > 0 {
		return fmt.Errorf("left on this node: %s", strings.Join(left, "; "))
	}
	return nil
}

// awaitKeepers waits until no keeper lives that would undo the clean-up.
func (f *cleanupFlags) awaitKeepers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	for {
		alive, err := keeper.Alive(f.state)
		if !alive || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.New("a keeper of this node still lives")
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (f *cleanupFlags) installed() install.Config {
	return install.Config{BinDir: f.cni.binDir, ConfDir: f.cni.confDir}
}

func (f *cleanupFlags) dirs() keeper.Dirs {
	return keeper.Dirs{State: f.state, Keys: f.keys, Run: f.runDir, Proxy: proxyDirOf(f.runDir, f.proxyDir)}
}

func (f *cleanupFlags) remains() (left []string, err error) {
	if left, err = redirect.Remains(f.kernel); err != nil {
		return nil, err
	}
	if f.cni.confDir != "" {
		more, err := install.Remains(f.installed())
		if err != nil {
			return nil, err
		}
		left = append(left, more...)
	}
	if f.removeState {
		more, err := keeper.StateRemains(f.dirs())
		if err != nil {
			return nil, err
		}
		left = append(left, more...)
	}
	return left, nil
}
