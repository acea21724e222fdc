package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// node becomes a program of the node, in the namespaces of its first process.
func node(_ context.Context, args []string) (any, error) {
	if len(args) == 0 {
		return nil, errors.New("which program?")
	}
	if err := enterNode(); err != nil {
		return nil, err
	}
	path, err := exec.LookPath(args[0])
	if err != nil {
		return nil, err
	}
	return nil, os.NewSyscallError("exec", syscall.Exec(path, args, os.Environ()))
}

// enterNode moves the calling thread into the node's namespaces; it stays locked to the goroutine.
func enterNode() error {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_FS); err != nil { // threads that share their root cannot change mount namespaces
		return os.NewSyscallError("unshare", err)
	}
	for _, ns := range []struct {
		name string
		kind int
	}{{"ipc", unix.CLONE_NEWIPC}, {"uts", unix.CLONE_NEWUTS}, {"net", unix.CLONE_NEWNET}, {"mnt", unix.CLONE_NEWNS}} {
		fd, err := unix.Open("/proc/1/ns/"+ns.name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open %s namespace: %w", ns.name, err)
		}
		err = errors.Join(unix.Setns(fd, ns.kind), unix.Close(fd))
		if err != nil {
			return fmt.Errorf("enter %s namespace: %w", ns.name, err)
		}
	}
	os.Setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	return nil
}
