package main

import (
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"time"

	"fairlead.io/fairlead/internal/redirect"
)

// keeperFlags are the flags of the keeper; cleanup knows those of the kernel's side and of the directories.
type keeperFlags struct {
	set *flag.FlagSet

	node, controller, roots, tokenFile, trustDomain string
	state, keys, runDir, proxyDir, hostNetNS        string
	proxyUID                                        int
	allowRoot, guard                                bool
	away, others, linger                            time.Duration
	logLevel                                        slog.Level
	without                                         simulated

	kernel    redirect.Config
	cni       cniFlags
	nodeAddrs addrList
}

// addrList is a flag that may be repeated.
type addrList struct {
	addrs []netip.Addr
	auto  bool
}

func (l *addrList) String() string { return fmt.Sprint(l.addrs) }

// Set adds one or more addresses, parted by commas, or "auto" for all of the host.
func (l *addrList) Set(s string) error {
	for part := range strings.SplitSeq(s, ",") {
		if part == auto {
			l.auto = true
			continue
		}
		a, err := netip.ParseAddr(part)
		if err != nil {
			return err
		}
		l.addrs = append(l.addrs, a)
	}
	return nil
}

func newFlags(role string) *keeperFlags {
	f := &keeperFlags{set: flag.NewFlagSet("nodeproxy "+role, flag.ContinueOnError)}
	f.set.StringVar(&f.kernel.BPFFS, "bpffs", "/sys/fs/bpf", "mount of the BPF file system, where links and maps are pinned")
	f.set.StringVar(&f.kernel.Instance, "instance", "node", "name of this node instance: its directory below <bpffs>/fairlead")
	f.set.StringVar(&f.kernel.Cgroup, "cgroup", "", "a cgroup2, or where one is mounted below: its root gets the connect programs (default: the first one mounted)")
	f.set.StringVar(&f.kernel.Proc, "proc", "/proc", "the host's procfs, with writable sysctls")
	f.cni.add(f.set)
	f.set.StringVar(&f.kernel.NetNSDir, "netns-dir", "/run/netns", "where the container runtime binds network namespaces")
	f.set.TextVar(&f.logLevel, "log-level", slog.LevelInfo, "lowest level that is logged: DEBUG, INFO, WARN or ERROR")
	return f
}

// addDirs adds the flags of the directories that keepers of a node share.
func (f *keeperFlags) addDirs() {
	f.set.StringVar(&f.state, "state", "/var/lib/fairlead", "directory on disk for pods, namespaces and the last good state")
	f.set.StringVar(&f.keys, "keys", "/run/fairlead-keys", "directory on a tmpfs for private keys; made 0700")
	f.set.StringVar(&f.runDir, "run", "/run/fairlead", "directory for cni.sock")
	f.set.StringVar(&f.proxyDir, "proxy-dir", "", "directory for proxy.sock, which the keeper shares with its own proxy alone (default: <run>/proxy)")
}

func newKeeperFlags() *keeperFlags {
	f := newFlags("keeper")
	f.addDirs()
	f.set.StringVar(&f.node, "node", "", "name of this node, as in Kubernetes (required)")
	f.set.StringVar(&f.controller, "controller", "", "the controller's host:port (required)")
	f.set.StringVar(&f.roots, "roots", "", "file with the trust domain's roots in PEM (required)")
	f.set.StringVar(&f.tokenFile, "token-file", "", "file with the bearer token for the first certificate (required)")
	f.set.StringVar(&f.trustDomain, "trust-domain", "cluster.local", "name of the trust domain")
	f.set.IntVar(&f.proxyUID, "proxy-uid", 65532, "uid of the proxy: nobody else is answered on proxy.sock")
	f.set.BoolVar(&f.allowRoot, "allow-root-proxy", false, "answer a proxy of uid 0; for experiments on one machine only")
	f.set.DurationVar(&f.away, "away", 10*time.Second, "how long connections wait for a proxy before new ones are refused")
	f.set.DurationVar(&f.others, "others-every", 30*time.Second, "how often it is looked for programs of others that see every connect()")
	f.set.DurationVar(&f.linger, "linger", 45*time.Second, "how long the keeper stays, after SIGTERM, for a proxy that drains")
	f.set.StringVar(&f.kernel.Probe.Cgroup, "kubelet-cgroup", "", "the kubelet's own cgroup, by which its probes are told, or auto to find it; without it --node-address and the pods' probe ports tell them")
	f.cni.addInstall(f.set)
	f.set.BoolVar(&f.guard, "guard", false, "drop what raw sockets of enrolled pods send to open connections past the mesh (Linux 6.6)")
	f.set.StringVar(&f.hostNetNS, "host-netns", "", "the network namespace that the kubelet probes from (default: <proc>/1/ns/net)")
	f.set.Var(&f.nodeAddrs, "node-address", "an address of this node, from which probes come if there is no --kubelet-cgroup, or auto for all of the host; may be repeated")
	f.set.DurationVar(&f.kernel.Drain, "drain", 30*time.Second, "how long the connections of a pod that leaves may go on")
	f.without.add(f.set)
	return f
}

func (f *keeperFlags) parse(args []string, required ...string) error {
	return parse(f.set, args, required...)
}

func (f *keeperFlags) log() *slog.Logger {
	return slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: f.logLevel}))
}
