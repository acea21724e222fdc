package redirect

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fakeHost is a procfs and a cgroup2 of files, as a container with its own mounts of both sees them.
type fakeHost struct {
	t   *testing.T
	cfg Config
	dir string
}

// newFakeHost mounts the cgroup named root at <cgroup>/unified. Process 1 is in the host's namespaces.
func newFakeHost(t *testing.T, root string) *fakeHost {
	h := &fakeHost{t: t, dir: t.TempDir()}
	h.cfg = Config{Proc: filepath.Join(h.dir, "proc"), Cgroup: filepath.Join(h.dir, "cgroup")}
	h.write("proc/self/mountinfo", fmt.Sprintf("30 25 0:26 / /cgroup rw shared:4 - cgroup cgroup rw,memory\n31 25 0:27 %s %s/unified rw - cgroup2 cgroup2 rw\n", root, h.cfg.Cgroup))
	h.write("cgroup/unified/cgroup.procs", "")
	for _, ns := range []string{"pid", "net"} {
		h.write("proc/1/ns/"+ns, "")
		h.write("proc/77/ns/"+ns, "another's")
	}
	return h
}

func (h *fakeHost) write(path, text string) {
	h.t.Helper()
	path = filepath.Join(h.dir, path)
	check(h.t, os.MkdirAll(filepath.Dir(path), 0o755))
	check(h.t, os.WriteFile(path, []byte(text), 0o600))
}

// process adds one with namespaces of process like: 1 for the host's own.
func (h *fakeHost) process(pid, parent int, comm, cgroup string, like int) {
	dir := fmt.Sprintf("proc/%d", pid)
	h.write(dir+"/comm", comm+"\n")
	h.write(dir+"/stat", fmt.Sprintf("%d (%s) S) S %d 1 1", pid, comm, parent))
	h.write(dir+"/cgroup", "9:memory:/kubelet-v1\n0::"+cgroup+"\n")
	for _, ns := range []string{"pid", "net"} {
		link := filepath.Join(h.dir, dir, "ns", ns)
		check(h.t, os.MkdirAll(filepath.Dir(link), 0o755))
		check(h.t, os.Symlink(filepath.Join(h.dir, fmt.Sprintf("proc/%d/ns", like), ns), link))
	}
}

// cgroup adds one with a process in it, or without.
func (h *fakeHost) cgroup(path string, populated int) {
	h.write("cgroup/unified/"+path+"/cgroup.events", fmt.Sprintf("populated %d\nfrozen 0\n", populated))
}

func TestFindKubelet(t *testing.T) {
	const service = "/system.slice/kubelet.service"
	for _, c := range []struct {
		name, root string
		make       func(*fakeHost)
		want       string // below the mount
		why        string
	}{
		{"its own service", "/", func(h *fakeHost) {
			h.process(50, 1, "containerd", "/system.slice/containerd.service", 1)
			h.process(60, 1, "kubelet", service, 1)
			h.process(61, 60, "mount.nfs", service, 1)
			h.process(62, 61, "sh", service, 1)
		}, service, ""},
		{"in a cgroup namespace of ours", "/../../..", func(h *fakeHost) {
			h.process(60, 1, "kubelet", "/../../.."+service, 1)
		}, service, ""},
		{"by its executable", "/", func(h *fakeHost) {
			h.process(60, 1, "hyperkube", service, 1)
			check(h.t, os.Symlink("/usr/bin/kubelet (deleted)", filepath.Join(h.dir, "proc/60/exe")))
		}, service, ""},
		{"a pod's process of that name", "/", func(h *fakeHost) {
			h.process(60, 1, "kubelet", service, 1)
			h.process(90, 1, "kubelet", "/kubepods/pod1/c", 77)
		}, service, ""},
		{"none", "/", func(h *fakeHost) { h.process(60, 1, "k3s-server", service, 1) }, "", "no process of the host is called kubelet"},
		{"two", "/", func(h *fakeHost) {
			h.process(60, 1, "kubelet", service, 1)
			h.process(90, 1, "kubelet", "/kubepods/pod1/c", 1)
		}, "", "several processes"},
		{"with others", "/", func(h *fakeHost) {
			h.process(60, 1, "kubelet", service, 1)
			h.process(70, 1, "kube-proxy", service, 1)
		}, "", "process 70 is in"},
		{"in the root", "/", func(h *fakeHost) { h.process(60, 1, "kubelet", "/", 1) }, "", "not the kubelet's alone"},
		{"with pods below", "/", func(h *fakeHost) {
			h.process(60, 1, "kubelet", service, 1)
			h.cgroup(service+"/kubepods", 1)
		}, "", "processes in kubepods"},
		{"not to be seen from here", "/../..", func(h *fakeHost) {
			h.process(60, 1, "kubelet", "/../../.."+service, 1)
		}, "", "is not below"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newFakeHost(t, c.root)
			h.cgroup(service, 1)
			c.make(h)
			got, err := FindKubelet(h.cfg)
			if c.why != "" {
				if !errors.Is(err, ErrNoKubelet) || !strings.Contains(err.Error(), c.why) {
					t.Errorf("%q, %v", got, err)
				}
				return
			}
			if want := filepath.Join(h.cfg.Cgroup, "unified", c.want); got != want || err != nil {
				t.Errorf("%q, %v, want %q", got, err, want)
			}
		})
	}
}

func TestFindCgroup2(t *testing.T) {
	h := newFakeHost(t, "/")
	unified := filepath.Join(h.cfg.Cgroup, "unified")
	for _, path := range []string{"", h.cfg.Cgroup, h.cfg.Cgroup + "/"} {
		if got := must[string](t)(findCgroup2(h.cfg.Proc, path)); got != unified {
			t.Errorf("at %q: %q", path, got)
		}
	}
	if got, err := findCgroup2(h.cfg.Proc, h.dir+"/proc"); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), h.dir+"/proc") {
		t.Errorf("elsewhere: %q, %v", got, err)
	}
	real, err := findCgroup2("/proc", "")
	check(t, err)
	if got := must[string](t)(findCgroup2("/proc", real)); got != real {
		t.Errorf("itself: %q", got)
	}
	if got := must[string](t)(findCgroup2("/proc", filepath.Dir(real))); got != real {
		t.Errorf("from above: %q", got)
	}
}
