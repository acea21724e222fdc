package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"fairlead.io/fairlead/internal/cni/install"
	"fairlead.io/fairlead/internal/identity"
	"fairlead.io/fairlead/internal/keeper"
	"fairlead.io/fairlead/internal/redirect"
)

// keeperFlags are the flags of the keeper; cleanup and preflight know those of the kernel's side.
type keeperFlags struct {
	set *flag.FlagSet

	node, controller, roots, tokenFile, trustDomain string
	state, keys, runDir, hostNetNS                  string
	proxyUID                                        int
	allowRoot, guard                                bool
	away, others                                    time.Duration
	logLevel                                        slog.Level

	kernel    redirect.Config
	cni       cniFlags
	nodeAddrs addrList
}

// addrList is a flag that may be repeated.
type addrList []netip.Addr

func (l *addrList) String() string { return fmt.Sprint(*l) }

// Set adds one or more addresses, parted by commas.
func (l *addrList) Set(s string) error {
	for part := range strings.SplitSeq(s, ",") {
		a, err := netip.ParseAddr(part)
		if err != nil {
			return err
		}
		*l = append(*l, a)
	}
	return nil
}

func newFlags(role string) *keeperFlags {
	f := &keeperFlags{set: flag.NewFlagSet("nodeproxy "+role, flag.ContinueOnError)}
	f.set.StringVar(&f.kernel.BPFFS, "bpffs", "/sys/fs/bpf", "mount of the BPF file system, where links and maps are pinned")
	f.set.StringVar(&f.kernel.Instance, "instance", "node", "name of this node instance: its directory below <bpffs>/fairlead")
	f.set.StringVar(&f.kernel.Cgroup, "cgroup", "", "mount of cgroup2, whose root gets the connect programs (default: the first one mounted)")
	f.set.StringVar(&f.kernel.Proc, "proc", "/proc", "the host's procfs, with writable sysctls")
	f.cni.add(f.set)
	f.set.StringVar(&f.kernel.NetNSDir, "netns-dir", "/run/netns", "where the container runtime binds network namespaces")
	f.set.TextVar(&f.logLevel, "log-level", slog.LevelInfo, "lowest level that is logged: DEBUG, INFO, WARN or ERROR")
	return f
}

func newKeeperFlags() *keeperFlags {
	f := newFlags("keeper")
	f.set.StringVar(&f.node, "node", "", "name of this node, as in Kubernetes (required)")
	f.set.StringVar(&f.controller, "controller", "", "the controller's host:port (required)")
	f.set.StringVar(&f.roots, "roots", "", "file with the trust domain's roots in PEM (required)")
	f.set.StringVar(&f.tokenFile, "token-file", "", "file with the bearer token for the first certificate (required)")
	f.set.StringVar(&f.trustDomain, "trust-domain", "cluster.local", "name of the trust domain")
	f.set.StringVar(&f.state, "state", "/var/lib/fairlead", "directory on disk for pods, namespaces and the last good state")
	f.set.StringVar(&f.keys, "keys", "/run/fairlead-keys", "directory on a tmpfs for private keys; made 0700")
	f.set.StringVar(&f.runDir, "run", "/run/fairlead", "directory for cni.sock and proxy/proxy.sock; the proxy needs proxy/ alone")
	f.set.IntVar(&f.proxyUID, "proxy-uid", 65532, "uid of the proxy: nobody else is answered on proxy.sock")
	f.set.BoolVar(&f.allowRoot, "allow-root-proxy", false, "answer a proxy of uid 0; for experiments on one machine only")
	f.set.DurationVar(&f.away, "away", 10*time.Second, "how long connections wait for a proxy before new ones are refused")
	f.set.DurationVar(&f.others, "others-every", 30*time.Second, "how often it is looked for programs of others that see every connect()")
	f.set.StringVar(&f.kernel.Probe.Cgroup, "kubelet-cgroup", "", "the kubelet's own cgroup, by which its probes are told; without it --node-address and the pods' probe ports tell them")
	f.cni.addInstall(f.set)
	f.set.BoolVar(&f.guard, "guard", false, "drop what raw sockets of enrolled pods send to open connections past the mesh (Linux 6.6)")
	f.set.StringVar(&f.hostNetNS, "host-netns", "", "the network namespace that the kubelet probes from, with --kubelet-cgroup (default: <proc>/1/ns/net)")
	f.set.Var(&f.nodeAddrs, "node-address", "an address of this node, from which probes come if there is no --kubelet-cgroup; may be repeated")
	f.set.DurationVar(&f.kernel.Drain, "drain", 30*time.Second, "how long the connections of a pod that leaves may go on")
	return f
}

func (f *keeperFlags) parse(args []string, required ...string) error {
	return parse(f.set, args, required...)
}

func (f *keeperFlags) log() *slog.Logger {
	return slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: f.logLevel}))
}

func runKeeper(ctx context.Context, args []string) (err error) {
	f := newKeeperFlags()
	if err := f.parse(args, "node", "controller", "roots", "token-file", "trust-domain", "state", "keys", "run"); err != nil {
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
	if err := redirect.Preflight(); err != nil {
		return fmt.Errorf("preflight: %w", err)
	}
	if f.guard {
		if err := redirect.PreflightGuard(); err != nil {
			return fmt.Errorf("preflight of -guard: %w", err)
		}
	}
	f.kernel.Probe.NodeAddrs, f.kernel.Log = f.nodeAddrs, log
	if f.hostNetNS != "" {
		ns, err := redirect.OpenNetNS(f.hostNetNS)
		if err != nil {
			return fmt.Errorf("open --host-netns: %w", err)
		}
		defer func() { err = errors.Join(err, ns.Close()) }()
		f.kernel.Probe.HostNetNS = ns
	}
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
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return k.Run(ctx) })
	if f.cni.confDir != "" {
		installer, err := f.cni.config(cfg.CNISocket, cfg.StateDir)
		if err != nil {
			return fmt.Errorf("configure the CNI installer: %w", err)
		}
		installer.Log = log
		g.Go(func() error { return install.Run(ctx, installer) })
	}
	return g.Wait()
}

// config is everything but the kernel's side.
func (f *keeperFlags) config(log *slog.Logger) (keeper.Config, error) {
	cfg := keeper.Config{
		Node: f.node, StateDir: f.state, KeysDir: f.keys, ProxyUID: f.proxyUID, AllowRoot: f.allowRoot, Away: f.away, OthersEvery: f.others,
		Proc: f.kernel.Proc, NetNSDir: f.kernel.NetNSDir, Log: log,
		CNISocket:   filepath.Join(f.runDir, "cni.sock"),
		ProxySocket: filepath.Join(f.runDir, "proxy", "proxy.sock"),
		Token:       f.token,
	}
	if err := os.MkdirAll(filepath.Dir(cfg.ProxySocket), 0o755); err != nil {
		return cfg, fmt.Errorf("make run directory: %w", err)
	}
	td, err := identity.ParseTrustDomain(f.trustDomain)
	if err != nil {
		return cfg, err
	}
	roots, err := os.ReadFile(f.roots)
	if err != nil {
		return cfg, fmt.Errorf("read roots: %w", err)
	}
	if cfg.Bundle, err = identity.ParseBundle(td, roots); err != nil {
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
