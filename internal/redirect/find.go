package redirect

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// findNetNS finds living namespaces by their cookies, first under the runtime's directory, then by every process's. What
// is not in the answer has gone. The caller closes what it is given.
func findNetNS(cfg Config, cookies map[uint64]bool) (map[uint64]*NetNS, error) {
	found := map[uint64]*NetNS{}
	if len(cookies) == 0 {
		return found, nil
	}
	paths, err := namespacePaths(cfg)
	if err != nil {
		return nil, err
	}
	seen := map[[2]uint64]bool{}
	for _, path := range paths {
		var st unix.Stat_t
		if unix.Stat(path, &st) != nil || seen[[2]uint64{st.Dev, st.Ino}] {
			continue // a process that ended, or one more in the same namespace
		}
		seen[[2]uint64{st.Dev, st.Ino}] = true
		ns, err := OpenNetNS(path)
		if err != nil {
			continue // not a namespace, or no longer
		}
		if !cookies[ns.Cookie()] {
			ns.Close()
			continue
		}
		found[ns.Cookie()] = ns
		if len(found) == len(cookies) {
			break
		}
	}
	return found, nil
}

func namespacePaths(cfg Config) ([]string, error) {
	var paths []string
	entries, err := os.ReadDir(cfg.NetNSDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list namespaces: %w", err)
	}
	for _, e := range entries {
		paths = append(paths, filepath.Join(cfg.NetNSDir, e.Name()))
	}
	entries, err = os.ReadDir(cfg.Proc)
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err == nil {
			paths = append(paths, filepath.Join(cfg.Proc, e.Name(), "ns/net"))
		}
	}
	return paths, nil
}
