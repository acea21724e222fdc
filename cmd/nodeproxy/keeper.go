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

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"fairlead.io/fairlead/internal/cni/install"
	"fairlead.io/fairlead/internal/identity"
	"fairlead.io/fairlead/internal/keeper"
	"fairlead.io/fairlead/internal/redirect"
)

func runKeeper(ctx context.Context, args []string) (err error) {
	f := newKeeperFlags()
	if err := f.parse(args, "node", "controller", "roots", "token-file", "trust-domain", "state", "keys", "run"); err != nil {
		return err
	}
	if err := preflight(f.without, f.guard); err != nil {
		return err
	}
	log := f.log()
	if !onTmpfs(f.keys) {
		log.Warn("keys directory is not on a tmpfs: private keys reach a disk", "keys", f.keys)
	}
	cfg, err := f.config(log)
	if err != nil {
		return err
	}
	f.kernel.Log = log
	if f.hostNetNS != "" {
		ns, err := redirect.OpenNetNS(f.hostNetNS)
		if err != nil {
			return fmt.Errorf("open --host-netns: %w", err)
		}
		defer func() { err = errors.Join(err, ns.Close()) }()
		f.kernel.Probe.HostNetNS = ns
	}
	f.findHost(log)
	g, ctx := errgroup.WithContext(ctx)
	var current atomic.Pointer[keeper.Keeper]
	g.Go(func() error {
		for {
			err := f.keep(ctx, cfg, &current)
			if !errors.Is(err, keeper.ErrAgain) {
				return err
			}
			log.Info("the other keeper has gone: beginning anew")
		}
	})
	g.Go(func() error {
		return serveReady(ctx, readySocket(filepath.Dir(cfg.ProxySocket)), log, func() []string {
			if k := current.Load(); k != nil {
				return k.Pending()
			}
			return []string{"the keeper"}
		})
	})
	return g.Wait()
}

// keep is one life of the keeper. The socket for probes outlives it.
func (f *keeperFlags) keep(ctx context.Context, cfg keeper.Config, current *atomic.Pointer[keeper.Keeper]) (err error) {
	r, err := redirect.Open(f.kernel)
	if err != nil {
		return fmt.Errorf("open redirect: %w", err)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	cfg.Redirect = keeper.Kernel{R: r, Guard: f.guard}
	k, err := keeper.Open(cfg)
	if err != nil {
		return fmt.Errorf("open keeper: %w", err)
	}
	current.Store(k)
	return k.Run(ctx)
}

// addInstaller has the keeper that decides keep the CNI plugin in place, and tell whether it is there.
func (f *keeperFlags) addInstaller(cfg *keeper.Config) error {
	if f.cni.confDir == "" {
		return nil
	}
	installer, err := f.cni.config(cfg.CNISocket, cfg.StateDir)
	if err != nil {
		return fmt.Errorf("configure the CNI installer: %w", err)
	}
	var chained atomic.Uint64
	installer.Log = cfg.Log
	installer.Told = func(s install.State, err error) {
		chained.Store(0)
		if err == nil && s.Conf != "" {
			chained.Store(1)
		}
	}
	cfg.Beside = func(ctx context.Context) error { return install.Run(ctx, installer) }
	cfg.Gauges = func() map[string]uint64 { return map[string]uint64{"cni_chained": chained.Load()} }
	return nil
}

// config is everything but the kernel's side.
func (f *keeperFlags) config(log *slog.Logger) (keeper.Config, error) {
	cfg := keeper.Config{
		Node: f.node, StateDir: f.state, KeysDir: f.keys, ProxyUID: f.proxyUID, AllowRoot: f.allowRoot, Away: f.away, Linger: f.linger, OthersEvery: f.others,
		Proc: f.kernel.Proc, NetNSDir: f.kernel.NetNSDir, Log: log,
		CNISocket:   filepath.Join(f.runDir, "cni.sock"),
		ProxySocket: filepath.Join(proxyDirOf(f.runDir, f.proxyDir), "proxy.sock"),
		Token:       f.token,
	}
	for _, socket := range []string{cfg.CNISocket, cfg.ProxySocket} {
		if err := os.MkdirAll(filepath.Dir(socket), 0o755); err != nil {
			return cfg, fmt.Errorf("make run directory: %w", err)
		}
	}
	if err := os.Chmod(filepath.Dir(cfg.ProxySocket), 0o755); err != nil { // a pod's volume is open to its other containers
		return cfg, fmt.Errorf("close the proxy's directory to its writing: %w", err)
	}
	td, err := identity.ParseTrustDomain(f.trustDomain)
	if err != nil {
		return cfg, err
	}
	cfg.Roots = func() ([]byte, error) { return os.ReadFile(f.roots) }
	roots, err := cfg.Roots()
	if err != nil {
		return cfg, fmt.Errorf("read roots: %w", err)
	}
	if cfg.Bundle, err = identity.ParseBundle(td, roots); err != nil {
		return cfg, err
	}
	if err := f.addInstaller(&cfg); err != nil {
		return cfg, err
	}
	cfg.Connect, err = keeper.Control(f.controller, cfg)
	return cfg, err
}

// token reads the file anew each time: Kubernetes replaces it.
func (f *keeperFlags) token() (string, error) {
	text, err := os.ReadFile(f.tokenFile)
	if err != nil {
		return "", err
	}
	if token := strings.TrimSpace(string(text)); token != "" {
		return token, nil
	}
	return "", fmt.Errorf("%s is empty", f.tokenFile)
}

// onTmpfs tells whether a directory, or the nearest one above it that exists, is on a tmpfs.
func onTmpfs(dir string) bool {
	var st unix.Statfs_t
	for dir = filepath.Clean(dir); unix.Statfs(dir, &st) != nil && dir != "/" && dir != "."; {
		dir = filepath.Dir(dir)
	}
	return st.Type == unix.TMPFS_MAGIC
}
