package testnet

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// cgroup2Root finds where the unified hierarchy is mounted: /sys/fs/cgroup, or elsewhere on hybrid systems.
func cgroup2Root() (string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		if fields := strings.Fields(before); ok && strings.HasPrefix(after, "cgroup2 ") && len(fields) > 4 {
			return fields[4], nil
		}
	}
	return "", errors.Join(errors.New("no cgroup2 is mounted"), lines.Err())
}

// openCgroup opens the directory, and makes it if need be.
func openCgroup(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make cgroup: %w", err)
	}
	return os.Open(dir)
}

// removeCgroup kills what is left in the tree, waits until it is empty, and removes it.
func removeCgroup(root string) error {
	if _, err := os.Stat(root); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := os.WriteFile(filepath.Join(root, "cgroup.kill"), []byte("1"), 0); err != nil {
		return fmt.Errorf("end what is left in the cgroup: %w", err)
	}
	var dirs []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("list cgroups: %w", err)
	}
	slices.Reverse(dirs) // children first
	deadline := time.Now().Add(10 * time.Second)
	for _, dir := range dirs {
		for err = os.Remove(dir); err != nil && time.Now().Before(deadline); err = os.Remove(dir) {
			<-time.After(5 * time.Millisecond) // the killed are still on their way out
		}
		if err != nil {
			return fmt.Errorf("remove cgroup: %w", err)
		}
	}
	return nil
}
