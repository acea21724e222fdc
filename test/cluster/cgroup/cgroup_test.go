package cgroup

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const (
	hybrid = `31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
33 31 0:31 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset,clone_children
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,release_agent=/lib/agent,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
50 31 0:38 / /sys/fs/cgroup/again rw,relatime - cgroup2 cgroup2 rw
51 23 0:29 / /elsewhere/cpu rw,relatime - cgroup cgroup rw,blkio
`
	unified = `31 23 0:28 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
`
)

func TestParse(t *testing.T) {
	for name, test := range map[string]struct {
		mountinfo string
		want      []Hierarchy
		unified   bool
	}{
		"both versions": {hybrid, []Hierarchy{
			{Mount: "/sys/fs/cgroup/cpu,cpuacct", Options: "cpu,cpuacct"},
			{Mount: "/sys/fs/cgroup/cpuset", Options: "cpuset"},
			{Mount: "/sys/fs/cgroup/systemd", Options: "none,name=systemd"},
			{Mount: "/sys/fs/cgroup/unified", V2: true},
		}, false},
		"cgroup2 alone": {unified, []Hierarchy{{Mount: "/sys/fs/cgroup", V2: true}}, true},
		"none":          {"31 23 0:28 / / rw - ext4 /dev/vda rw\nnonsense\n", nil, false},
	} {
		got, err := parse(strings.NewReader(test.mountinfo))
		if diff := cmp.Diff(test.want, got); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
		if Unified(got) != test.unified {
			t.Errorf("%s: unified is %t", name, !test.unified)
		}
	}
}

func TestAliases(t *testing.T) {
	for mount, want := range map[string][]string{
		"/sys/fs/cgroup/cpu,cpuacct": {"cpu", "cpuacct"}, "/sys/fs/cgroup/memory": nil, "/sys/fs/cgroup": nil,
	} {
		if diff := cmp.Diff(want, Hierarchy{Mount: mount}.Aliases()); diff != "" {
			t.Errorf("%s: %s", mount, diff)
		}
	}
}

// fake is a machine with two hierarchies that are mere directories.
func fake(t *testing.T) Tree {
	dir := t.TempDir()
	for _, d := range []string{"cpuset", "unified"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for file, content := range map[string]string{"cpuset.cpus": "0-3", "cpuset.mems": "0"} {
		if err := os.WriteFile(filepath.Join(dir, "cpuset", file), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return Tree{Path: "top/mid", Hierarchies: []Hierarchy{{Mount: dir + "/cpuset", Options: "cpuset"}, {Mount: dir + "/unified", V2: true}}}
}

func TestMakeInheritsTheCPUs(t *testing.T) {
	tree := fake(t)
	if err := tree.Make(); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"top", "top/mid"} {
		b, err := os.ReadFile(filepath.Join(tree.Hierarchies[0].Mount, dir, "cpuset.cpus"))
		if err != nil || string(b) != "0-3" {
			t.Errorf("%s: %q, %v", dir, b, err)
		}
	}
}

func TestTreeIsGoneAfterRemove(t *testing.T) {
	tree := fake(t)
	tree.Hierarchies = tree.Hierarchies[1:]
	if err := tree.Sub("a/b").Make(); err != nil {
		t.Fatal(err)
	}
	if want := []string{tree.Dir()}; !cmp.Equal(tree.Left(), want) {
		t.Errorf("left: %q, want %q", tree.Left(), want)
	}
	if err := tree.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := tree.Remove(t.Context()); err != nil {
		t.Errorf("a second time: %v", err)
	}
	tree.RemoveParent()
	if left := append(tree.Left(), (Tree{Hierarchies: tree.Hierarchies, Path: "top"}).Left()...); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

func TestRemoveSaysWhatStays(t *testing.T) {
	tree := fake(t)
	tree.Hierarchies = tree.Hierarchies[1:]
	if err := tree.Sub("a").Make(); err != nil {
		t.Fatal(err)
	}
	busy := filepath.Join(tree.Dir(), "a", "process") // stands for one that does not end
	if err := os.WriteFile(busy, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := tree.Remove(ctx); err == nil || !strings.Contains(err.Error(), filepath.Dir(busy)) {
		t.Errorf("error %v", err)
	}
}

func TestParentWithOthersStays(t *testing.T) {
	tree := fake(t)
	tree.Hierarchies = tree.Hierarchies[1:]
	other := Tree{Hierarchies: tree.Hierarchies, Path: "top/other"}
	if err := other.Make(); err != nil {
		t.Fatal(err)
	}
	tree.RemoveParent()
	if len(other.Left()) != 1 {
		t.Error("the cgroup of another cluster is gone")
	}
}
