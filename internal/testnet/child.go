package testnet

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// childName is argv[0] of a copy of the calling binary that only enters a pod or a node and becomes another program there.
const childName = "fairlead-testnet-exec"

// child is what such a copy is told, as argv[1].
type child struct {
	Parent   int               `json:"parent"`
	NetNS    string            `json:"netns"`
	MountNS  string            `json:"mountns,omitempty"`
	Binds    map[string]string `json:"binds,omitempty"` // target -> source, in a mount namespace of the program's own
	Hostname string            `json:"hostname,omitempty"`
	Dir      string            `json:"dir,omitempty"`
	UID      int               `json:"uid"`
	GID      int               `json:"gid"`
	Drop     bool              `json:"drop"` // no capability, now or ever
	Path     string            `json:"path"`
	Args     []string          `json:"args"`
	Env      []string          `json:"env"`
}

// The runtime holds init on the main thread, so that what it enters is what the program starts in.
func init() {
	if len(os.Args) != 2 || os.Args[0] != childName {
		return
	}
	var c child
	err := json.Unmarshal([]byte(os.Args[1]), &c)
	if err == nil {
		err = c.become()
	}
	fmt.Fprintln(os.Stderr, "testnet:", err)
	os.Exit(127)
}

func (c *child) become() error {
	if err := c.enter(); err != nil {
		return err
	}
	if c.Dir != "" {
		if err := os.Chdir(c.Dir); err != nil {
			return err
		}
	}
	if err := c.credentials(); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("die with the lab: %w", err)
	}
	if os.Getppid() != c.Parent {
		return errors.New("the lab is gone")
	}
	return fmt.Errorf("exec %s: %w", c.Path, syscall.Exec(c.Path, c.Args, c.Env))
}

func (c *child) enter() error {
	if err := setns(c.NetNS, unix.CLONE_NEWNET); err != nil {
		return err
	}
	if c.MountNS != "" {
		// A thread that shares its root and directory with others may not change its mounts.
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return fmt.Errorf("unshare directory: %w", err)
		}
		if err := setns(c.MountNS, unix.CLONE_NEWNS); err != nil {
			return err
		}
	}
	if len(c.Binds) > 0 {
		if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("unshare mounts: %w", err)
		}
		if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("make mounts private: %w", err)
		}
	}
	for target, source := range c.Binds {
		if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind %s on %s: %w", source, target, err)
		}
	}
	if c.Hostname == "" {
		return nil
	}
	if err := unix.Unshare(unix.CLONE_NEWUTS); err != nil {
		return fmt.Errorf("unshare host name: %w", err)
	}
	return unix.Sethostname([]byte(c.Hostname))
}

func setns(path string, kind int) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Setns(int(f.Fd()), kind); err != nil {
		return fmt.Errorf("enter %s: %w", path, err)
	}
	return nil
}

// credentials changes this thread only, which is the one that goes on: exec ends the others.
func (c *child) credentials() error {
	if c.Drop {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return fmt.Errorf("no new privileges: %w", err)
		}
		_ = unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
		for capability := uintptr(0); capability <= 63; capability++ {
			if err := unix.Prctl(unix.PR_CAPBSET_DROP, capability, 0, 0, 0); err != nil {
				break // past the last one that this kernel has
			}
		}
	}
	if c.UID == 0 && c.GID == 0 && !c.Drop {
		return nil
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0); errno != 0 {
		return fmt.Errorf("setgroups: %w", errno)
	}
	gid, uid := uintptr(c.GID), uintptr(c.UID)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, gid, gid, gid); errno != 0 {
		return fmt.Errorf("setresgid %d: %w", c.GID, errno)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uid, uid, uid); errno != 0 {
		return fmt.Errorf("setresuid %d: %w", c.UID, errno)
	}
	if !c.Drop {
		return nil
	}
	// Whoever stays root loses them here; for others the kernel has done it.
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&header, &none[0]); err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	return nil
}
