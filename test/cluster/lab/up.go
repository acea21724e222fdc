package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"fairlead.io/fairlead/test/cluster/config"
	"fairlead.io/fairlead/test/cluster/network"
	"fairlead.io/fairlead/test/cluster/node"
	"fairlead.io/fairlead/test/cluster/proc"
)

// Deadlines of what takes a few seconds on a machine that has nothing else to do.
const (
	startTimeout = 30 * time.Second
	readyTimeout = 3 * time.Minute
)

// Up makes the cluster run, with all of its nodes ready and its DNS available.
func (l *Lab) Up(ctx context.Context) error {
	unlock, err := lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := l.merge(); err != nil {
		return err
	}
	if err := l.bring(ctx); err != nil {
		return fmt.Errorf("%w (down takes away what was started)", err)
	}
	return nil
}

// bring brings everything up, in the order in which one thing needs another.
func (l *Lab) bring(ctx context.Context) error {
	if err := l.writeFiles(); err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	if err := l.startSwitch(ctx); err != nil {
		return err
	}
	for _, n := range l.Cluster.All() {
		if err := l.startNode(ctx, n); err != nil {
			return err
		}
	}
	if err := l.connect(); err != nil {
		return err
	}
	return l.settle(ctx)
}

// merge makes this cluster the one that runs, if one does: with more nodes, if more are asked for.
func (l *Lab) merge() error {
	running, err := Open(l.Cluster.Name, l.out)
	if errors.Is(err, ErrNone) {
		return l.save()
	}
	if err != nil {
		return err
	}
	asked := l.Cluster
	if asked.Nodes < running.Cluster.Nodes {
		return fmt.Errorf("%d nodes run and %d are asked for: down first", running.Cluster.Nodes, asked.Nodes)
	}
	asked.Nodes = running.Cluster.Nodes
	if asked != running.Cluster {
		return fmt.Errorf("a cluster runs with %+v, and %+v is asked for: down first", running.Cluster, asked)
	}
	if l.Build != running.Build {
		fmt.Fprintf(l.out, "the cluster keeps what it was started with: %s\n", running.Build)
		l.Build = running.Build
	}
	return l.save()
}

// startSwitch starts the switch; all cables are new then.
func (l *Lab) startSwitch(ctx context.Context) error {
	if _, ok := l.records().Get(switchRecord); ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	listen := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), l.Cluster.Port)
	_, err := network.StartSwitch(ctx, listen, l.Cluster.API(), l.path("switch.log"), func(id proc.ID) error {
		return l.records().Put(switchRecord, id)
	})
	return err
}

// startNode starts a node that does not run. What is left of it from before goes first: the kubelet would wait for each
// pod's cgroup that nobody is in.
func (l *Lab) startNode(ctx context.Context, n config.Node) error {
	if _, ok := l.records().Get(n.Name); ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	spec, err := l.spec(n)
	if err != nil {
		return err
	}
	if err := spec.Cgroup.Kill(); err != nil {
		return err
	}
	if err := spec.Cgroup.Remove(ctx); err != nil {
		return err
	}
	if err := l.installCNI(n, spec.Disk); err != nil {
		return fmt.Errorf("install the network of %s: %w", n.Name, err)
	}
	l.started[n.Name] = time.Now()
	_, err = node.Start(ctx, spec, func(id proc.ID) error { return l.records().Put(n.Name, id) })
	return err
}

// installCNI puts plugins and network configuration on a node's disk, once: what others add to it stays.
func (l *Lab) installCNI(n config.Node, disk string) error {
	name, content, err := l.Cluster.CNIConfig(n)
	if err != nil {
		return err
	}
	target := filepath.Join(disk, "etc/cni/net.d", name)
	if _, err := os.Stat(target); err == nil {
		return nil
	}
	plugins := filepath.Join(disk, "opt/cni/bin")
	if err := os.RemoveAll(plugins); err != nil { // half copied
		return err
	}
	if err := errors.Join(os.MkdirAll(filepath.Dir(target), 0o755), os.MkdirAll(filepath.Dir(plugins), 0o755)); err != nil {
		return err
	}
	if err := os.CopyFS(plugins, os.DirFS(filepath.Join(l.Build, "plugins"))); err != nil {
		return err
	}
	return os.WriteFile(target, content, 0o644)
}

// connect cables the nodes to the switch and sets the routes.
func (l *Lab) connect() error {
	spaces := make(map[string]*network.Space)
	defer func() {
		for _, s := range spaces {
			_ = s.Close()
		}
	}()
	nodes := l.Cluster.All()
	for _, name := range append([]string{switchRecord}, names(nodes)...) {
		id, ok := l.records().Get(name)
		if !ok {
			if name == switchRecord {
				return errors.New("the switch has ended")
			}
			continue // a node that was stopped gets its cable when it is started
		}
		space, err := network.Open(id.PID)
		if err != nil {
			return err
		}
		spaces[name] = space
	}
	if err := spaces[switchRecord].MakeBridge(l.Cluster.Switch()...); err != nil {
		return fmt.Errorf("set up the switch: %w", err)
	}
	for _, n := range nodes {
		if spaces[n.Name] == nil {
			continue
		}
		if err := l.connectNode(spaces, n); err != nil {
			return fmt.Errorf("connect node %s: %w", n.Name, err)
		}
	}
	return nil
}

// connectNode sets the routes of one node, and those of the switch to it.
func (l *Lab) connectNode(spaces map[string]*network.Space, n config.Node) error {
	hub, own := spaces[switchRecord], spaces[n.Name]
	if err := hub.Cable(own, n.Name, n.Addresses...); err != nil {
		return err
	}
	for family, everything := range l.Cluster.Everything() {
		if err := own.Route(everything, l.Cluster.Switch()[family].Addr()); err != nil {
			return err
		}
		for _, other := range l.Cluster.All() {
			if other.Name == n.Name {
				continue
			}
			if err := own.Route(other.Pods[family], other.Addresses[family].Addr()); err != nil {
				return err
			}
		}
		if err := hub.Route(n.Pods[family], n.Addresses[family].Addr()); err != nil {
			return err
		}
		if l.Cluster.IsControlPlane(n) { // any node would do
			if err := hub.Route(l.Cluster.Services()[family], n.Addresses[family].Addr()); err != nil {
				return err
			}
		}
	}
	return nil
}

func names(nodes []config.Node) []string {
	var all []string
	for _, n := range nodes {
		all = append(all, n.Name)
	}
	return all
}
