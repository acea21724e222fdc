package redirect

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
)

func TestCleanUpLeavesNothing(t *testing.T) {
	w := newWorld(t)
	p1, p2 := w.pods["p1"], w.pods["p2"]
	before := [][]string{state(t, p1.ns), state(t, p2.ns)}
	cfg := w.config()
	r := w.open(cfg)
	guarded := w.pod("p2")
	guarded.Guard = !olderThan(t, "6.6")
	must[Change](t)(r.Set([]Pod{w.pod("p1"), guarded}))
	ids := map[ebpf.MapID]bool{}
	for _, m := range r.objects.byName() {
		id, _ := must[*ebpf.MapInfo](t)(m.Info()).ID()
		ids[id] = true
	}
	want := 4 // two connects, two sk_lookups
	if guarded.Guard {
		want++
	}
	if n := programsOf(t, ids); n < want {
		t.Fatalf("%d programs, want %d", n, want)
	}
	check(t, r.Close())
	left := strings.Join(must[[]string](t)(Remains(cfg)), "\n")
	for _, name := range []string{"p1", "p2"} {
		for _, what := range []string{"sk_lookup", "rule 100", "rule 101", "routes of table 27905"} {
			if want := what + " in " + filepath.Join(w.dir, name); !strings.Contains(left, want) {
				t.Errorf("%q is not named: %s", want, left)
			}
		}
	}
	if !strings.Contains(left, "pins in "+instanceDir(must[Config](t)(cfg.withDefaults()))) {
		t.Errorf("the pins are not named: %s", left)
	}
	check(t, CleanUp(cfg))
	check(t, CleanUp(cfg)) // twice is no error
	if left := must[[]string](t)(Remains(cfg)); len(left) > 0 {
		t.Errorf("after the clean-up: %v", left)
	}
	eventually(t, 5*time.Second, "programs and maps go", func() bool { return programsOf(t, ids) == 0 && !anyLeft(ids) })
	if diff := cmp.Diff(before, [][]string{state(t, p1.ns), state(t, p2.ns)}); diff != "" {
		t.Error(diff)
	}
	if _, err := os.Stat(rootDir(cfg.BPFFS)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("pins: %v", err)
	}
}

// programsOf counts the programs of the machine that use one of the maps. Others may run tests of their own.
func programsOf(t testing.TB, maps map[ebpf.MapID]bool) (n int) {
	t.Helper()
	for id := ebpf.ProgramID(0); ; {
		next, err := ebpf.ProgramGetNextID(id)
		if err != nil {
			return n
		}
		id = next
		prog, err := ebpf.NewProgramFromID(id)
		if err != nil {
			continue
		}
		info, err := prog.Info()
		prog.Close()
		if err != nil {
			continue
		}
		used, _ := info.MapIDs()
		if slices.ContainsFunc(used, func(m ebpf.MapID) bool { return maps[m] }) {
			n++
		}
	}
}

func anyLeft(maps map[ebpf.MapID]bool) bool {
	for id := range maps {
		if m, err := ebpf.NewMapFromID(id); err == nil {
			m.Close()
			return true
		}
	}
	return false
}

func TestInstancesDoNotSeeEachOther(t *testing.T) {
	w := newWorld(t)
	cfgA, cfgB := w.config(), w.config()
	cfgB.Instance = "b.example.org"
	a, b := w.open(cfgA), w.open(cfgB)
	must[Change](t)(a.Set([]Pod{w.pod("p1")}))
	must[Change](t)(b.Set([]Pod{w.pod("p2")}))
	pa, pb := newProxy(t, a, "p1"), newProxy(t, b, "p2")
	p1, p2 := w.pods["p1"], w.pods["p2"]
	dst := netip.AddrPortFrom(p2.v4, w.serve(p2.ns, "tcp", ":0"))
	must[string](t)(ask(p1.ns, dst, nil))
	if len(pa.took(Out, dst)) != 1 || len(pb.took(In, dst)) != 1 {
		t.Error("not captured by both")
	}
	if a, b := pa.others(), pb.others(); len(a)+len(b) != 0 {
		t.Errorf("more: %v %v", a, b)
	}
	pa.stop()
	check(t, a.Close())
	check(t, CleanUp(cfgA))
	must[string](t)(ask(p1.ns, dst, nil))
	if len(pb.took(In, dst)) != 1 {
		t.Error("cleanup of the one took the other's")
	}
}
