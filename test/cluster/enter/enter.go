// Package enter runs programs in the namespaces of a node or of the switch.
package enter

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"fairlead.io/fairlead/test/cluster/cgroup"
	"fairlead.io/fairlead/test/cluster/proc"
)

// Names that this program is called by on its way: outside of the node, and as a process of it.
const (
	enterName = "cluster-enter"
	childName = "cluster-enter-child"
)

// Place is where a program is to run.
type Place struct {
	Process proc.ID     `json:"process"` // process 1 of the node
	Cgroup  cgroup.Tree `json:"cgroup"`  // for the program, as this machine sees it
}

// Command returns what becomes a program in the place: this program, to be executed with those arguments.
func (p Place) Command(args []string) (path string, argv []string, err error) {
	encoded, err := json.Marshal(p)
	return "/proc/self/exe", append([]string{enterName, string(encoded)}, args...), err
}

// Main is this program on its way into a node. It returns false if it was not called so, else the program's exit code.
func Main(args []string) (called bool, code int, err error) {
	switch filepath.Base(args[0]) {
	case enterName:
	case childName:
		return true, 1, become(args[1:])
	default:
		return false, 0, nil
	}
	if len(args) < 3 {
		return true, 1, errors.New("called by hand")
	}
	var p Place
	if err := json.Unmarshal([]byte(args[1]), &p); err != nil {
		return true, 1, err
	}
	code, err = p.run(args[2:])
	return true, code, err
}

// run enters the node and runs the program there, as a child: a process cannot itself move to another process namespace.
// Only its thread enters, and the program is started from that.
func (p Place) run(args []string) (int, error) {
	runtime.LockOSThread() // for ever: this thread is of no use to others any more
	if err := p.Cgroup.Join(); err != nil {
		return 1, err
	}
	const all = unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWPID | unix.CLONE_NEWCGROUP
	if err := into(p.Process, all); err != nil {
		return 1, err
	}
	for name, value := range map[string]string{"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"} {
		if err := os.Setenv(name, value); err != nil {
			return 1, err
		}
	}
	cmd := &exec.Cmd{Path: "/proc/self/exe", Args: append([]string{childName}, args...), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT)
	if err := cmd.Start(); err != nil {
		return 1, err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	for {
		select {
		case s := <-signals:
			if s != syscall.SIGINT { // which the terminal sends to both
				_ = cmd.Process.Signal(s)
			}
		case err := <-done:
			return exitCode(err)
		}
	}
}

// become makes this process, which is in the node, the program. It ends when the one outside does, also by a SIGKILL. The
// standard library's way to that takes a parent in another process namespace for one that has ended.
func become(args []string) error {
	if len(args) == 0 {
		return errors.New("called by hand")
	}
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("end with the parent: %w", err)
	}
	path, err := exec.LookPath(args[0])
	if err != nil {
		return err
	}
	return fmt.Errorf("execute %s: %w", path, unix.Exec(path, args, os.Environ()))
}

// exitCode is that of the program, as a shell has it: 128 and the signal's number if a signal ended it.
func exitCode(err error) (int, error) {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return 0, err
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal()), nil
	}
	return exit.ExitCode(), nil
}

// Network makes this process the program, in the network namespace of another. It returns only an error.
func Network(target proc.ID, args []string) error {
	runtime.LockOSThread()
	if err := into(target, unix.CLONE_NEWNET); err != nil {
		return err
	}
	path, err := exec.LookPath(args[0])
	if err != nil {
		return err
	}
	return fmt.Errorf("execute %s: %w", path, unix.Exec(path, args, os.Environ()))
}

// into moves the calling thread into namespaces of a process.
func into(target proc.ID, namespaces int) error {
	fd, err := unix.PidfdOpen(target.PID, 0)
	if err != nil {
		return fmt.Errorf("open process %d: %w", target.PID, err)
	}
	defer unix.Close(fd)
	if !target.Alive() { // then the descriptor may be of another
		return fmt.Errorf("process %d has ended", target.PID)
	}
	if namespaces&unix.CLONE_NEWNS != 0 {
		if err := unix.Unshare(unix.CLONE_FS); err != nil { // threads that share a root cannot part
			return fmt.Errorf("unshare root: %w", err)
		}
	}
	if err := unix.Setns(fd, namespaces); err != nil {
		return fmt.Errorf("enter the namespaces of process %d: %w", target.PID, err)
	}
	return nil
}
