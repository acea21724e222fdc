package lab

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fairlead.io/fairlead/test/cluster/config"
	"fairlead.io/fairlead/test/cluster/node"
	"fairlead.io/fairlead/test/cluster/proc"
)

func newLab(t *testing.T) *Lab {
	t.Setenv("FAIRLEAD_CACHE", t.TempDir())
	l, err := New(config.Cluster{Name: "test", Nodes: 2, KubeProxy: "nftables", Port: 16443}, "/programs", io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestNodesHaveTheFilesThatTheyAreTold of: every file that a flag or a configuration names is written, with the name.
func TestNodesHaveTheFilesThatTheyAreToldOf(t *testing.T) {
	l := newLab(t)
	if err := l.writeFiles(); err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile(regexp.QuoteMeta(node.ConfigDir) + `/[\w./:-]+\w`)
	for _, n := range l.Cluster.All() {
		files, err := l.Cluster.Files(n)
		if err != nil {
			t.Fatal(err)
		}
		var text strings.Builder
		for _, content := range files {
			text.Write(content)
		}
		for _, s := range l.Cluster.ServicesOf(n) {
			text.WriteString(strings.Join(s.Args, "\n") + "\n")
		}
		names := named.FindAllString(text.String(), -1)
		if len(names) < 5 {
			t.Fatalf("%s: only %q are named", n.Name, names)
		}
		for _, name := range names {
			if _, err := os.Stat(filepath.Join(l.nodeDir(n), "config", strings.TrimPrefix(name, node.ConfigDir))); err != nil {
				t.Errorf("%s: %v", n.Name, err)
			}
		}
	}
}

func TestOnlyTheControlPlaneHasTheKeys(t *testing.T) {
	l := newLab(t)
	if err := l.writeFiles(); err != nil {
		t.Fatal(err)
	}
	var got []string
	keys, err := filepath.Glob(filepath.Join(l.nodeDir(l.Cluster.Node(2)), "config/pki/*.key"))
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		got = append(got, filepath.Base(key))
	}
	if diff := cmp.Diff([]string{"kubelet-n2.key"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestMerge(t *testing.T) {
	l := newLab(t)
	if err := l.merge(); err != nil {
		t.Fatal(err)
	}
	again := func(change func(*Lab)) (*Lab, error) {
		other := *l
		change(&other)
		return &other, other.merge()
	}
	for name, change := range map[string]func(*Lab){
		"fewer nodes":     func(l *Lab) { l.Cluster.Nodes = 1 },
		"another port":    func(l *Lab) { l.Cluster.Port++ },
		"another mode":    func(l *Lab) { l.Cluster.KubeProxy = "iptables" },
		"another network": func(l *Lab) { l.Cluster.DualStack = true },
	} {
		if _, err := again(change); err == nil || !strings.HasSuffix(err.Error(), "down first") {
			t.Errorf("%s: %v", name, err)
		}
	}
	grown, err := again(func(l *Lab) { l.Cluster.Nodes, l.Build = 3, "/newer" })
	if err != nil || grown.Build != "/programs" {
		t.Errorf("%v, with the programs %s", err, grown.Build)
	}
	opened, err := Open("test", io.Discard)
	if err != nil || opened.Cluster != grown.Cluster || opened.Build != "/programs" {
		t.Errorf("saved %+v, %v", opened, err)
	}
}

func TestOpenOfNone(t *testing.T) {
	t.Setenv("FAIRLEAD_CACHE", t.TempDir())
	if _, err := Open("none", io.Discard); !errors.Is(err, ErrNone) {
		t.Errorf("error %v", err)
	}
}

func TestWaitSaysForWhat(t *testing.T) {
	err := wait(t.Context(), "the moon", "/log", 20*time.Millisecond, func(context.Context) error { return errors.New("it is day") })
	if err == nil || err.Error() != "wait for the moon, 20ms long: it is day (log: /log)" {
		t.Errorf("error %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err = wait(ctx, "the moon", "/log", time.Minute, func(context.Context) error { return errors.New("it is day") })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

// TestDownEndsWhatIsRecorded, and nothing that only has a number from the records.
func TestDownEndsWhatIsRecorded(t *testing.T) {
	l := newLab(t)
	ours, others := start(t), start(t)
	id, err := proc.Of(ours.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	reused, err := proc.Of(others.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	reused.Start--
	if err := errors.Join(l.records().Put("n1", id), l.records().Put("n2", reused)); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second finds nothing, which is well
		if err := Down(t.Context(), "test", io.Discard); err != nil {
			t.Fatal(err)
		}
	}
	reused.Start++
	if id.Alive() || !reused.Alive() {
		t.Errorf("the recorded lives: %t, the other lives: %t", id.Alive(), reused.Alive())
	}
	if _, err := os.Stat(l.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the run directory: %v", err)
	}
}

func start(t *testing.T) *exec.Cmd {
	cmd := exec.Command("tail", "-f", "/dev/null")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = cmd.Process.Kill(), cmd.Wait() })
	return cmd
}

func TestMountsBelow(t *testing.T) {
	if got := mountsBelow("/proc"); len(got) == 0 || got[0] != "/proc" {
		t.Errorf("/proc: %q", got)
	}
	if got := mountsBelow("/pro"); len(got) != 0 {
		t.Errorf("a beginning of a name is taken for a directory: %q", got)
	}
}

func TestProcessesIn(t *testing.T) {
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := processesIn([]string{own}); err != nil || len(got) == 0 {
		t.Errorf("own namespace: %q, %v", got, err)
	}
	if got, err := processesIn([]string{"net:[1]"}); err != nil || len(got) != 0 {
		t.Errorf("no namespace: %q, %v", got, err)
	}
}

func TestPruneGuests(t *testing.T) {
	l := newLab(t)
	own, err := proc.Of(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	dead := own
	dead.Start--
	if err := errors.Join(l.records().Put("guest-1", dead), l.records().Put("guest-2", own), l.records().Put("n1", dead)); err != nil {
		t.Fatal(err)
	}
	if err := l.pruneGuests(); err != nil {
		t.Fatal(err)
	}
	all, err := l.records().All()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]proc.ID{"guest-2": own, "n1": dead}, all); diff != "" {
		t.Error(diff)
	}
}
