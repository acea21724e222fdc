// Package cgroup makes the cgroups that the nodes of a cluster take for their machine's, in every hierarchy that this
// machine has: cgroup2 alone, version 1 alone, or both beside each other.
//
// Promises:
//  1. Nothing outside the tree is changed, but that on cgroup2 the controllers that pods need are enabled above it.
//  2. After Remove nothing of the tree is left, or an error says what.
package cgroup

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Root is where a machine, and a node, has its hierarchies.
const Root = "/sys/fs/cgroup"

// Hierarchy is one mounted hierarchy.
type Hierarchy struct {
	Mount   string `json:"mount"`   // where it is mounted
	Options string `json:"options"` // what mounts it once more; empty for cgroup2
	V2      bool   `json:"v2"`
}

// Hierarchies are those of this machine.
func Hierarchies() ([]Hierarchy, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	list, err := parse(f)
	if err != nil {
		return nil, fmt.Errorf("find the cgroup hierarchies: %w", err)
	}
	if !slices.ContainsFunc(list, func(h Hierarchy) bool { return h.V2 }) {
		return nil, errors.New("this machine has no cgroup2 mounted, which the mesh needs")
	}
	return list, nil
}

// parse reads mountinfo. Of a hierarchy that is mounted twice, the first counts.
func parse(mountinfo io.Reader) ([]Hierarchy, error) {
	var list []Hierarchy
	for lines := bufio.NewScanner(mountinfo); ; {
		if !lines.Scan() {
			return list, lines.Err()
		}
		before, after, ok := strings.Cut(lines.Text(), " - ")
		fields, source := strings.Fields(before), strings.Fields(after)
		if !ok || len(fields) < 5 || len(source) < 3 || !within(fields[4]) {
			continue
		}
		h := Hierarchy{Mount: fields[4], V2: source[0] == "cgroup2"}
		switch source[0] {
		case "cgroup":
			h.Options = mountOptions(source[2])
		case "cgroup2":
		default:
			continue
		}
		if !slices.ContainsFunc(list, func(o Hierarchy) bool { return o.V2 == h.V2 && o.Options == h.Options }) {
			list = append(list, h)
		}
	}
}

func within(dir string) bool { return dir == Root || strings.HasPrefix(dir, Root+"/") }

// mountOptions leaves of a version 1 mount's options what says which hierarchy it is.
func mountOptions(super string) string {
	var keep []string
	for option := range strings.SplitSeq(super, ",") {
		switch name, _, _ := strings.Cut(option, "="); name {
		case "rw", "ro", "xattr", "noprefix", "clone_children", "release_agent", "cpuset_v2_mode", "seclabel":
		case "name":
			keep = append(keep, "none", option)
		default:
			keep = append(keep, option)
		}
	}
	return strings.Join(keep, ",")
}

// Unified says whether cgroup2 is the only hierarchy, so that it has the controllers and their rules.
func Unified(list []Hierarchy) bool { return len(list) == 1 && list[0].V2 }

// name is the hierarchy's directory below Root; empty if it is Root itself.
func (h Hierarchy) name() string {
	rel, err := filepath.Rel(Root, h.Mount)
	if err != nil || rel == "." {
		return ""
	}
	return rel
}

// has says whether a version 1 hierarchy is that of the controller.
func (h Hierarchy) has(controller string) bool {
	return slices.Contains(strings.Split(h.Options, ","), controller)
}

// Aliases are the names of the controllers that share this hierarchy under a name of several: cpu of "cpu,cpuacct".
func (h Hierarchy) Aliases() []string {
	names := strings.Split(h.name(), ",")
	if len(names) < 2 {
		return nil
	}
	return names
}
