// Package lab runs a Kubernetes cluster on this machine, whose nodes are namespaces.
//
// Promises:
//  1. Up may be called at any time: it makes what is missing, and changes nothing of what runs.
//  2. Every wait has a deadline; its error names what was waited for, and the log that may know why.
//  3. Down needs no more than the run directory, in whatever state Up or a crash left it, and checks that nothing is left:
//     no process, namespace, mount, cgroup or file.
//  4. Of this machine's network only 127.0.0.1 is used, and one port of it.
package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"fairlead.io/fairlead/test/cluster/build"
	"fairlead.io/fairlead/test/cluster/cgroup"
	"fairlead.io/fairlead/test/cluster/config"
	"fairlead.io/fairlead/test/cluster/node"
	"fairlead.io/fairlead/test/cluster/pki"
	"fairlead.io/fairlead/test/cluster/proc"
)

// ErrNone is returned if there is no cluster of that name.
var ErrNone = errors.New("there is no such cluster: up makes it")

// switchRecord is the switch's name among the records; nodes have their own.
const switchRecord = "switch"

// lockTimeout bounds the wait for another command that changes a cluster.
const lockTimeout = 10 * time.Minute

// Lab is one cluster.
type Lab struct {
	Cluster config.Cluster
	Build   string // the directory of programs and images
	dir     string
	out     io.Writer            // for what is being done
	started map[string]time.Time // the nodes that this command has started
}

// saved is the file of a cluster that runs.
type saved struct {
	Cluster config.Cluster `json:"cluster"`
	Build   string         `json:"build"`
}

func runDir() string { return filepath.Join(build.CacheDir(), "run") }

// New is a cluster that may not run yet.
func New(c config.Cluster, programs string, out io.Writer) (*Lab, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	return &Lab{Cluster: c, Build: programs, dir: filepath.Join(runDir(), c.Name), out: out, started: make(map[string]time.Time)}, nil
}

// Open finds a cluster that runs, or is left over. Returns ErrNone if there is none.
func Open(name string, out io.Writer) (*Lab, error) {
	l := &Lab{Cluster: config.Cluster{Name: name}, dir: filepath.Join(runDir(), name), out: out, started: make(map[string]time.Time)}
	b, err := os.ReadFile(l.path("cluster.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cluster %s: %w", name, ErrNone)
	}
	if err != nil {
		return nil, err
	}
	var s saved
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("read %s: %w", l.path("cluster.json"), err)
	}
	l.Cluster, l.Build = s.Cluster, s.Build
	return l, l.Cluster.Check()
}

func (l *Lab) save() error {
	b, err := json.MarshalIndent(saved{l.Cluster, l.Build}, "", "  ")
	if err != nil {
		return err
	}
	return l.write("cluster.json", b, 0o644)
}

// write writes a file of the run directory, whole or not at all.
func (l *Lab) write(name string, content []byte, mode fs.FileMode) error {
	path := l.path(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	next := path + ".next"
	if err := os.WriteFile(next, content, mode); err != nil {
		return err
	}
	return os.Rename(next, path)
}

func (l *Lab) path(elements ...string) string {
	return filepath.Join(append([]string{l.dir}, elements...)...)
}

func (l *Lab) nodeDir(n config.Node) string { return l.path("nodes", n.Name) }

func (l *Lab) pki() pki.Dir { return pki.Dir(l.path("pki")) }

func (l *Lab) records() proc.Records { return proc.Records(l.path("processes")) }

// Kubeconfig is the administrator's, for use on this machine.
func (l *Lab) Kubeconfig() string { return l.path("kubeconfig") }

// Kubectl and Helm are the clients' binaries.
func (l *Lab) Kubectl() string { return filepath.Join(l.Build, "kubernetes", "kubectl") }

// Helm is Helm's binary.
func (l *Lab) Helm() string { return filepath.Join(l.Build, "helm", "helm") }

// cgroup is the cluster's in all hierarchies; the nodes' are in it.
func (l *Lab) cgroup() (cgroup.Tree, error) {
	hierarchies, err := cgroup.Hierarchies()
	return cgroup.Tree{Hierarchies: hierarchies, Path: "fairlead-cluster/" + l.Cluster.Name}, err
}

// node returns the node of that name.
func (l *Lab) node(name string) (config.Node, error) {
	for _, n := range l.Cluster.All() {
		if n.Name == name {
			return n, nil
		}
	}
	return config.Node{}, fmt.Errorf("no node %s: there are n1 to n%d", name, l.Cluster.Nodes)
}

// spec is what the node is made of.
func (l *Lab) spec(n config.Node) (node.Spec, error) {
	tree, err := l.cgroup()
	if err != nil {
		return node.Spec{}, err
	}
	s := node.Spec{Name: n.Name, Root: filepath.Join(l.nodeDir(n), "root"), Disk: filepath.Join(l.nodeDir(n), "disk"),
		Config: filepath.Join(l.nodeDir(n), "config"), Overlay: filepath.Join(l.Build, "packages"), Tools: l.Build,
		Cgroup: tree.Sub(n.Name), Services: l.Cluster.ServicesOf(n)}
	for _, other := range l.Cluster.All() {
		s.Hosts += fmt.Sprintf("%s %s\n", other.Addresses[0].Addr(), other.Name)
	}
	for step, programs := range map[string][]string{
		"kubernetes": config.Programs, "containerd": {"containerd", "containerd-shim-runc-v2", "ctr"}, "runc": {"runc"},
	} {
		for _, program := range programs {
			s.Links = append(s.Links, node.Link{Path: "/usr/local/bin/" + program, Target: filepath.Join(node.ToolsDir, step, program)})
		}
	}
	return s, nil
}

// lock keeps others from changing a cluster, of whatever name, until unlock.
func lock(ctx context.Context) (unlock func(), err error) {
	if err := os.MkdirAll(runDir(), 0o755); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	return build.Lock(ctx, runDir())
}

// wait asks again and again until done has no error, for at most the timeout.
func wait(ctx context.Context, what, log string, timeout time.Duration, done func(context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for last := errors.New("nothing was heard"); ; {
		err := done(limited)
		if err == nil {
			return nil
		}
		if limited.Err() == nil { // else it is but the end of the wait
			last = err
		}
		select {
		case <-limited.Done():
			if ctx.Err() != nil {
				return fmt.Errorf("wait for %s: %w", what, context.Cause(ctx))
			}
			return fmt.Errorf("wait for %s, %s long: %w (log: %s)", what, timeout, last, log)
		case <-tick.C:
		}
	}
}
