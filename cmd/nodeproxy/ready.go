package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// The keeper and cleanup have no TCP port. A probe of the kubelet, which runs a command in their container, asks them over a
// unix socket whether they are ready: they say "ready", or what they wait for, and close.

const (
	readyWord    = "ready"
	readyTimeout = 2 * time.Second
	readyMax     = 4096
)

// readySocket is where the keeper answers: in the directory that it shares with its own proxy alone.
func readySocket(proxyDir string) string { return filepath.Join(proxyDir, "ready.sock") }

// serveReady answers until ctx ends. What lies at the path is replaced in one step.
func serveReady(ctx context.Context, path string, log *slog.Logger, pending func() []string) error {
	aside := path + ".new"
	if err := os.Remove(aside); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove old ready socket: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: aside})
	if err != nil {
		return fmt.Errorf("listen for probes: %w", err)
	}
	defer l.Close()
	l.SetUnlinkOnClose(false) // by then it may be another's
	if err := errors.Join(os.Chmod(aside, 0o600), os.Rename(aside, path)); err != nil {
		return errors.Join(fmt.Errorf("put ready socket into place: %w", err), os.Remove(aside))
	}
	defer context.AfterFunc(ctx, func() { l.Close() })()
	for {
		c, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			log.Warn("probe not answered", "err", err)
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		answer := readyWord
		if tasks := pending(); len(tasks) > 0 {
			answer = "waiting for " + strings.Join(tasks, ", ")
		}
		_ = c.SetDeadline(time.Now().Add(readyTimeout)) // who asks and does not read gets no answer
		_, _ = io.WriteString(c, answer[:min(len(answer), readyMax)])
		c.Close()
	}
}

// askReady returns nil if the process at the socket says that it is ready.
func askReady(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return fmt.Errorf("not ready: %w", err)
	}
	defer c.Close()
	deadline, _ := ctx.Deadline()
	if err := c.SetDeadline(deadline); err != nil {
		return err
	}
	answer, err := io.ReadAll(io.LimitReader(c, readyMax))
	if err != nil {
		return fmt.Errorf("not ready: %w", err)
	}
	if string(answer) != readyWord {
		return fmt.Errorf("not ready: %s", answer)
	}
	return nil
}

// runKeeperReady is the keeper's readiness probe.
func runKeeperReady(ctx context.Context, args []string) error {
	set := flag.NewFlagSet("nodeproxy keeper-ready", flag.ContinueOnError)
	run := set.String("run", "/run/fairlead", "the keeper's --run")
	proxyDir := set.String("proxy-dir", "", "the keeper's --proxy-dir (default: <run>/proxy)")
	if err := parse(set, args, "run"); err != nil {
		return err
	}
	return askReady(ctx, readySocket(proxyDirOf(*run, *proxyDir)))
}

// runCleanupReady is the readiness probe of cleanup --wait.
func runCleanupReady(ctx context.Context, args []string) error {
	set := flag.NewFlagSet("nodeproxy cleanup-ready", flag.ContinueOnError)
	path := set.String("ready-socket", defaultCleanupSocket, "the --ready-socket of cleanup")
	if err := parse(set, args, "ready-socket"); err != nil {
		return err
	}
	return askReady(ctx, *path)
}

func proxyDirOf(run, proxyDir string) string {
	if proxyDir != "" {
		return proxyDir
	}
	return filepath.Join(run, "proxy")
}
