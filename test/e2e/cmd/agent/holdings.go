package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netns"
)

func nsHandle(fd int) netns.NsHandle { return netns.NsHandle(fd) }

// held counts what must not grow with the number of pods that have come and gone.
type held struct {
	Networks    int            // network namespaces of the node
	Descriptors map[string]int // of the node's keeper and proxy, by role
	Sockets     map[string]int // those of them that are sockets
	Entries     map[string]int // of the pinned maps: pods, addresses, listeners, ports, nodes, what is to be undone
	Pins        int            // files under the instance's directory
	States      int            // files in the state directory
}

// holdings counts what the product holds on the node.
func holdings(context.Context, []string) (any, error) {
	h := held{Descriptors: map[string]int{}, Sockets: map[string]int{}, Entries: map[string]int{}}
	namespaces, err := networks()
	if err != nil {
		return nil, err
	}
	h.Networks = len(namespaces)
	closeAll(namespaces)
	if err := h.processes(); err != nil {
		return nil, err
	}
	return h, errors.Join(h.maps(), h.files("/var/lib/fairlead", &h.States))
}

// processes counts descriptors of keeper and proxy; of two at a time, as in an update, together.
func (h *held) processes() error {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		text, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err != nil {
			continue // it has ended
		}
		args := strings.Split(string(text), "\x00")
		if len(args) < 2 || filepath.Base(args[0]) != "nodeproxy" || args[1] != "keeper" && args[1] != "proxy" {
			continue
		}
		fds, err := os.ReadDir(filepath.Join(dir, "fd"))
		if err != nil {
			continue
		}
		h.Descriptors[args[1]] += len(fds)
		for _, fd := range fds {
			if to, err := os.Readlink(filepath.Join(dir, "fd", fd.Name())); err == nil && strings.HasPrefix(to, "socket:") {
				h.Sockets[args[1]]++
			}
		}
	}
	return nil
}

// maps counts the entries of the pinned maps of every instance.
func (h *held) maps() error {
	return filepath.WalkDir(nodeRoot+"/sys/fs/bpf/fairlead", func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("list pins: %w", err)
		}
		if d.IsDir() {
			return nil
		}
		h.Pins++
		if name := d.Name(); strings.HasPrefix(name, "fl_") {
			n, err := entries(path)
			if err != nil {
				return fmt.Errorf("count entries of %s: %w", name, err)
			}
			h.Entries[name] += n
		}
		return nil
	})
}

// entries counts what a pinned map holds. Only those are counted that hold something as long as it is needed: not arrays, what
// goes with its socket, or what makes room for what is newer.
func entries(path string) (n int, err error) {
	m, err := ebpf.LoadPinnedMap(path, nil)
	if err != nil {
		return 0, err
	}
	defer m.Close()
	if m.Type() != ebpf.Hash && m.Type() != ebpf.SockHash {
		return 0, nil
	}
	key := make([]byte, m.KeySize())
	for err = m.NextKey(nil, key); err == nil; err = m.NextKey(key, key) {
		if n++; n > int(m.MaxEntries()) {
			return 0, errors.New("it changes all the time")
		}
	}
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		err = nil
	}
	return n, err
}

func (h *held) files(dir string, n *int) error {
	err := filepath.WalkDir(nodeRoot+dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			*n++
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
