package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"fairlead.io/fairlead/test/cluster/cgroup"
)

// makeRoot builds the node's file system below Spec.Root, in the calling process's mount namespace, and makes it the root.
func (s Spec) makeRoot() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	root, err := s.overlay()
	if err != nil {
		return err
	}
	if err := mountAll(root, systemMounts); err != nil {
		return err
	}
	if err := s.mountCgroups(root); err != nil {
		return err
	}
	if err := s.bindAll(root); err != nil {
		return err
	}
	if err := s.writeEtc(root); err != nil {
		return err
	}
	if err := hideSysctls(root); err != nil {
		return err
	}
	return pivot(root)
}

// overlay lays the node's own files over this machine's root. Changes are kept in memory.
func (s Spec) overlay() (string, error) {
	if err := unix.Mount("tmpfs", s.Root, "tmpfs", 0, "size=1g,mode=755"); err != nil {
		return "", fmt.Errorf("mount tmpfs on %s: %w", s.Root, err)
	}
	upper, work, root := filepath.Join(s.Root, "upper"), filepath.Join(s.Root, "work"), filepath.Join(s.Root, "root")
	if err := errors.Join(os.Mkdir(work, 0o755), os.Mkdir(root, 0o755)); err != nil {
		return "", err
	}
	if err := os.CopyFS(upper, os.DirFS(s.Overlay)); err != nil {
		return "", fmt.Errorf("copy the packages: %w", err)
	}
	options := fmt.Sprintf("lowerdir=/,upperdir=%s,workdir=%s", upper, work)
	if err := unix.Mount("overlay", root, "overlay", 0, options); err != nil {
		return "", fmt.Errorf("mount overlay (%s): %w", options, err)
	}
	return root, nil
}

type mount struct {
	source, target, kind string
	flags                uintptr
	data                 string
}

// systemMounts are in every node, in this order.
var systemMounts = []mount{
	{"proc", "/proc", "proc", 0, ""},
	{"sysfs", "/sys", "sysfs", 0, ""},
	{"/dev", "/dev", "", unix.MS_BIND | unix.MS_REC, ""},
	{"", "/dev", "", unix.MS_REC | unix.MS_PRIVATE, ""},
	{"tmpfs", "/run", "tmpfs", 0, "mode=755"},
	{"tmpfs", "/tmp", "tmpfs", 0, "mode=1777"},
	{"bpf", "/sys/fs/bpf", "bpf", 0, ""},
	// The kernel lets a user namespace mount a proc only if a whole one is seen: for pods with hostUsers: false.
	{"proc", "/run/proc", "proc", 0, ""},
}

func mountAll(root string, mounts []mount) error {
	for _, m := range mounts {
		if m.kind != "" || m.source != "" {
			_ = os.MkdirAll(filepath.Join(root, m.target), 0o755) // where it cannot be made it is there, or the mount says so
		}
		if err := unix.Mount(m.source, filepath.Join(root, m.target), m.kind, m.flags, m.data); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	return nil
}

// mountCgroups mounts the hierarchies as the node's cgroup namespace shows them: its own cgroup as their root.
func (s Spec) mountCgroups(root string) error {
	var mounts []mount
	if !cgroup.Unified(s.Cgroup.Hierarchies) {
		mounts = append(mounts, mount{"tmpfs", cgroup.Root, "tmpfs", 0, "mode=755"})
	}
	for _, h := range s.Cgroup.Hierarchies {
		kind := "cgroup"
		if h.V2 {
			kind = "cgroup2"
		}
		mounts = append(mounts, mount{kind, h.Mount, kind, 0, h.Options})
	}
	if err := mountAll(root, mounts); err != nil {
		return err
	}
	return s.linkControllers(root)
}

// linkControllers makes the links by which a controller is found that shares its hierarchy: cpu -> cpu,cpuacct.
func (s Spec) linkControllers(root string) error {
	for _, h := range s.Cgroup.Hierarchies {
		name := filepath.Base(h.Mount)
		for _, link := range h.Aliases() {
			err := os.Symlink(name, filepath.Join(root, filepath.Dir(h.Mount), link))
			if err != nil && !errors.Is(err, fs.ErrExist) {
				return fmt.Errorf("link cgroup %s: %w", link, err)
			}
		}
	}
	return nil
}

// bindAll binds what comes from this machine's disk.
func (s Spec) bindAll(root string) error {
	var mounts []mount
	for _, dir := range DiskDirs {
		mounts = append(mounts, mount{filepath.Join(s.Disk, dir), dir, "", unix.MS_BIND, ""})
	}
	for source, target := range map[string]string{s.Tools: ToolsDir, s.Config: ConfigDir} {
		mounts = append(mounts, mount{source, target, "", unix.MS_BIND, ""},
			mount{"", target, "", unix.MS_BIND | unix.MS_REMOUNT | unix.MS_RDONLY, ""})
	}
	return mountAll(root, mounts)
}

// pivot makes root the root, and lets go of the old one. Mounts propagate from then on, as systemd has it: pods that ask
// for HostToContainer or Bidirectional get it.
func pivot(root string) error {
	old := filepath.Join(root, ".old")
	if err := os.Mkdir(old, 0o700); err != nil {
		return err
	}
	if err := unix.PivotRoot(root, old); err != nil {
		return fmt.Errorf("pivot root: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	if err := unix.Unmount("/.old", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("let go of the old root: %w", err)
	}
	if err := os.Remove("/.old"); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("share the mounts: %w", err)
	}
	return nil
}
