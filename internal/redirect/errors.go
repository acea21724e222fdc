package redirect

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
)

var (
	// ErrUnknownPod is returned for a pod that the last Set did not name, or that could not be enrolled.
	ErrUnknownPod = errors.New("pod is not enrolled")
	// ErrSuspended is returned by Listeners between Suspend and Resume.
	ErrSuspended = errors.New("redirect is suspended")
	// ErrForeignPins is returned by Open if the instance's pins are of an incompatible version: CleanUp removes them.
	ErrForeignPins = errors.New("pinned maps are of an incompatible version: run cleanup first")
	// ErrSharedCgroup is returned by Open if the kubelet's cgroup is the root, or has processes in cgroups below it.
	ErrSharedCgroup = errors.New("cgroup is not the kubelet's alone")
	// ErrNoFamily is returned if the pod has no address, or no listener, of the family.
	ErrNoFamily = errors.New("pod does not have this address family")
	// ErrNoPort is returned by HopSocket if none of the low ports can be bound.
	ErrNoPort = errors.New("no port of 512 to 1023 is free")
)

// UnsupportedFeature says what the kernel lacks. It Is ebpf.ErrNotSupported.
type UnsupportedFeature struct {
	Name    string
	Minimum string // the kernel that has it
	Err     error  // what the kernel said
}

func (u *UnsupportedFeature) Error() string {
	return fmt.Sprintf("%s not supported (needs Linux %s): %v", u.Name, u.Minimum, u.Err)
}

// Is makes every UnsupportedFeature an ebpf.ErrNotSupported.
func (u *UnsupportedFeature) Is(target error) bool { return target == ebpf.ErrNotSupported }

// Unwrap gives the kernel's own error.
func (u *UnsupportedFeature) Unwrap() error { return u.Err }
