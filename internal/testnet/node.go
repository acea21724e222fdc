package testnet

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ProxyUID is the user that StartProxy starts programs as.
const ProxyUID = 65532

// pluginType is our plugin's name in network configurations, and of its binary.
const pluginType = "fairlead-cni"

// Node is a host that runs pods.
type Node struct {
	Host
	PodCIDRs []netip.Prefix
	number   int
	rules    rules
}

func (l *Lab) newNode(number int) (*Node, error) {
	h, err := l.newHost(fmt.Sprintf("n%d", number), 10+number)
	if err != nil {
		return nil, err
	}
	n := &Node{Host: *h, PodCIDRs: podNets(number), number: number}
	if err := n.prepare(); err != nil {
		return nil, errors.Join(err, n.close())
	}
	return n, nil
}

func (n *Node) prepare() error {
	for _, dir := range []string{n.Dir(), n.BinDir(), n.ConfDir(), n.RunDir(), n.StateDir(), n.NetNSDir(), n.BPFFS(), n.KeysDir(), n.path("cni-cache"), n.path("ipam")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	mounts, err := newMountNS(func() error {
		if err := unix.Mount("bpf", n.BPFFS(), "bpf", 0, ""); err != nil {
			return fmt.Errorf("mount bpffs: %w", err)
		}
		if err := unix.Mount("tmpfs", n.KeysDir(), "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "size=16m,mode=0700"); err != nil {
			return fmt.Errorf("mount tmpfs: %w", err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	n.mounts = mounts
	if err := n.installPlugins(); err != nil {
		return err
	}
	return n.writeConf()
}

// installPlugins links the plugins' binaries where the node's runtime looks for them.
func (n *Node) installPlugins() error {
	binaries := map[string]string{}
	for _, name := range []string{"ptp", "host-local", "loopback"} {
		binaries[name] = filepath.Join(n.lab.cfg.Plugins, name)
	}
	if n.lab.cfg.CNIPlugin != "" {
		binaries[pluginType] = n.lab.cfg.CNIPlugin
	}
	for name, source := range binaries {
		abs, err := filepath.Abs(source)
		if err != nil {
			return err
		}
		if _, err := os.Stat(abs); err != nil {
			return fmt.Errorf("cni plugin %s: %w", name, err)
		}
		if err := os.Symlink(abs, filepath.Join(n.BinDir(), name)); err != nil {
			return err
		}
	}
	return nil
}

// writeConf writes the node's network as a cluster's CNI plugin would, with ours last when the lab has it.
func (n *Node) writeConf() error {
	type object = map[string]any
	var ranges []any
	for _, cidr := range n.PodCIDRs {
		ranges = append(ranges, []any{object{"subnet": cidr.String()}})
	}
	plugins := []any{object{"type": "ptp", "mtu": 1500, "ipam": object{"type": "host-local", "dataDir": n.path("ipam"), "ranges": ranges,
		"routes": []any{object{"dst": "0.0.0.0/0"}, object{"dst": "::/0"}}}}}
	if n.lab.cfg.CNIPlugin != "" {
		plugins = append(plugins, n.PluginEntry())
	}
	b, err := json.MarshalIndent(object{"cniVersion": "1.1.0", "name": "lab", "plugins": plugins}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(n.ConfDir(), "10-lab.conflist"), b, 0o644)
}

// PluginEntry is our plugin's entry in the node's network configuration.
func (n *Node) PluginEntry() map[string]any {
	entry := map[string]any{"type": pluginType, "socket": n.CNISocket(), "stateDir": n.StateDir()}
	if n.lab.cfg.CNITimeout != "" {
		entry["timeout"] = n.lab.cfg.CNITimeout
	}
	if n.lab.cfg.SystemNamespaces != nil {
		entry["systemNamespaces"] = n.lab.cfg.SystemNamespaces
	}
	return entry
}

func (n *Node) path(name string) string { return filepath.Join(n.Dir(), name) }

// Dir is the node's directory; the following are in it.
func (n *Node) Dir() string { return filepath.Join(n.lab.dir, n.Name) }

// BinDir and ConfDir are /opt/cni/bin and /etc/cni/net.d.
func (n *Node) BinDir() string { return n.path("bin") }

// ConfDir is where the runtime finds the network configuration.
func (n *Node) ConfDir() string { return n.path("net.d") }

// RunDir is /run/fairlead: the sockets of the keeper.
func (n *Node) RunDir() string { return n.path("run") }

// CNISocket is where our plugin finds the keeper.
func (n *Node) CNISocket() string { return filepath.Join(n.RunDir(), "cni.sock") }

// StateDir is the keeper's state directory.
func (n *Node) StateDir() string { return n.path("state") }

// NetNSDir is /run/netns: a symbolic link for each pod's network namespace, under the name that CNI_NETNS bears.
func (n *Node) NetNSDir() string { return n.path("netns") }

// BPFFS is a bpffs of the node's own. It is mounted for programs on the node only, not for the caller.
func (n *Node) BPFFS() string { return n.path("bpf") }

// KeysDir is a tmpfs of the node's own, for the keeper's keys; mounted as BPFFS is.
func (n *Node) KeysDir() string { return n.path("keys") }

// Cgroup is the node's cgroup2 directory: its root, as far as programs on it are concerned.
func (n *Node) Cgroup() string { return n.cgroup }

// KubeletCgroup is where to run what stands for the kubelet: Command.Cgroup.
const KubeletCgroup = "kubelet"

// StartKeeper starts the keeper's binary as root, with the node's network and bpffs.
func (n *Node) StartKeeper(path string, args ...string) (*Process, error) {
	return n.StartProduct("keeper", Command{Path: path, Args: args, Cgroup: "keeper"})
}

// StartProxy starts the proxy's binary without root, capabilities and the way back to them.
func (n *Node) StartProxy(path string, args ...string) (*Process, error) {
	path, err := n.lab.publish(path)
	if err != nil {
		return nil, err
	}
	return n.StartProduct("proxy", Command{Path: path, Args: args, Cgroup: "proxy", UID: ProxyUID, GID: ProxyUID, Drop: true})
}

func (n *Node) close() error {
	errs := []error{n.netns.close()}
	if n.mounts != nil {
		errs = append(errs, n.mounts.Close())
	}
	return errors.Join(errs...)
}

// podGateway is the address that the node has on its pods' side.
func (n *Node) podGateway(family int) netip.Addr {
	for _, cidr := range n.PodCIDRs {
		if cidr.Addr().Is4() == (family == 4) {
			return cidr.Addr().Next()
		}
	}
	return netip.Addr{}
}
