package build

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// aptTimeout bounds a download of a few megabytes.
const aptTimeout = 10 * time.Minute

func (w *work) packages(ctx context.Context) error {
	if err := w.unpack(ctx, w.out, nodePackages...); err != nil {
		return err
	}
	for _, dir := range []string{"usr/share/doc", "usr/share/man", "usr/share/lintian", "usr/share/locale", "var", "etc"} {
		if err := os.RemoveAll(filepath.Join(w.out, dir)); err != nil {
			return err
		}
	}
	return linkIptables(w.out)
}

// unpack gets packages, and those that they depend on and this machine has not, and unpacks them into dir.
func (w *work) unpack(ctx context.Context, dir string, packages ...string) error {
	archives, err := os.MkdirTemp(w.scratch, "archives")
	if err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(archives, "partial"), 0o755); err != nil {
		return err
	}
	if err := w.download(ctx, archives, packages); err != nil {
		return fmt.Errorf("download Debian packages: %w", err)
	}
	debs, err := filepath.Glob(filepath.Join(archives, "*.deb"))
	if err != nil {
		return err
	}
	for _, deb := range debs {
		if err := w.program(ctx, w.scratch, nil, "dpkg-deb", "--extract", deb, dir); err != nil {
			return fmt.Errorf("unpack %s: %w", filepath.Base(deb), err)
		}
	}
	return mergeUsr(dir)
}

// download asks apt twice if it must: its lists may be missing, or name files that are gone. No lock is needed for what
// changes nothing on this machine.
func (w *work) download(ctx context.Context, archives string, packages []string) error {
	if _, err := exec.LookPath("apt-get"); err != nil {
		return errors.New("no apt-get in PATH: Debian is needed to build")
	}
	ctx, cancel := context.WithTimeout(ctx, aptTimeout)
	defer cancel()
	args := append([]string{"install", "--download-only", "--no-install-recommends", "-qq", "-y",
		"-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=root", "-o", "Dir::Cache::archives=" + archives}, packages...)
	env := []string{"DEBIAN_FRONTEND=noninteractive"}
	if err := w.program(ctx, w.scratch, env, "apt-get", args...); err == nil || ctx.Err() != nil {
		return err
	}
	fmt.Fprintln(w.Out, "apt-get update, and once more")
	if err := w.program(ctx, w.scratch, env, "apt-get", "update", "-qq"); err != nil {
		return err
	}
	return w.program(ctx, w.scratch, env, "apt-get", args...)
}

// mergeUsr moves what packages have in /bin, /sbin and /lib below /usr, where Debian's links lead. Over a root they would
// else take the links' places.
func mergeUsr(root string) error {
	for _, name := range []string{"bin", "sbin", "lib", "lib64"} {
		old := filepath.Join(root, name)
		if _, err := os.Lstat(old); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := moveInto(old, filepath.Join(root, "usr", name)); err != nil {
			return fmt.Errorf("merge /%s: %w", name, err)
		}
	}
	return nil
}

// moveInto moves the files of a tree into another. Files that are there in both are the same one by a link.
func moveInto(from, to string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	for _, entry := range entries {
		source, target := filepath.Join(from, entry.Name()), filepath.Join(to, entry.Name())
		if entry.IsDir() {
			err = moveInto(source, target)
		} else {
			err = os.Rename(source, target)
		}
		if err != nil {
			return err
		}
	}
	return os.Remove(from)
}

// linkIptables makes the links that the package's scripts would: iptables over nftables. Where iptables is installed the
// package was not unpacked, and the links are this machine's.
func linkIptables(root string) error {
	const program = "xtables-nft-multi"
	dir := filepath.Join(root, "usr/sbin")
	if _, err := os.Stat(filepath.Join(dir, program)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, name := range []string{"iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore"} {
		if err := os.Symlink(program, filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}
