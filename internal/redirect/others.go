package redirect

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Others returns the names of programs that are not ours and see every connect() as ours do: attached to the same cgroup,
// or to one above it. Such a program may have changed the address before, or change it after ours has seen it. A program
// that ends meanwhile is not named.
func (r *Redirect) Others() ([]string, error) {
	cgroup, err := os.Open(r.cfg.Cgroup)
	if err != nil {
		return nil, fmt.Errorf("open cgroup: %w", err)
	}
	defer cgroup.Close()
	var names []string
	for hook, own := range map[ebpf.AttachType]string{
		ebpf.AttachCGroupInet4Connect: redirectProgFlConnect4,
		ebpf.AttachCGroupInet6Connect: redirectProgFlConnect6,
	} {
		attached, err := link.QueryPrograms(link.QueryOptions{Target: int(cgroup.Fd()), Attach: hook, QueryFlags: unix.BPF_F_QUERY_EFFECTIVE})
		if err != nil {
			return nil, fmt.Errorf("list programs at %v: %w", hook, err)
		}
		for _, p := range attached.Programs {
			name, err := programName(p.ID)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, err
			}
			if name != own { // ours is another instance's too
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

func programName(id ebpf.ProgramID) (string, error) {
	p, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return "", fmt.Errorf("open program %d: %w", id, err)
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil {
		return "", fmt.Errorf("ask program %d: %w", id, err)
	}
	if info.Name == "" {
		return fmt.Sprintf("program %d", id), nil
	}
	return info.Name, nil
}
