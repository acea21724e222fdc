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

// cgroup2Root finds where cgroup2 is mounted.
func cgroup2Root(proc string) (string, error) {
	f, err := os.Open(filepath.Join(proc, "self/mounts"))
	if err != nil {
		return "", fmt.Errorf("find cgroup2: %w", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if fields := strings.Fields(lines.Text()); len(fields) > 2 && fields[2] == "cgroup2" {
			return fields[1], nil
		}
	}
	return "", fmt.Errorf("find cgroup2: not mounted: %w", errors.Join(lines.Err(), fs.ErrNotExist))
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
	if cfg.Probe.HostNetNS != nil {
		return kubelet, cfg.Probe.HostNetNS.Cookie(), nil
	}
	ns, err := OpenNetNS(filepath.Join(cfg.Proc, "1/ns/net"))
	if err != nil {
		return 0, 0, fmt.Errorf("host's namespace: %w", err)
	}
	return kubelet, ns.Cookie(), ns.Close()
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
