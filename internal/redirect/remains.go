package redirect

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Remains names what there still is of an instance after CleanUp: pins, and what its pods' namespaces below NetNSDir have
// of ours: rules, routes, programs. What another instance on the machine has elsewhere is not looked at.
func Remains(cfg Config) (left []string, err error) {
	if cfg, err = cfg.withDefaults(); err != nil {
		return nil, err
	}
	for _, dir := range []string{instanceDir(cfg), temporaryDir(cfg)} {
		if _, err := os.Stat(dir); err == nil {
			left = append(left, "pins in "+dir)
		}
	}
	lookups, err := lookupLinks()
	if err != nil {
		return left, err
	}
	entries, err := os.ReadDir(cfg.NetNSDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return left, fmt.Errorf("list namespaces: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(cfg.NetNSDir, e.Name())
		ns, err := OpenNetNS(path)
		if err != nil {
			continue // not a namespace, or no longer
		}
		found, err := remainsIn(ns, lookups)
		if err = errors.Join(err, ns.Close()); err != nil {
			return left, fmt.Errorf("look at %s: %w", path, err)
		}
		for _, what := range found {
			left = append(left, what+" in "+path)
		}
	}
	return left, nil
}

func remainsIn(ns *NetNS, lookups map[uint64]bool) (left []string, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(ns.FD(), &st); err != nil {
		return nil, fmt.Errorf("stat network namespace: %w", err)
	}
	if lookups[st.Ino] {
		left = append(left, "sk_lookup")
	}
	err = ns.Do(func() error {
		for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
			rules, err := ruleList(family)
			if err != nil {
				return fmt.Errorf("list rules: %w", err)
			}
			for _, r := range rules {
				if r.Protocol == protocol {
					left = append(left, fmt.Sprintf("rule %d", r.Priority))
				}
			}
			routes, err := routeList(family, table)
			if err != nil {
				return fmt.Errorf("list routes: %w", err)
			}
			if len(routes) > 0 {
				left = append(left, fmt.Sprintf("routes of table %d", table))
			}
		}
		return nil
	})
	return left, err
}

// lookupLinks are the inodes of the namespaces that a program of ours is attached to, on the whole machine.
func lookupLinks() (map[uint64]bool, error) {
	inodes := map[uint64]bool{}
	var all link.Iterator
	defer all.Close()
	for all.Next() {
		l := all.Take()
		inode, err := lookupLink(l)
		if err := errors.Join(err, l.Close()); err != nil {
			return nil, fmt.Errorf("look at a link: %w", err)
		}
		if inode != 0 {
			inodes[inode] = true
		}
	}
	if err := all.Err(); err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	return inodes, nil
}

// lookupLink is the inode of the namespace that a link of ours is for; 0 for other links.
func lookupLink(l link.Link) (uint64, error) {
	info, err := l.Info()
	if err != nil || info.NetNs() == nil {
		return 0, err
	}
	name, err := programName(info.Program)
	if errors.Is(err, fs.ErrNotExist) || err == nil && name != redirectProgFlSkLookup {
		return 0, nil
	}
	return uint64(info.NetNs().NetnsInode), err
}
