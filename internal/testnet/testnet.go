// Package testnet makes clusters without Kubernetes: nodes and pods are network namespaces, wired by libcni and the
// reference plugins as a container runtime does it, and every object is written as YAML as kubelet and the endpoint
// controller would keep it. It is for tests and the demo only, and needs root, no tool and no cluster.
//
// Promises:
//  1. Programs run unmodified: in a pod they see its network, host name, /etc/hosts and /etc/resolv.conf.
//  2. A pod's object is written before its CNI ADD, its addresses after; EndpointSlices, hosts files and the nodes' service
//     rules follow every change before the call that made it returns.
//  3. Every program that was started dies with the process that made the lab; namespaces and mounts live by descriptors
//     only. After a kill -9 of that process an empty cgroup and a directory of files are all that is left.
//  4. After Close nothing is left: no namespace, link, mount, cgroup, process or file.
package testnet

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
)

// Config says what a lab is made of.
type Config struct {
	Nodes int // default 2, at most 50
	// Plugins is the directory of the reference plugins ptp, host-local and loopback (see Build).
	Plugins string
	// CNIPlugin is our plugin's binary. When set, every node's network has it chained after the others.
	CNIPlugin string
	// CNITimeout and SystemNamespaces go into our plugin's configuration; zero values leave its defaults.
	CNITimeout       string
	SystemNamespaces []string
	Log              *slog.Logger // default: discard
}

// Lab is a cluster. Its methods may be called from several goroutines.
type Lab struct {
	cfg     Config
	dir     string
	cgroup  string
	outside *Host
	control *Host
	nodes   []*Node
	procs   processes
	spawner *spawner

	mu    sync.Mutex // protects what follows
	world *world
}

// New makes a lab. What it made so far is gone again when it fails.
func New(cfg Config) (_ *Lab, err error) {
	if cfg.Nodes == 0 {
		cfg.Nodes = 2
	}
	if cfg.Nodes < 1 || cfg.Nodes > 50 {
		return nil, fmt.Errorf("a lab of %d nodes", cfg.Nodes)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	l := &Lab{cfg: cfg, procs: processes{list: make(map[*Process]struct{})}, spawner: newSpawner()}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close())
		}
	}()
	if err := l.directories(); err != nil {
		return nil, err
	}
	l.world = newWorld(l.KubeDir())
	if err := l.network(); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range l.nodes {
		l.world.addNode(n)
	}
	for _, name := range []string{"default", "kube-system", "fairlead-system"} {
		l.world.namespace(name)
	}
	return l, l.syncLocked()
}

// directories makes the lab's own: short, because sockets lie in it, and open to users without privileges.
func (l *Lab) directories() error {
	dir, err := os.MkdirTemp("", "fl")
	if err != nil {
		return err
	}
	l.dir = dir
	root, err := cgroup2Root()
	if err != nil {
		return err
	}
	l.cgroup = filepath.Join(root, "testnet-"+filepath.Base(dir))
	return errors.Join(os.Chmod(dir, 0o755), os.Mkdir(l.cgroup, 0o755), os.Mkdir(l.KubeDir(), 0o755), os.Mkdir(l.LogDir(), 0o755))
}

// network makes the switch, the control plane's host and the nodes, and the routes between them.
func (l *Lab) network() (err error) {
	if l.outside, err = l.newSwitch(); err != nil {
		return fmt.Errorf("make the switch: %w", err)
	}
	if l.control, err = l.newHost("control", 2); err != nil {
		return fmt.Errorf("make the control plane's host: %w", err)
	}
	for i := 1; i <= l.cfg.Nodes; i++ {
		n, err := l.newNode(i)
		if err != nil {
			return fmt.Errorf("make node %d: %w", i, err)
		}
		l.nodes = append(l.nodes, n)
	}
	for _, h := range l.hosts() {
		if err := h.routeToPods(l.nodes); err != nil {
			return fmt.Errorf("routes of %s: %w", h.Name, err)
		}
	}
	return nil
}

func (l *Lab) hosts() []*Host {
	list := []*Host{l.outside, l.control}
	for _, n := range l.nodes {
		list = append(list, &n.Host)
	}
	return list
}

// Dir is the lab's directory.
func (l *Lab) Dir() string { return l.dir }

// KubeDir is where the Kubernetes objects are, a YAML file each.
func (l *Lab) KubeDir() string { return filepath.Join(l.dir, "kube") }

// LogDir is where the logs of processes are.
func (l *Lab) LogDir() string { return filepath.Join(l.dir, "logs") }

// Cgroup is the cgroup2 directory of everything that runs in the lab.
func (l *Lab) Cgroup() string { return l.cgroup }

// Nodes are the nodes, named n1, n2 and so on.
func (l *Lab) Nodes() []*Node { return l.nodes }

// Node is the i-th node, from 0.
func (l *Lab) Node(i int) *Node { return l.nodes[i] }

// Control is a host beside the nodes, for the controller.
func (l *Lab) Control() *Host { return l.control }

// Outside is a host beside the nodes that is in no mesh: the router, and whoever calls from outside.
func (l *Lab) Outside() *Host { return l.outside }

// StartController starts the controller's binary on the control plane's host.
func (l *Lab) StartController(path string, args ...string) (*Process, error) {
	return l.control.StartProduct("controller", Command{Path: path, Args: args})
}

// DumpLogs writes all logs of the lab's programs, for a test that failed.
func (l *Lab) DumpLogs(w io.Writer) error {
	files, err := os.ReadDir(l.LogDir())
	for _, f := range files {
		b, readErr := os.ReadFile(filepath.Join(l.LogDir(), f.Name()))
		_, writeErr := fmt.Fprintf(w, "==> %s\n%s\n", f.Name(), b)
		err = errors.Join(err, readErr, writeErr)
	}
	return err
}

// Close ends every process and removes everything. It may be called twice.
func (l *Lab) Close() error {
	if l.procs.end() {
		l.spawner.close()
	}
	var errs []error
	if l.cgroup != "" {
		errs = append(errs, removeCgroup(l.cgroup))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.world != nil {
		for _, p := range l.world.live {
			errs = append(errs, p.release())
		}
		l.world.live = nil
	}
	for _, n := range l.nodes {
		errs = append(errs, n.close())
	}
	l.nodes = nil
	for _, h := range []*Host{l.control, l.outside} {
		if h != nil {
			errs = append(errs, h.netns.close())
		}
	}
	l.control, l.outside = nil, nil
	if l.dir != "" {
		errs = append(errs, os.RemoveAll(l.dir))
	}
	return errors.Join(errs...)
}

// The lab's addresses. Pods of node N are in 10.244.N.0/24 and fd44:N::/64.
var (
	hostNet4 = netip.MustParsePrefix("172.30.0.0/24")
	hostNet6 = netip.MustParsePrefix("fd30::/64")
)

func hostAddrs(i int) []netip.Addr {
	return []netip.Addr{netip.MustParseAddr(fmt.Sprintf("172.30.0.%d", i)), netip.MustParseAddr(fmt.Sprintf("fd30::%d", i))}
}

func podNets(node int) []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.244.%d.0/24", node)), netip.MustParsePrefix(fmt.Sprintf("fd44:%d::/64", node))}
}
