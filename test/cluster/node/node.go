// Package node makes a node: a process tree in mount, network, host name, IPC, process and cgroup namespaces of its own,
// whose root is this machine's, overlaid. What runs in it takes it for a machine.
//
// Promises:
//  1. What a node writes goes to its own memory, or to the directories in Spec.Disk: nothing of this machine changes,
//     sysctls included.
//  2. Whoever ends the node's process 1 ends all of it: the kernel takes processes, mounts and links with it.
//  3. Each service runs in a cgroup of its own, in every hierarchy, as under systemd: system.slice/NAME.service.
//  4. A service that ends is started again.
package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"fairlead.io/fairlead/test/cluster/cgroup"
	"fairlead.io/fairlead/test/cluster/proc"
)

// Names that this program is called by when it becomes a part of a node. They are not commands of a user.
const (
	enterName   = "cluster-node-enter" // in its cgroups, before its cgroup namespace
	initName    = "cluster-node-init"  // process 1
	serviceName = "cluster-node-service"
)

// Spec is all that a node is made of.
type Spec struct {
	Name     string      `json:"name"`
	Root     string      `json:"root"`     // an empty directory to mount on; nothing is seen there from outside
	Overlay  string      `json:"overlay"`  // a directory that is copied over this machine's root
	Tools    string      `json:"tools"`    // bound to ToolsDir, read-only
	Config   string      `json:"config"`   // bound to ConfigDir, read-only
	Disk     string      `json:"disk"`     // what outlives process 1: directories for each of DiskDirs
	Hosts    string      `json:"hosts"`    // lines for /etc/hosts
	Links    []Link      `json:"links"`    // symbolic links to make
	Cgroup   cgroup.Tree `json:"cgroup"`   // the root that the node sees
	Services []Service   `json:"services"` // in the order in which they are started
}

// Link is a symbolic link in the node.
type Link struct {
	Path   string `json:"path"`
	Target string `json:"target"`
}

// Service is a program that always runs.
type Service struct {
	Name string   `json:"name"`
	Args []string `json:"args"` // the first is the program
}

// Places in the node.
const (
	ToolsDir  = "/opt/cluster"
	ConfigDir = "/etc/kubernetes"
	LogDir    = "/var/log/cluster"
)

// DiskDirs are the directories of a node that outlive its process 1, as a disk outlives a reboot. Images and containers
// are among it, which could not lie on an overlay.
var DiskDirs = []string{"/var/lib", "/var/log", "/etc/cni", "/opt/cni"}

// LogFile is where the log of a service, or of "init", is seen from outside.
func (s Spec) LogFile(service string) string { return filepath.Join(s.LogDir(), service+".log") }

// LogDir is where all logs are seen from outside.
func (s Spec) LogDir() string { return filepath.Join(s.Disk, LogDir) }

// Start starts the node's process 1 and returns when its root stands and its services are being started.
func Start(ctx context.Context, s Spec, record func(proc.ID) error) (proc.ID, error) {
	for _, dir := range append(DiskDirs, LogDir) {
		if err := os.MkdirAll(filepath.Join(s.Disk, dir), 0o755); err != nil {
			return proc.ID{}, err
		}
	}
	if err := os.MkdirAll(s.Root, 0o755); err != nil {
		return proc.ID{}, err
	}
	if err := s.Cgroup.Make(); err != nil {
		return proc.ID{}, err
	}
	file := filepath.Join(filepath.Dir(s.Root), "node.json")
	encoded, err := json.Marshal(s)
	if err == nil {
		err = os.WriteFile(file, encoded, 0o644)
	}
	if err != nil {
		return proc.ID{}, err
	}
	log, err := os.OpenFile(s.LogFile("init"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return proc.ID{}, err
	}
	defer log.Close()
	cmd := &exec.Cmd{Path: "/proc/self/exe", Args: []string{enterName, file}, Dir: "/", Stdout: log, Stderr: log,
		Env: []string{"PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"}}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true,
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWPID}
	id, err := proc.Spawn(ctx, cmd, record)
	if err != nil {
		return id, fmt.Errorf("start node %s: %w (log: %s)", s.Name, err, log.Name())
	}
	return id, nil
}

// Main is this program as a part of a node. It returns false if it was not called as one.
func Main(args []string) (bool, error) {
	switch filepath.Base(args[0]) {
	case enterName:
		return true, enter(args)
	case initName:
		return true, initMain(args)
	case serviceName:
		return true, serviceMain(args)
	}
	return false, nil
}

// enter puts process 1 into the node's cgroups, and only then into a namespace of them, whose root they so become. A
// namespace is a thread's: the one that has it executes what goes on.
func enter(args []string) error {
	err := proc.Child{}.Await()
	if err != nil {
		return err
	}
	spec, err := read(args)
	if err == nil {
		err = spec.Cgroup.Join()
	}
	if err == nil {
		err = unshareAndExec(args[1])
	}
	proc.Child{}.Ready(err)
	return err
}

func unshareAndExec(file string) error {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("unshare cgroups: %w", err)
	}
	return fmt.Errorf("become process 1: %w", unix.Exec("/proc/self/exe", []string{initName, file}, os.Environ()))
}

// read reads what Start wrote.
func read(args []string) (s Spec, err error) {
	if len(args) != 2 {
		return s, errors.New("called by hand")
	}
	b, err := os.ReadFile(args[1])
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	return s, err
}
