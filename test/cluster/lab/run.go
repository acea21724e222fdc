package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.io/fairlead/test/cluster/config"
	"fairlead.io/fairlead/test/cluster/enter"
	"fairlead.io/fairlead/test/cluster/proc"
)

// guestPrefix begins the records of programs that a user runs on the switch: they hold its network.
const guestPrefix = "guest-"

// place is where a user's programs run on a node: beside the services, as those of a login.
func (l *Lab) place(n config.Node) (enter.Place, error) {
	id, ok := l.records().Get(n.Name)
	if !ok {
		return enter.Place{}, fmt.Errorf("node %s does not run", n.Name)
	}
	tree, err := l.cgroup()
	return enter.Place{Process: id, Cgroup: tree.Sub(n.Name + "/user.slice")}, err
}

// onNode is a command that runs on a node.
func (l *Lab) onNode(ctx context.Context, n config.Node, args []string) (*exec.Cmd, error) {
	place, err := l.place(n)
	if err != nil {
		return nil, err
	}
	path, argv, err := place.Command(args)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, path)
	cmd.Args = argv
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt is for us, and we end it
	cmd.WaitDelay = time.Second
	return cmd, nil
}

// Exec makes this process the program, on the node of that name. It returns only an error.
func (l *Lab) Exec(name string, args []string) error {
	n, err := l.node(name)
	if err != nil {
		return err
	}
	place, err := l.place(n)
	if err != nil {
		return err
	}
	path, argv, err := place.Command(args)
	if err != nil {
		return err
	}
	return fmt.Errorf("execute this program: %w", unix.Exec(path, argv, os.Environ()))
}

// Switch makes this process the program, in the switch's network. It returns only an error. The process is recorded, so
// that Down ends it: it would hold the network.
func (l *Lab) Switch(args []string) error {
	target, ok := l.records().Get(switchRecord)
	if !ok {
		return errors.New("the switch does not run")
	}
	if err := l.pruneGuests(); err != nil {
		return err
	}
	own, err := proc.Of(os.Getpid())
	if err != nil {
		return err
	}
	if err := l.records().Put(guestPrefix+strconv.Itoa(own.PID), own); err != nil {
		return err
	}
	return enter.Network(target, args)
}

// pruneGuests forgets those that have ended.
func (l *Lab) pruneGuests() error {
	all, err := l.records().All()
	if err != nil {
		return err
	}
	for name, id := range all {
		if strings.HasPrefix(name, guestPrefix) && !id.Alive() {
			if err := l.records().Delete(name); err != nil {
				return err
			}
		}
	}
	return nil
}

// Client makes this process kubectl or helm, as the cluster's administrator. It returns only an error.
func (l *Lab) Client(path string, args []string) error {
	if err := os.Setenv("KUBECONFIG", l.Kubeconfig()); err != nil {
		return err
	}
	return fmt.Errorf("execute %s: %w", path, unix.Exec(path, append([]string{path}, args...), os.Environ()))
}
