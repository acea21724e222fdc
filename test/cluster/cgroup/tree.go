package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Tree is one cgroup in all hierarchies, with what is below it.
type Tree struct {
	Hierarchies []Hierarchy `json:"hierarchies"`
	Path        string      `json:"path"` // below each hierarchy's mount
}

// Sub is a cgroup in this one.
func (t Tree) Sub(name string) Tree {
	return Tree{Hierarchies: t.Hierarchies, Path: filepath.Join(t.Path, name)}
}

// Dir is the tree's directory in cgroup2.
func (t Tree) Dir() string {
	for _, h := range t.Hierarchies {
		if h.V2 {
			return filepath.Join(h.Mount, t.Path)
		}
	}
	return ""
}

// Make makes the tree's directories; those that exist are as well.
func (t Tree) Make() error {
	for _, h := range t.Hierarchies {
		if err := t.makeIn(h); err != nil {
			return fmt.Errorf("make cgroup %s in %s: %w", t.Path, h.Mount, err)
		}
	}
	return nil
}

func (t Tree) makeIn(h Hierarchy) error {
	dir := h.Mount
	for _, element := range strings.Split(strings.Trim(t.Path, "/"), "/") {
		parent := dir
		dir = filepath.Join(dir, element)
		if Unified(t.Hierarchies) {
			enableAll(parent)
		}
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if !h.has("cpuset") {
			continue
		}
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} { // empty in a new one, which then takes no process
			if err := inherit(parent, dir, file); err != nil {
				return err
			}
		}
	}
	return nil
}

func inherit(parent, dir, file string) error {
	b, err := os.ReadFile(filepath.Join(parent, file))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, file), b, 0o644)
}

// enableAll enables for the cgroups in dir each controller that there is. One that cannot be is missed by whoever needs it.
func enableAll(dir string) {
	b, _ := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	for _, controller := range strings.Fields(string(b)) {
		_ = os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+controller), 0)
	}
}

// EnableControllers enables in the tree's cgroup2 what pods need, after the processes have left its top.
func (t Tree) EnableControllers() {
	if Unified(t.Hierarchies) {
		enableAll(t.Dir())
	}
}

// Join puts the calling process into the tree, and makes it if need be.
func (t Tree) Join() error {
	if err := t.Make(); err != nil {
		return err
	}
	for _, h := range t.Hierarchies {
		file := filepath.Join(h.Mount, t.Path, "cgroup.procs")
		if err := os.WriteFile(file, []byte("0"), 0); err != nil {
			return fmt.Errorf("join cgroup: %w", err)
		}
	}
	return nil
}

// Renew removes the tree's directories where they are empty, so that it is made anew: to whoever goes by a cgroup's number
// it is another then.
func (t Tree) Renew() error {
	for _, h := range t.Hierarchies {
		_ = os.Remove(filepath.Join(h.Mount, t.Path)) // somebody may still be in it, or it has never been
	}
	return t.Make()
}

// Kill ends every process in the tree. It does not wait: Remove does.
func (t Tree) Kill() error {
	dir := t.Dir()
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0); err != nil {
		return fmt.Errorf("end what is left in cgroup %s: %w", t.Path, err)
	}
	return nil
}

// Remove removes the tree, and waits until what was killed in it is gone.
func (t Tree) Remove(ctx context.Context) error {
	var errs []error
	for _, h := range t.Hierarchies {
		errs = append(errs, removeAll(ctx, filepath.Join(h.Mount, t.Path)))
	}
	return errors.Join(errs...)
}

// Left are the tree's directories that exist.
func (t Tree) Left() []string {
	var left []string
	for _, h := range t.Hierarchies {
		dir := filepath.Join(h.Mount, t.Path)
		if _, err := os.Stat(dir); err == nil {
			left = append(left, dir)
		}
	}
	return left
}

func removeAll(ctx context.Context, top string) error {
	var dirs []string
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("list cgroups: %w", err)
	}
	slices.Reverse(dirs) // children first
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for _, dir := range dirs {
		for err = os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist); err = os.Remove(dir) {
			select {
			case <-ctx.Done():
				return fmt.Errorf("remove cgroup: %w", err)
			case <-tick.C: // the killed are still on their way out
			}
		}
	}
	return nil
}

// RemoveParent removes the cgroup that the tree is in, unless there are others in it.
func (t Tree) RemoveParent() {
	for _, h := range t.Hierarchies {
		_ = os.Remove(filepath.Join(h.Mount, filepath.Dir(t.Path)))
	}
}
