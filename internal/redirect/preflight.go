package redirect

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// need is a feature of the kernel. Its key is a word for FeatureKeys.
type need struct {
	key, name, minimum string
	probe              func() error
}

var needs = []need{
	{"netns_cookie", "SO_NETNS_COOKIE", "5.14", func() error { _, err := netnsCookie(); return err }},
	{"sockhash", "hash of sockets", "4.18", func() error { return features.HaveMapType(ebpf.SockHash) }},
	{"sk_storage", "socket storage", "5.2", func() error { return features.HaveMapType(ebpf.SkStorage) }},
	{"connect_netns_cookie", "network namespace cookie in connect hooks", "5.7", helper(ebpf.CGroupSockAddr, asm.FnGetNetnsCookie)},
	{"connect_setsockopt", "socket options in connect hooks", "5.8", helper(ebpf.CGroupSockAddr, asm.FnSetsockopt)},
	{"connect_sk_storage", "socket storage in connect hooks", "5.8", helper(ebpf.CGroupSockAddr, asm.FnSkStorageGet)},
	{"connect_retval", "error of a connect hook", "5.18", helper(ebpf.CGroupSockAddr, asm.FnSetRetval)},
	{"sockops_sk_storage", "socket storage in sockops", "5.8", helper(ebpf.SockOps, asm.FnSkStorageGet)},
	{"sk_lookup", "sk_lookup", "5.9", func() error { return features.HaveProgramType(ebpf.SkLookup) }},
	{"sk_lookup_device", "incoming device in sk_lookup", "5.17", probeIngress},
}

// FeatureKeys are the words by which Preflight and PreflightGuard can be told to behave as if the kernel lacked a feature.
func FeatureKeys() []string {
	keys := []string{guardKey}
	for _, n := range needs {
		keys = append(keys, n.key)
	}
	return keys
}

const guardKey = "tcx"

// errSimulated is why a feature that the kernel has is missing.
var errSimulated = errors.New("simulated")

// Preflight returns every feature that the kernel lacks at once, each an UnsupportedFeature, or nil. Those whose keys are
// given are lacking in any case: a test aid.
func Preflight(without ...string) error {
	var errs []error
	for _, n := range needs {
		err := errSimulated
		if !slices.Contains(without, n.key) {
			err = n.probe()
		}
		if err != nil {
			errs = append(errs, &UnsupportedFeature{Name: n.name, Minimum: n.minimum, Err: err})
		}
	}
	return errors.Join(errs...)
}

// PreflightGuard returns what the kernel lacks for Pod.Guard, beyond Preflight, as an UnsupportedFeature, or nil.
func PreflightGuard(without ...string) error {
	if slices.Contains(without, guardKey) {
		return unsupportedGuard(errSimulated)
	}
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
