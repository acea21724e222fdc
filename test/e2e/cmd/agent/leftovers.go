package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// What the product writes on a node, as its documents say.
const (
	ourTable    = 27905
	ourProtocol = 109
	ourPrefix   = "fl_"
	nodeRoot    = "/proc/1/root"
)

// leftovers lists everything of the product that is on the node; nothing when it is clean.
func leftovers(_ context.Context, args []string) (any, error) {
	if len(args) == 0 {
		return nil, errors.New("which directory has the CNI configuration, and which the plugins?")
	}
	found := []string{}
	add := func(more []string, err error) error {
		found = append(found, more...)
		return err
	}
	err := errors.Join(
		add(leftFiles(args)),
		add(leftInKernel()),
		add(leftInNetworks()),
	)
	return found, err
}

func leftFiles(cni []string) (found []string, err error) {
	for _, path := range []string{"/sys/fs/bpf/fairlead", "/var/lib/fairlead", "/run/fairlead", "/run/fairlead-keys"} {
		if _, err := os.Lstat(nodeRoot + path); !errors.Is(err, fs.ErrNotExist) {
			found = append(found, "file "+path)
		}
	}
	for _, dir := range cni {
		entries, err := os.ReadDir(nodeRoot + dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return found, fmt.Errorf("list CNI directory: %w", err)
		}
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			if strings.Contains(e.Name(), "fairlead") {
				found = append(found, "file "+path)
				continue
			}
			if st, err := e.Info(); err != nil || st.Size() > 1<<20 || !st.Mode().IsRegular() {
				continue // a plugin
			}
			text, err := os.ReadFile(nodeRoot + path)
			if err == nil && strings.Contains(string(text), "fairlead") {
				found = append(found, "entry in "+path)
			}
		}
	}
	return found, nil
}

// leftInKernel looks at what is attached to the node's cgroup2 root.
func leftInKernel() (found []string, err error) {
	root, err := cgroup2()
	if err != nil {
		return nil, err
	}
	dir, err := os.Open(root)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	for _, at := range []ebpf.AttachType{ebpf.AttachCGroupInet4Connect, ebpf.AttachCGroupInet6Connect, ebpf.AttachCGroupSockOps} {
		more, err := ours(int(dir.Fd()), at, "cgroup")
		if err != nil {
			return found, err
		}
		found = append(found, more...)
	}
	return found, nil
}

// ours are the names of the product's programs that are attached to something.
func ours(target int, at ebpf.AttachType, where string) (found []string, err error) {
	result, err := link.QueryPrograms(link.QueryOptions{Target: target, Attach: at})
	if err != nil {
		return nil, fmt.Errorf("query %v of %s: %w", at, where, err)
	}
	for _, p := range result.Programs {
		prog, err := ebpf.NewProgramFromID(p.ID)
		if err != nil {
			continue // detached meanwhile
		}
		info, err := prog.Info()
		if err == nil && strings.HasPrefix(info.Name, ourPrefix) {
			found = append(found, fmt.Sprintf("program %s at %s", info.Name, where))
		}
		prog.Close()
	}
	return found, nil
}

func cgroup2() (string, error) {
	for _, path := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var st unix.Statfs_t
		if unix.Statfs(nodeRoot+path, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
			return nodeRoot + path, nil
		}
	}
	return "", errors.New("the node has no cgroup2")
}

// leftInNetworks looks at rules, routes and sk_lookup programs in every network namespace.
func leftInNetworks() (found []string, err error) {
	namespaces, err := networks()
	if err != nil {
		return nil, err
	}
	defer closeAll(namespaces)
	for _, n := range namespaces {
		more, err := ours(n.fd, ebpf.AttachSkLookup, "network "+n.path)
		if err != nil {
			return found, err
		}
		found = append(found, more...)
		more, err = rulesAndRoutes(n)
		if err != nil {
			return found, err
		}
		found = append(found, more...)
	}
	return found, nil
}

func rulesAndRoutes(n network) (found []string, err error) {
	h, err := netlink.NewHandleAt(nsHandle(n.fd), unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink in %s: %w", n.path, err)
	}
	defer h.Close()
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		rules, err := h.RuleList(family)
		if err != nil {
			return found, fmt.Errorf("list rules in %s: %w", n.path, err)
		}
		for _, r := range rules {
			if r.Table == ourTable || r.Mark == ourTable || r.Protocol == ourProtocol {
				found = append(found, fmt.Sprintf("rule %v in %s", r, n.path))
			}
		}
		routes, err := h.RouteListFiltered(family, &netlink.Route{Table: ourTable}, netlink.RT_FILTER_TABLE)
		if err != nil {
			return found, fmt.Errorf("list routes in %s: %w", n.path, err)
		}
		for _, r := range routes {
			found = append(found, fmt.Sprintf("route %v in %s", r, n.path))
		}
	}
	return found, nil
}
