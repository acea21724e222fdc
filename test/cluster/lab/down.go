package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"fairlead.io/fairlead/test/cluster/config"
	"fairlead.io/fairlead/test/cluster/network"
)

// endTimeout bounds the end of all processes of a cluster and the removal of what they leave.
const endTimeout = time.Minute

// Down ends the cluster of that name and removes what is left of it, in whatever state it is. One that is not there is well.
func Down(ctx context.Context, name string, out io.Writer) error {
	c := config.Cluster{Name: name, Nodes: 1, KubeProxy: "nftables", Port: 1} // all but the name is of no matter
	l, err := New(c, "", out)
	if err != nil {
		return err
	}
	unlock, err := lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	ctx, cancel := context.WithTimeout(ctx, endTimeout)
	defer cancel()
	spaces, err := l.end(ctx)
	if err != nil {
		return fmt.Errorf("end the processes: %w", err)
	}
	if err := l.removeCgroups(ctx); err != nil {
		return err
	}
	if mounts := mountsBelow(l.dir); len(mounts) > 0 { // never seen; removing files through one would be worse than staying
		return fmt.Errorf("mounts are left: %s", strings.Join(mounts, ", "))
	}
	if err := os.RemoveAll(l.dir); err != nil {
		return fmt.Errorf("remove the run directory: %w", err)
	}
	return l.left(spaces)
}

// end ends every process that was recorded. It returns the network namespaces that they were in.
func (l *Lab) end(ctx context.Context) (spaces []string, err error) {
	all, err := l.records().All()
	if err != nil {
		return nil, err
	}
	own, err := network.Inode(os.Getpid())
	if err != nil {
		return nil, err
	}
	for _, id := range all {
		if space, err := network.Inode(id.PID); err == nil && id.Alive() && space != own {
			spaces = append(spaces, space)
		}
	}
	var mu sync.Mutex
	var errs []error
	var kills sync.WaitGroup
	for name, id := range all {
		kills.Go(func() {
			if err := id.Kill(ctx); err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, fmt.Errorf("%s: %w", name, err))
			}
		})
	}
	kills.Wait()
	return spaces, errors.Join(errs...)
}

func (l *Lab) removeCgroups(ctx context.Context) error {
	tree, err := l.cgroup()
	if err != nil {
		return err
	}
	if err := tree.Kill(); err != nil {
		return err
	}
	if err := tree.Remove(ctx); err != nil {
		return err
	}
	tree.RemoveParent()
	return nil
}

// left is an error that names what is still there. What the kernel takes apart later gets a moment.
func (l *Lab) left(spaces []string) error {
	return wait(context.Background(), "the machine to be as before", "none", 10*time.Second, func(context.Context) error {
		var left []string
		tree, err := l.cgroup()
		if err != nil {
			return err
		}
		left = append(left, tree.Left()...)
		left = append(left, mountsBelow(l.dir)...)
		inside, err := processesIn(spaces)
		if err != nil {
			return err
		}
		left = append(left, inside...)
		if _, err := os.Lstat(l.dir); !errors.Is(err, fs.ErrNotExist) {
			left = append(left, l.dir)
		}
		if len(left) > 0 {
			return fmt.Errorf("left: %s", strings.Join(left, ", "))
		}
		return nil
	})
}

// mountsBelow are those of this machine: the nodes' are in namespaces of theirs, and go with them.
func mountsBelow(dir string) []string {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return []string{err.Error()}
	}
	var mounts []string
	for line := range strings.Lines(string(b)) {
		if fields := strings.Fields(line); len(fields) > 4 && strings.HasPrefix(fields[4]+"/", dir+"/") {
			mounts = append(mounts, fields[4])
		}
	}
	return mounts
}

// processesIn are those in any of the network namespaces.
func processesIn(spaces []string) ([]string, error) {
	links, err := filepath.Glob("/proc/[0-9]*/ns/net")
	if err != nil || len(spaces) == 0 {
		return nil, err
	}
	var inside []string
	for _, link := range links {
		if space, err := os.Readlink(link); err == nil && slices.Contains(spaces, space) {
			inside = append(inside, "process "+strings.Split(link, "/")[2])
		}
	}
	return inside, nil
}

// Stop ends a node as a loss of power would. Its disk stays.
func (l *Lab) Stop(ctx context.Context, name string) error {
	n, err := l.node(name)
	if err != nil {
		return err
	}
	unlock, err := lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	ctx, cancel := context.WithTimeout(ctx, endTimeout)
	defer cancel()
	if id, ok := l.records().Get(n.Name); ok {
		if err := id.Kill(ctx); err != nil {
			return err
		}
	}
	spec, err := l.spec(n)
	if err != nil {
		return err
	}
	if err := spec.Cgroup.Kill(); err != nil {
		return err
	}
	return spec.Cgroup.Remove(ctx)
}

// Start starts a node that was stopped, and waits until it is ready.
func (l *Lab) Start(ctx context.Context, name string) error {
	n, err := l.node(name)
	if err != nil {
		return err
	}
	unlock, err := lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := l.startNode(ctx, n); err != nil {
		return err
	}
	if err := l.connect(); err != nil {
		return err
	}
	return l.settle(ctx)
}
