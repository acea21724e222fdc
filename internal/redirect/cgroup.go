package redirect

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// findCgroup2 resolves the configured path: to itself if it is within a cgroup2, else to the cgroup2 that is mounted below
// it, as on a host that has the controllers of version 1 beside it. Without a path it is the first one mounted.
func findCgroup2(proc, path string) (string, error) {
	var st unix.Statfs_t
	if path != "" {
		if err := unix.Statfs(path, &st); err != nil {
			return "", fmt.Errorf("find cgroup2 at %s: %w", path, err)
		}
		if st.Type == unix.CGROUP2_SUPER_MAGIC {
			return path, nil
		}
	}
	mounts, err := cgroup2Mounts(proc)
	if err != nil {
		return "", err
	}
	for _, m := range mounts {
		if path == "" || strings.HasPrefix(m.point, strings.TrimSuffix(path, "/")+"/") {
			return m.point, nil
		}
	}
	if path == "" {
		return "", fmt.Errorf("find cgroup2: not mounted: %w", fs.ErrNotExist)
	}
	return "", fmt.Errorf("find cgroup2: not mounted at or below %s: %w", path, fs.ErrNotExist)
}

// cgroup2Mount is a mount of cgroup2: which cgroup is to be seen where. The cgroup is named as this process's cgroup
// namespace names it.
type cgroup2Mount struct{ root, point string }

// cgroup2Mounts lists those of this process's mount namespace.
func cgroup2Mounts(proc string) (mounts []cgroup2Mount, err error) {
	f, err := os.Open(filepath.Join(proc, "self/mountinfo"))
	if err != nil {
		return nil, fmt.Errorf("find cgroup2: %w", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		// 30 25 0:26 <root> <mount point> rw,relatime shared:4 - cgroup2 cgroup2 rw
		where, what, _ := strings.Cut(lines.Text(), " - ")
		fields := strings.Fields(where)
		if strings.HasPrefix(what, "cgroup2 ") && len(fields) > 4 {
			mounts = append(mounts, cgroup2Mount{fields[3], fields[4]})
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("find cgroup2: %w", err)
	}
	return mounts, nil
}

// cgroupID is the kernel's number of a cgroup, as bpf_get_current_cgroup_id gives it.
func cgroupID(path string) (uint64, error) {
	h, _, err := unix.NameToHandleAt(unix.AT_FDCWD, path, 0)
	if err != nil {
		return 0, fmt.Errorf("id of cgroup %s: %w", path, err)
	}
	if h.Size() < 8 {
		return 0, fmt.Errorf("id of cgroup %s: handle of %d bytes", path, h.Size())
	}
	return binary.NativeEndian.Uint64(h.Bytes()), nil
}

// probeSource returns the kubelet's cgroup and the host's namespace cookie, or zeros if the cgroup is not used.
func probeSource(cfg Config) (kubelet, host uint64, err error) {
	if cfg.Probe.Cgroup == "" {
		return 0, 0, nil
	}
	if err := checkOwnCgroup(cfg.Probe.Cgroup); err != nil {
		return 0, 0, err
	}
	if kubelet, err = cgroupID(cfg.Probe.Cgroup); err != nil {
		return 0, 0, err
	}
	err = withHost(cfg, func(ns *NetNS) error { host = ns.Cookie(); return nil })
	return kubelet, host, err
}

// checkOwnCgroup refuses a cgroup that processes other than the kubelet's live in. The programs compare the cgroup
// exactly, so one below would not be taken for the kubelet; but that it exists shows that the setting is a guess.
func checkOwnCgroup(path string) error {
	if _, err := os.Stat(filepath.Join(path, "cgroup.events")); err != nil { // the root has no such file
		return fmt.Errorf("%s: %w: %w", path, ErrSharedCgroup, err)
	}
	return filepath.WalkDir(path, func(dir string, d fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("list cgroups: %w", err)
		}
		if !d.IsDir() || dir == path {
			return nil
		}
		events, err := os.ReadFile(filepath.Join(dir, "cgroup.events"))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
			return nil // it ended meanwhile
		}
		if err != nil {
			return fmt.Errorf("list cgroups: %w", err)
		}
		if strings.Contains(string(events), "populated 1") {
			return fmt.Errorf("%s: processes in %s: %w", path, filepath.Base(dir), ErrSharedCgroup)
		}
		return nil
	})
}
