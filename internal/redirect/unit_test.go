package redirect

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

func TestMapped(t *testing.T) {
	for addr, want := range map[string]string{
		"10.1.2.3":           "00000000000000000000ffff0a010203",
		"::ffff:10.1.2.3":    "00000000000000000000ffff0a010203",
		"fd99::1:2":          "fd990000000000000000000000010002",
		"255.255.255.255":    "00000000000000000000ffffffffffff",
		"2001:db8:ffff::abc": "20010db8ffff00000000000000000abc",
	} {
		a := mapped(netip.MustParseAddr(addr))
		if got := fmt.Sprintf("%x", unsafe.Slice((*byte)(unsafe.Pointer(&a)), unsafe.Sizeof(a.W))); got != want {
			t.Errorf("%s: %s", addr, got)
		}
	}
}

func TestPreflight(t *testing.T) {
	requireRoot(t)
	check(t, Preflight())
	for _, key := range FeatureKeys() {
		err := errors.Join(Preflight(key), PreflightGuard(key))
		lacks := new(UnsupportedFeature)
		if !errors.As(err, &lacks) || lacks.Minimum == "" || !errors.Is(err, ebpf.ErrNotSupported) {
			t.Errorf("without %s: %v", key, err)
		}
	}
}

// TestPreflightGuard: it says beforehand what Set would say.
func TestPreflightGuard(t *testing.T) {
	requireRoot(t)
	err := PreflightGuard()
	lacks := new(UnsupportedFeature)
	if old := olderThan(t, "6.6"); old != errors.As(err, &lacks) || old && lacks.Minimum != "6.6" || !old && err != nil {
		t.Errorf("older than 6.6 is %v: %v", old, err)
	}
}

func TestUnsupportedFeature(t *testing.T) {
	err := fmt.Errorf("pod x: %w", &UnsupportedFeature{Name: "tcx", Minimum: "6.6", Err: unix.EINVAL})
	if !errors.Is(err, ebpf.ErrNotSupported) || !errors.Is(err, unix.EINVAL) || !strings.Contains(err.Error(), "6.6") {
		t.Error(err)
	}
}

// TestIsOlder: the skips of this package hang on it.
func TestIsOlder(t *testing.T) {
	for _, c := range []struct {
		release, minimum string
		want             bool
	}{
		{"6.1.0-56-amd64", "6.6", true}, {"6.6.1", "6.6", false}, {"6.12.95+deb12-amd64", "6.6", false}, {"5.15.0", "6.6", true}, {"7.0", "6.6", false},
	} {
		if got := isOlder(t, c.release, c.minimum); got != c.want {
			t.Errorf("%s older than %s: %v", c.release, c.minimum, got)
		}
	}
}

func TestConfig(t *testing.T) {
	for _, name := range []string{"a/b", ".a", "_a", "..", "/"} {
		if _, err := (Config{Instance: name, Cgroup: "/x"}).withDefaults(); err == nil {
			t.Errorf("instance %q", name)
		}
	}
	if _, err := findCgroup2(t.TempDir(), ""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no mounts: %v", err)
	}
	for want, cfg := range map[string]Config{
		"not a bpffs":         {BPFFS: t.TempDir(), Cgroup: "/x"},
		"find bpffs /nowhere": {BPFFS: "/nowhere", Cgroup: "/x"},
	} {
		if _, err := Open(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestSetRefuses(t *testing.T) {
	w := newWorld(t)
	r := w.open(w.config())
	p := w.pod("p1")
	again, other := p, w.pod("p2")
	again.UID, other.UID = "again", "p1"
	for name, desired := range map[string][]Pod{
		"no namespace": {{UID: "x"}}, "one namespace twice": {p, again}, "one UID twice": {p, other},
	} {
		if change, err := r.Set(desired); err == nil || len(change.Enrolled) != 0 {
			t.Errorf("%s: %v, %v", name, change, err)
		}
	}
}

// TestForeignPins: maps of another version are not used, and not touched.
func TestForeignPins(t *testing.T) {
	requireRoot(t)
	cfg := Config{BPFFS: mountBPFFS(t), Instance: "old", NetNSDir: t.TempDir()}
	dir := instanceDir(cfg)
	check(t, os.MkdirAll(dir, 0o700))
	m := must[*ebpf.Map](t)(ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Hash, KeySize: 4, ValueSize: 4, MaxEntries: 1}))
	defer m.Close()
	check(t, m.Pin(filepath.Join(dir, redirectMapFlPods)))
	if r, err := Open(cfg); !errors.Is(err, ErrForeignPins) {
		r.Close()
		t.Errorf("Open: %v", err)
	}
	check(t, CleanUp(cfg))
	r := must[*Redirect](t)(Open(cfg))
	check(t, errors.Join(r.Close(), CleanUp(cfg)))
}

// TestUnfinishedInstance: what a process left that ended before the rename is in nobody's way.
func TestUnfinishedInstance(t *testing.T) {
	requireRoot(t)
	cfg := must[Config](t)(Config{BPFFS: mountBPFFS(t), NetNSDir: t.TempDir()}.withDefaults())
	check(t, os.MkdirAll(temporaryDir(cfg), 0o700))
	o := must[*objects](t)(loadObjects(cfg, temporaryDir(cfg)))
	check(t, o.close())
	r := must[*Redirect](t)(Open(cfg))
	if _, err := os.Stat(temporaryDir(cfg)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("unfinished: %v", err)
	}
	check(t, errors.Join(r.Close(), CleanUp(cfg)))
}

func FuzzDiagMark(f *testing.F) {
	head := make([]byte, diagMessageSize)
	f.Add(head)
	f.Add(append(slices.Clone(head), 8, 0, diagAttrMark, 0, 1, 0x6d, 0, 0))
	f.Add(append(slices.Clone(head), 5, 0, 8, 0, 1, 0, 0, 0, 8, 0, diagAttrMark, 0, 2, 0x6d, 0, 0))
	f.Add(append(slices.Clone(head), 0, 0, 0, 0))
	f.Add([]byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, m []byte) {
		if mark := diagMark(m); mark != 0 && len(m) < diagMessageSize+8 {
			t.Errorf("mark %#x from %d bytes", mark, len(m))
		}
	})
}

func TestDiagMark(t *testing.T) {
	head := make([]byte, diagMessageSize)
	for _, c := range []struct {
		attrs []byte
		want  uint32
	}{
		{nil, 0},
		{[]byte{8, 0, diagAttrMark, 0, 1, 0x6d, 0, 0}, 0x6d01},
		{[]byte{5, 0, 8, 0, 1, 0, 0, 0, 8, 0, diagAttrMark, 0, 2, 0x6d, 0, 0}, 0x6d02},
		{[]byte{3, 0, diagAttrMark, 0, 1, 0x6d, 0, 0}, 0},
		{[]byte{6, 0, diagAttrMark, 0, 1, 0x6d}, 0},
		{[]byte{99, 0, diagAttrMark, 0, 1, 0x6d, 0, 0}, 0},
	} {
		if got := diagMark(append(slices.Clone(head), c.attrs...)); got != c.want {
			t.Errorf("%v: %#x", c.attrs, got)
		}
	}
}
