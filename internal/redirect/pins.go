package redirect

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// The layout on bpffs:
//
//	<BPFFS>/fairlead/<instance>/fl_*               maps
//	<BPFFS>/fairlead/<instance>/link_fl_*          links of the host
//	<BPFFS>/fairlead/<instance>/pod_<cookie>/link_*   links of a pod
//	<BPFFS>/fairlead/_<instance>                   an instance that is being made
const bpffsMagic = 0xcafe4a11

func rootDir(bpffs string) string   { return filepath.Join(bpffs, "fairlead") }
func instanceDir(cfg Config) string { return filepath.Join(rootDir(cfg.BPFFS), pinName(cfg.Instance)) }
func temporaryDir(cfg Config) string {
	return filepath.Join(rootDir(cfg.BPFFS), "_"+pinName(cfg.Instance))
}

// pinName replaces the dots of a node's name, which bpffs reserves.
func pinName(instance string) string { return strings.ReplaceAll(instance, ".", "+") }

func podDir(dir string, c uint64) string { return filepath.Join(dir, "pod_"+strconv.FormatUint(c, 16)) }

// lockInstances keeps two processes from making or removing an instance at once. The lock goes with the process.
func lockInstances(bpffs string) (unlock func(), err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(bpffs, &st); err != nil {
		return nil, fmt.Errorf("find bpffs %s: %w", bpffs, err)
	}
	if st.Type != bpffsMagic {
		return nil, fmt.Errorf("%s: not a bpffs: the host mounts one there (mount -t bpf bpf /sys/fs/bpf), and a container has to see that mount", bpffs)
	}
	if err := os.Mkdir(rootDir(bpffs), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make directory for pins: %w", err)
	}
	fd, err := unix.Open(rootDir(bpffs), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open directory for pins: %w", err)
	}
	for {
		err = unix.Flock(fd, unix.LOCK_EX)
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("lock directory for pins: %w", err)
	}
	return func() { unix.Close(fd) }, nil
}

// pinnedCookies lists the pods that have a directory.
func pinnedCookies(dir string) ([]uint64, error) {
	names, err := filepath.Glob(filepath.Join(dir, "pod_*"))
	if err != nil {
		return nil, fmt.Errorf("list pinned pods: %w", err)
	}
	var cookies []uint64
	for _, name := range names {
		if c, err := strconv.ParseUint(filepath.Base(name)[len("pod_"):], 16, 64); err == nil {
			cookies = append(cookies, c)
		}
	}
	return cookies, nil
}

// upsertLink updates the pinned link, or attaches and pins a new one. The kernel says ENOLINK when what the link was
// attached to (a cgroup, a namespace, a device) has gone and perhaps come again under the same name.
func upsertLink(pin string, prog *ebpf.Program, attach func() (link.Link, error)) error {
	l, err := link.LoadPinnedLink(pin, nil)
	if err == nil {
		defer l.Close()
		err = l.Update(prog)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.ENOLINK) {
			return fmt.Errorf("update: %w", err)
		}
		if err := l.Unpin(); err != nil {
			return fmt.Errorf("unpin: %w", err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("open pin: %w", err)
	}

	l, err = attach()
	if err != nil {
		return err
	}
	defer l.Close() // the pin holds it
	if err := l.Pin(pin); err != nil {
		return fmt.Errorf("pin: %w", err)
	}
	return nil
}

// dropLink detaches and unpins a link, if there is one. Detaching first takes effect at once, where the last reference
// would be put by a worker of the kernel some time later.
func dropLink(pin string) error {
	l, err := link.LoadPinnedLink(pin, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open pin: %w", err)
	}
	defer l.Close()
	if err := l.Detach(); err != nil && !errors.Is(err, unix.ENOLINK) {
		return fmt.Errorf("detach: %w", err)
	}
	if err := l.Unpin(); err != nil {
		return fmt.Errorf("unpin: %w", err)
	}
	return nil
}

// dropCgroupLinkElsewhere drops the link if it is attached to another cgroup than the wanted one.
func dropCgroupLinkElsewhere(pin, path string) error {
	l, err := link.LoadPinnedLink(pin, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open pin: %w", err)
	}
	info, err := l.Info()
	l.Close()
	if err != nil {
		return fmt.Errorf("ask: %w", err)
	}
	want, err := cgroupID(path)
	if err != nil {
		return err
	}
	if cg := info.Cgroup(); cg != nil && cg.CgroupId == want {
		return nil
	}
	return dropLink(pin)
}

// dropPodLinks removes a pod's directory with everything attached by it: the guard before sk_lookup, since a guard
// without capture would cut the pod off.
func dropPodLinks(dir string) error {
	pins, err := filepath.Glob(filepath.Join(dir, "link_*"))
	if err != nil {
		return err
	}
	for _, pin := range pins { // sorted: link_guard_* comes before link_sk_lookup
		if err := dropLink(pin); err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(pin), err)
		}
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
