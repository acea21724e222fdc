package redirect

import (
	"errors"
	"fmt"
	"math"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Preflight returns every feature that the kernel lacks at once, each an UnsupportedFeature, or nil.
func Preflight() error {
	needs := []struct {
		name, minimum string
		probe         func() error
	}{
		{"SO_NETNS_COOKIE", "5.14", func() error { _, err := netnsCookie(); return err }},
		{"hash of sockets", "4.18", func() error { return features.HaveMapType(ebpf.SockHash) }},
		{"socket storage", "5.2", func() error { return features.HaveMapType(ebpf.SkStorage) }},
		{"network namespace cookie in connect hooks", "5.7", helper(ebpf.CGroupSockAddr, asm.FnGetNetnsCookie)},
		{"socket options in connect hooks", "5.8", helper(ebpf.CGroupSockAddr, asm.FnSetsockopt)},
		{"socket storage in connect hooks", "5.8", helper(ebpf.CGroupSockAddr, asm.FnSkStorageGet)},
		{"error of a connect hook", "5.18", helper(ebpf.CGroupSockAddr, asm.FnSetRetval)},
		{"socket storage in sockops", "5.8", helper(ebpf.SockOps, asm.FnSkStorageGet)},
		{"sk_lookup", "5.9", func() error { return features.HaveProgramType(ebpf.SkLookup) }},
		{"incoming device in sk_lookup", "5.17", probeIngress},
	}
	var errs []error
	for _, n := range needs {
		if err := n.probe(); err != nil {
			errs = append(errs, &UnsupportedFeature{Name: n.name, Minimum: n.minimum, Err: err})
		}
	}
	return errors.Join(errs...)
}

// PreflightGuard returns what the kernel lacks for Pod.Guard, beyond Preflight, as an UnsupportedFeature, or nil.
func PreflightGuard() error {
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "fl_probe", Type: ebpf.SchedCLS, License: "Dual BSD/GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
	if err != nil {
		return unsupportedGuard(err)
	}
	defer prog.Close()
	// a kernel that knows the hook looks for the device, and there is none of this number
	l, err := link.AttachTCX(link.TCXOptions{Interface: math.MaxInt32, Program: prog, Attach: ebpf.AttachTCXEgress})
	if err == nil {
		return errors.Join(fmt.Errorf("attach probe: there is a device %d", math.MaxInt32), l.Close())
	}
	if errors.Is(err, unix.ENODEV) {
		return nil
	}
	return unsupportedGuard(err)
}

func unsupportedGuard(err error) error {
	return &UnsupportedFeature{Name: "tcx", Minimum: "6.6", Err: err}
}

func helper(pt ebpf.ProgramType, fn asm.BuiltinFunc) func() error {
	return func() error { return features.HaveProgramHelper(pt, fn) }
}

// probeIngress loads a program that reads ingress_ifindex of struct bpf_sk_lookup.
func probeIngress() error {
	const offset = 64
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "fl_probe", Type: ebpf.SkLookup, AttachType: ebpf.AttachSkLookup, License: "Dual BSD/GPL",
		Instructions: asm.Instructions{
			asm.LoadMem(asm.R0, asm.R1, offset, asm.Word),
			asm.Mov.Imm(asm.R0, 1),
			asm.Return(),
		},
	})
	if err != nil {
		return err
	}
	return prog.Close()
}
