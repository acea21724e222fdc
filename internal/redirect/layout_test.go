package redirect

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

// TestSizes: what Go writes is what the maps hold, and there is a counter for each verdict.
func TestSizes(t *testing.T) {
	spec := must[*ebpf.CollectionSpec](t)(loadRedirect())
	for name, size := range map[string][2]uintptr{
		redirectMapFlPods:       {8, unsafe.Sizeof(redirectFlPod{})},
		redirectMapFlAddrs:      {unsafe.Sizeof(redirectFlAddrKey{}), 4},
		redirectMapFlListeners:  {unsafe.Sizeof(redirectFlSlotKey{}), 8},
		redirectMapFlTags:       {4, unsafe.Sizeof(redirectFlTag{})},
		redirectMapFlProbes:     {unsafe.Sizeof(redirectFlTuple{}), 8},
		redirectMapFlProbePorts: {unsafe.Sizeof(redirectFlPortKey{}), 4},
		redirectMapFlNodes:      {unsafe.Sizeof(redirectFlAddr{}), 4},
		redirectMapFlUndos:      {8, unsafe.Sizeof(redirectFlUndo{})},
		redirectMapFlVerdicts:   {4, 8},
	} {
		m := spec.Maps[name]
		if uintptr(m.KeySize) != size[0] || uintptr(m.ValueSize) != size[1] {
			t.Errorf("%s: key %d, value %d; Go has %v", name, m.KeySize, m.ValueSize, size)
		}
	}
	names := must[[]string](t)(verdictNames(spec))
	if slices.Contains(names, "") || len(names) != int(spec.Maps[redirectMapFlVerdicts].MaxEntries) {
		t.Errorf("verdicts: %q", names)
	}
	for name, p := range spec.Programs {
		if !strings.HasPrefix(name, "fl_") || len(name) > 15 || p.License != "Dual BSD/GPL" {
			t.Errorf("program %s, license %s", name, p.License)
		}
	}
}

// TestLayout: each struct of types.h has in Go the size and the offsets that the programs were compiled with. The sizes
// are written out, since maps of an earlier version may be pinned: a change of one is an incompatible version.
func TestLayout(t *testing.T) {
	spec := must[*ebpf.CollectionSpec](t)(loadRedirect())
	shared := map[string]struct {
		value any
		size  uint32
	}{
		"fl_addr":     {redirectFlAddr{}, 16},
		"fl_addr_key": {redirectFlAddrKey{}, 24},
		"fl_slot_key": {redirectFlSlotKey{}, 16},
		"fl_port_key": {redirectFlPortKey{}, 16},
		"fl_tuple":    {redirectFlTuple{}, 36},
		"fl_pod":      {redirectFlPod{}, 4},
		"fl_tag":      {redirectFlTag{}, 4},
		"fl_undo":     {redirectFlUndo{}, 16},
	}
	for typ := range spec.Types.All() {
		c, ok := typ.(*btf.Struct)
		if !ok || !strings.HasPrefix(c.Name, "fl_") || c.Name == "fl_shared" { // which is never a value
			continue
		}
		want, ok := shared[c.Name]
		if !ok {
			t.Errorf("struct %s has no type in Go", c.Name)
			continue
		}
		delete(shared, c.Name)
		sameLayout(t, c, reflect.TypeOf(want.value), want.size)
	}
	for name := range shared {
		t.Errorf("no struct %s in the object", name)
	}
}

func sameLayout(t *testing.T, c *btf.Struct, g reflect.Type, size uint32) {
	t.Helper()
	if c.Size != size || g.Size() != uintptr(size) {
		t.Errorf("%s: %d bytes, in Go %d, want %d", c.Name, c.Size, g.Size(), size)
	}
	fields := slices.DeleteFunc(reflect.VisibleFields(g), func(f reflect.StructField) bool { return f.Name == "_" })
	if len(fields) != len(c.Members) {
		t.Errorf("%s: %d members, in Go %d", c.Name, len(c.Members), len(fields))
		return
	}
	for i, m := range c.Members {
		n, err := btf.Sizeof(m.Type)
		check(t, err)
		if f := fields[i]; uintptr(m.Offset.Bytes()) != f.Offset || uintptr(n) != f.Type.Size() {
			t.Errorf("%s.%s: %d bytes at %d, in Go %d at %d", c.Name, m.Name, n, m.Offset.Bytes(), f.Type.Size(), f.Offset)
		}
	}
}

// TestPrograms prints what each program costs, with constants as in a node: without them the verifier would leave
// branches out. The limit on what the verifier looks at is far above today's, and far below the kernel's million.
func TestPrograms(t *testing.T) {
	requireRoot(t)
	node := map[string]any{redirectVarFlKubelet: uint64(1), redirectVarFlHost: uint64(1), redirectVarFlCookie: uint64(1)}
	with := func(header uint32) map[string]any {
		vars := maps.Clone(node)
		vars[redirectVarFlLinkHeader] = header
		return vars
	}
	const limit = 20000
	for _, c := range []struct {
		prog, variant string
		vars          map[string]any
	}{
		{redirectProgFlConnect4, "", node},
		{redirectProgFlConnect6, "", node},
		{redirectProgFlSkLookup, "", node},
		{redirectProgFlSockops, "", node},
		{redirectProgFlGuard, "Ethernet", with(14)},
		{redirectProgFlGuard, "no link header", with(0)},
	} {
		spec := must[*ebpf.CollectionSpec](t)(loadRedirect())
		spec.Programs = map[string]*ebpf.ProgramSpec{c.prog: spec.Programs[c.prog]}
		for name, value := range c.vars {
			check(t, spec.Variables[name].Set(value))
		}
		coll := must[*ebpf.Collection](t)(ebpf.NewCollection(spec))
		info := must[*ebpf.ProgramInfo](t)(coll.Programs[c.prog].Info())
		verified, ok := info.VerifiedInstructions()
		insns := must[asm.Instructions](t)(info.Instructions())
		native := must[uint32](t)(info.JitedSize())
		coll.Close() // not before: the instructions refer to it
		t.Logf("%-13s %-14s %4d instructions, %5d verified, %5d bytes native", c.prog, c.variant, len(insns), verified, native)
		if !ok || verified == 0 || verified > limit {
			t.Errorf("%s %s: the verifier looks at %d instructions, limit %d", c.prog, c.variant, verified, limit)
		}
	}
}
