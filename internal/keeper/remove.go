package keeper

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Dirs are the directories that keepers of a node use. Run may hold the others.
type Dirs struct{ State, Keys, Run, Proxy string }

// ours are the names that keepers give in each directory. What else lies there is somebody else's, and stays.
func (d Dirs) ours() [][2]string {
	return [][2]string{
		{d.Proxy, "proxy.sock*"}, {d.Proxy, "ready.sock*"}, {d.Keys, "*" + keySuffix}, {d.Keys, ".*" + keySuffix + ".*"},
		{d.Run, "cni.sock*"}, {d.State, podsFile}, {d.State, stateFile}, {d.State, ownerFile}, {d.State, "namespaces"},
		{d.State, "*.damaged-*"}, {d.State, ".pods.json.*"}, {d.State, ".state.*"}, {d.State, "namespaces.*.tmp"},
	}
}

// RemoveState removes what keepers have written in these directories, and the directories if that leaves them empty. No
// keeper may live. A directory that is mounted here cannot be removed from here, and stays, empty.
func RemoveState(d Dirs) error {
	for _, o := range d.ours() {
		found, err := filepath.Glob(filepath.Join(o[0], o[1]))
		if err != nil {
			return err
		}
		for _, path := range found {
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	for _, dir := range d.all() {
		err := unix.Rmdir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("remove %s: %w", dir, err)
		}
	}
	return nil
}

// all are the directories, those that may be in others first.
func (d Dirs) all() []string { return []string{d.Proxy, d.Keys, d.Run, d.State} }

// StateRemains names what is still in these directories.
func StateRemains(d Dirs) (left []string, err error) {
	for _, dir := range d.all() {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("list %s: %w", dir, err)
		}
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			if inner := path == d.Proxy || path == d.Keys; !inner {
				left = append(left, path)
			}
		}
	}
	return left, nil
}
