package main

import (
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// network is one network namespace of the node, open.
type network struct {
	path string
	fd   int
}

// networks opens every network namespace of the node: the runtime's, and those of all processes.
func networks() ([]network, error) {
	paths, err := filepath.Glob("/proc/1/root/run/netns/*")
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err == nil {
			paths = append(paths, filepath.Join("/proc", e.Name(), "ns/net"))
		}
	}
	seen := map[[2]uint64]bool{}
	var out []network
	for _, path := range paths {
		var st unix.Stat_t
		if unix.Stat(path, &st) != nil || seen[[2]uint64{st.Dev, st.Ino}] {
			continue
		}
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			continue // the process has ended
		}
		if kind, err := unix.IoctlRetInt(fd, unix.NS_GET_NSTYPE); err != nil || kind != unix.CLONE_NEWNET {
			unix.Close(fd)
			continue
		}
		seen[[2]uint64{st.Dev, st.Ino}] = true
		out = append(out, network{path, fd})
	}
	return out, nil
}

func closeAll(ns []network) {
	for _, n := range ns {
		unix.Close(n.fd)
	}
}
