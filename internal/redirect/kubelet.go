package redirect

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// ErrNoKubelet is returned by FindKubelet if there is no kubelet to be found, or none with a cgroup of its own: then
// its probes have to be told by the node's addresses.
var ErrNoKubelet = errors.New("no kubelet with a cgroup of its own")

// FindKubelet finds the kubelet's own cgroup, for ProbeConfig.Cgroup: that of the process of this name in the host's
// namespaces, if nothing but the kubelet's own children is in it. Any pod may call a process kubelet, but only one with the
// host's namespaces would be taken for it, and of two there is none.
func FindKubelet(cfg Config) (string, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return "", err
	}
	root, err := findCgroup2(cfg.Proc, cfg.Cgroup)
	if err != nil {
		return "", err
	}
	path, err := kubeletCgroup(cfg)
	if err != nil {
		return "", err
	}
	mounts, err := cgroup2Mounts(cfg.Proc)
	if err != nil {
		return "", err
	}
	dir, err := seenAt(mounts, root, path)
	if err != nil {
		return "", err
	}
	if err := checkOwnCgroup(dir); err != nil {
		return "", fmt.Errorf("%w: %w", ErrNoKubelet, err)
	}
	return dir, nil
}

// seenAt maps a cgroup's name, as procfs has it, to where it is mounted, by the mount that root is in.
func seenAt(mounts []cgroup2Mount, root, path string) (string, error) {
	var best *cgroup2Mount
	for i, m := range mounts {
		if (m.point == root || strings.HasPrefix(root, strings.TrimSuffix(m.point, "/")+"/")) && (best == nil || len(m.point) > len(best.point)) {
			best = &mounts[i]
		}
	}
	if best == nil {
		return "", fmt.Errorf("find cgroup2: %s is in no mount: %w", root, fs.ErrNotExist)
	}
	rest, ok := strings.CutPrefix(path, strings.TrimSuffix(best.root, "/"))
	if !ok || rest != "" && rest[0] != '/' || strings.Contains(rest, "/..") {
		return "", fmt.Errorf("%w: its cgroup %s is not below %s", ErrNoKubelet, path, best.point)
	}
	return filepath.Join(best.point, rest), nil
}

// process is what is looked at of a process of the host.
type process struct {
	pid, parent int
	kubelet     bool
}

// kubeletCgroup names the cgroup, as procfs does.
func kubeletCgroup(cfg Config) (string, error) {
	in := map[string][]process{}
	for _, pid := range processIDs(cfg.Proc) {
		dir := filepath.Join(cfg.Proc, strconv.Itoa(pid))
		path, err := cgroup2Of(dir)
		if err != nil {
			continue // it has ended
		}
		in[path] = append(in[path], process{pid, parentOf(dir), isKubelet(cfg, dir)})
	}
	var found []string
	for path, processes := range in {
		if slices.ContainsFunc(processes, func(p process) bool { return p.kubelet }) {
			found = append(found, path)
		}
	}
	switch {
	case len(found) == 0:
		return "", fmt.Errorf("%w: no process of the host is called kubelet", ErrNoKubelet)
	case len(found) > 1:
		return "", fmt.Errorf("%w: several processes of the host are called kubelet, in %s", ErrNoKubelet, strings.Join(found, ", "))
	}
	if stranger := strangerIn(in[found[0]]); stranger != 0 {
		return "", fmt.Errorf("%w: process %d is in %s too", ErrNoKubelet, stranger, found[0])
	}
	return found[0], nil
}

// strangerIn returns a process that is neither a kubelet nor one's descendant, such as a mount helper; 0 if there is none.
func strangerIn(processes []process) int {
	kin := map[int]bool{}
	for again := true; again; {
		again = false
		for _, p := range processes {
			if !kin[p.pid] && (p.kubelet || kin[p.parent]) {
				kin[p.pid], again = true, true
			}
		}
	}
	for _, p := range processes {
		if !kin[p.pid] {
			return p.pid
		}
	}
	return 0
}

func processIDs(proc string) (pids []int) {
	entries, _ := os.ReadDir(proc) // what cannot be listed has no kubelet
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// isKubelet tells whether the process bears the name and lives in the host's own namespaces.
func isKubelet(cfg Config, dir string) bool {
	comm, err := os.ReadFile(filepath.Join(dir, "comm"))
	exe, _ := os.Readlink(filepath.Join(dir, "exe"))
	if err != nil || strings.TrimSpace(string(comm)) != "kubelet" && filepath.Base(strings.TrimSuffix(exe, " (deleted)")) != "kubelet" {
		return false
	}
	if !sameFile(filepath.Join(dir, "ns/pid"), filepath.Join(cfg.Proc, "1/ns/pid")) {
		return false
	}
	net := filepath.Join(dir, "ns/net")
	if cfg.Probe.HostNetNS != nil {
		return cfg.Probe.HostNetNS.isAt(net)
	}
	return sameFile(net, filepath.Join(cfg.Proc, "1/ns/net"))
}

func sameFile(a, b string) bool {
	one, err1 := os.Stat(a)
	two, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(one, two)
}

// cgroup2Of reads the line of cgroup2, "0::/system.slice/kubelet.service".
func cgroup2Of(dir string) (string, error) {
	text, err := os.ReadFile(filepath.Join(dir, "cgroup"))
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if path, ok := strings.CutPrefix(line, "0::"); ok {
			return strings.TrimSuffix(path, "\n"), nil
		}
	}
	return "", fs.ErrNotExist
}

// parentOf reads the fourth field of "pid (name) state parent ...", whose name may hold anything.
func parentOf(dir string) int {
	text, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 2 {
		return 0
	}
	parent, _ := strconv.Atoi(fields[1])
	return parent
}
