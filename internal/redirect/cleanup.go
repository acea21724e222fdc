package redirect

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
)

// CleanUp takes an instance back, without any state of a process: what is attached, pinned, and set in every namespace
// that can still be found. Live captured connections end. No instance, or half of one, is no error.
func CleanUp(cfg Config) error {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	if _, err := os.Stat(rootDir(cfg.BPFFS)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	unlock, err := lockInstances(cfg.BPFFS)
	if err != nil {
		return err
	}
	defer unlock()
	errs := []error{cleanDir(cfg, instanceDir(cfg)), cleanDir(cfg, temporaryDir(cfg))}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if entries, err := os.ReadDir(rootDir(cfg.BPFFS)); err == nil && len(entries) == 0 {
		if err := os.Remove(rootDir(cfg.BPFFS)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove directory for pins: %w", err)
		}
	}
	return nil
}

// cleanDir detaches first, so that nothing is captured that has nowhere to go; the namespaces come next, by the map that
// the pins still hold; the pins last.
func cleanDir(cfg Config, dir string) error {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	links, err := filepath.Glob(filepath.Join(dir, "link_*"))
	if err != nil {
		return err
	}
	for _, pin := range links {
		if err := dropLink(pin); err != nil {
			return fmt.Errorf("detach %s: %w", filepath.Base(pin), err)
		}
	}
	cookies, err := pinnedCookies(dir)
	if err != nil {
		return err
	}
	for _, cookie := range cookies {
		if err := dropPodLinks(podDir(dir, cookie)); err != nil {
			return fmt.Errorf("detach from netns %d: %w", cookie, err)
		}
	}
	if err := restoreAll(cfg, filepath.Join(dir, redirectMapFlUndos)); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove pins: %w", err)
	}
	return nil
}

// restoreAll restores every namespace of the pinned map that still lives.
func restoreAll(cfg Config, pin string) error {
	m, err := ebpf.LoadPinnedMap(pin, &ebpf.LoadPinOptions{ReadOnly: true})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open %s: %w", filepath.Base(pin), err)
	}
	defer m.Close()
	undos, cookies := map[uint64]redirectFlUndo{}, map[uint64]bool{}
	var cookie uint64
	var undo redirectFlUndo
	entries := m.Iterate()
	for entries.Next(&cookie, &undo) {
		undos[cookie], cookies[cookie] = undo, true
	}
	if err := entries.Err(); err != nil {
		return fmt.Errorf("list enrolled pods: %w", err)
	}
	found, err := findNetNS(cfg, cookies)
	if err != nil {
		return err
	}
	var errs []error
	for cookie, ns := range found {
		undo := undos[cookie]
		err := ns.Do(func() error { return restore(cfg, &undo) })
		if err != nil {
			errs = append(errs, fmt.Errorf("restore %s: %w", ns.path, err))
		}
		errs = append(errs, ns.Close())
	}
	return errors.Join(errs...)
}
