package node

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// writeEtc writes the files that tell this node from the machine and from others.
func (s Spec) writeEtc(root string) error {
	id := sha256.Sum256([]byte("cluster node " + s.Name))
	for name, content := range map[string]string{
		"hostname":    s.Name + "\n",
		"hosts":       "127.0.0.1 localhost\n" + s.Hosts,
		"machine-id":  fmt.Sprintf("%x\n", id[:16]),
		"resolv.conf": "# there is nobody to ask outside the cluster\n",
	} {
		path := filepath.Join(root, "etc", name)
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) { // it may be a link
			return err
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			return fmt.Errorf("write /etc/%s: %w", name, err)
		}
	}
	for _, link := range s.Links {
		path := filepath.Join(root, link.Path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := os.Symlink(link.Target, path); err != nil {
			return err
		}
	}
	return nil
}

// machineSysctls are those that the kubelet writes though they are the whole machine's, with the values it wants. It gets
// files to write to.
var machineSysctls = map[string]string{
	"kernel/panic":              "10",
	"kernel/panic_on_oops":      "1",
	"kernel/keys/root_maxkeys":  "1000000",
	"kernel/keys/root_maxbytes": "25000000",
	"vm/overcommit_memory":      "1",
	"vm/panic_on_oom":           "0",
}

func hideSysctls(root string) error {
	dir := filepath.Join(root, "run/sysctl")
	for name, value := range machineSysctls {
		file, target := filepath.Join(dir, name), filepath.Join(root, "proc/sys", name)
		if _, err := os.Stat(target); err != nil {
			continue // not in this kernel
		}
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, []byte(value+"\n"), 0o644); err != nil {
			return err
		}
		if err := unix.Mount(file, target, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("hide sysctl %s: %w", name, err)
		}
	}
	return nil
}

// networkSysctls are the node's own: they belong to its network namespace.
var networkSysctls = map[string]string{
	"net/ipv4/ip_forward":             "1",
	"net/ipv4/conf/all/rp_filter":     "0",
	"net/ipv4/conf/default/rp_filter": "0",
	"net/ipv6/conf/all/forwarding":    "1",
	// Pods of one node reach each other over a bridge; without this an answer goes past the translation of a Service.
	"net/bridge/bridge-nf-call-iptables": "1",
}

func setSysctls() error {
	for name, value := range networkSysctls {
		err := os.WriteFile(filepath.Join("/proc/sys", name), []byte(value), 0)
		switch {
		case errors.Is(err, fs.ErrNotExist) && filepath.Dir(name) == "net/bridge":
			return errors.New("the kernel has no br_netfilter: modprobe br_netfilter")
		case errors.Is(err, fs.ErrNotExist): // a kernel without IPv6
		case err != nil:
			return fmt.Errorf("set sysctl %s: %w", name, err)
		}
	}
	return nil
}
