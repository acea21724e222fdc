package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"fairlead.io/fairlead/test/cluster/cgroup"
)

// inside is the node's cgroup as the node sees it: the root of every hierarchy.
func (s Spec) inside() cgroup.Tree { return cgroup.Tree{Hierarchies: s.Cgroup.Hierarchies, Path: "/"} }

// command is what becomes the service: this program, which joins its cgroup first. So no part of the service ever runs
// outside of it.
func (s Spec) command(service Service) (*exec.Cmd, error) {
	encoded, err := json.Marshal(s.inside().Sub("system.slice/" + service.Name + ".service"))
	if err != nil {
		return nil, err
	}
	log, err := os.OpenFile(filepath.Join(LogDir, service.Name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	args := append([]string{serviceName, string(encoded)}, service.Args...)
	return &exec.Cmd{Path: "/proc/self/exe", Args: args, Env: os.Environ(), Dir: "/", Stdout: log, Stderr: log,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true}}, nil
}

func serviceMain(args []string) error {
	if len(args) < 3 {
		return errors.New("called by hand")
	}
	var own cgroup.Tree
	if err := json.Unmarshal([]byte(args[1]), &own); err != nil {
		return err
	}
	if err := errors.Join(own.Renew(), own.Join()); err != nil { // as systemd does when it restarts a unit
		return err
	}
	path, err := exec.LookPath(args[2])
	if err != nil {
		return err
	}
	return fmt.Errorf("execute %s: %w", path, unix.Exec(path, args[2:], os.Environ()))
}
