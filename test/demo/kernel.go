package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/cilium/ebpf"
)

// ours is how the names of the product's programs and maps begin.
const ours = "fl_"

// objects are what the product could leave in the kernel: its programs and maps, by name, and network namespaces'
// mounts. A link keeps its program, a pin keeps its object: so these show them too.
type objects map[string]int

func kernelObjects() (objects, error) {
	o := objects{}
	for id := ebpf.ProgramID(0); ; {
		next, err := ebpf.ProgramGetNextID(id)
		if errors.Is(err, os.ErrNotExist) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("list programs: %w", err)
		}
		id = next
		if p, err := ebpf.NewProgramFromID(id); err == nil {
			if info, err := p.Info(); err == nil && strings.HasPrefix(info.Name, ours) {
				o["program "+info.Name]++
			}
			p.Close()
		}
	}
	for id := ebpf.MapID(0); ; {
		next, err := ebpf.MapGetNextID(id)
		if errors.Is(err, os.ErrNotExist) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("list maps: %w", err)
		}
		id = next
		if m, err := ebpf.NewMapFromID(id); err == nil {
			if info, err := m.Info(); err == nil && strings.HasPrefix(info.Name, ours) {
				o["map "+info.Name]++
			}
			m.Close()
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	o["mounts"] = strings.Count(string(mounts), "\n")
	return o, nil
}

// beyond counts what is here and was not before.
func (o objects) beyond(before objects) int {
	n := 0
	for k, v := range o {
		n += max(0, v-before[k])
	}
	return n
}

// settles is how long the kernel may take to free what nobody holds any more: links and mounts go on a turn of its own.
const settles = 2 * time.Second

// leftSince counts what is here and was not before, as soon as that is nothing, or after a while.
func leftSince(before objects) (int, error) {
	for deadline := time.Now().Add(settles); ; {
		now, err := kernelObjects()
		if err != nil {
			return 0, err
		}
		n := now.beyond(before)
		if n == 0 || time.Now().After(deadline) {
			return n, nil
		}
		<-time.After(50 * time.Millisecond)
	}
}
