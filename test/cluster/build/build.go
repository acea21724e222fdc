// Package build builds all programs and images of a cluster from modules and Debian packages, and keeps them.
//
// Promises:
//  1. A step's directory appears whole, by a rename, or not at all: a build may be interrupted at any time, and goes on
//     from there.
//  2. Other versions, another recipe or another release of Debian have another key, and so another directory.
//  3. Nothing is installed on this machine. Go's own caches are used, and are not needed any more when the build is done.
package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// CacheDir is the project's cache on this machine.
func CacheDir() string {
	if dir := os.Getenv("FAIRLEAD_CACHE"); dir != "" {
		return dir
	}
	if dir := os.Getenv("XDG_CACHE_HOME"); dir != "" {
		return filepath.Join(dir, "fairlead")
	}
	if home := os.Getenv("HOME"); home != "" {
		return filepath.Join(home, ".cache", "fairlead")
	}
	return "/var/cache/fairlead"
}

// Builder builds into one directory of the cache.
type Builder struct {
	Dir    string    // of this key
	Source string    // the module of Kubernetes' programs
	Out    io.Writer // for what is being done
}

// New returns the builder for what is in the tree at hand.
func New(out io.Writer) (*Builder, error) {
	source, err := findSource()
	if err != nil {
		return nil, err
	}
	key, err := keyOf(source)
	if err != nil {
		return nil, err
	}
	return &Builder{Dir: filepath.Join(CacheDir(), "cluster", key), Source: source, Out: out}, nil
}

// findSource looks above this program and above the working directory.
func findSource() (string, error) {
	const below = "test/cluster/kubernetes"
	var starts []string
	if path, err := os.Executable(); err == nil {
		starts = append(starts, filepath.Dir(path))
	}
	if dir, err := os.Getwd(); err == nil {
		starts = append(starts, dir)
	}
	for _, dir := range starts {
		for {
			if source := filepath.Join(dir, below); isModule(source) {
				return source, nil
			}
			if dir == filepath.Dir(dir) {
				break
			}
			dir = filepath.Dir(dir)
		}
	}
	return "", fmt.Errorf("find %s: neither above this program nor above the working directory", below)
}

func isModule(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "go.mod"))
	return err == nil
}

// Complete says whether everything is built.
func (b *Builder) Complete() bool {
	for _, s := range steps {
		if !b.has(s.name) {
			return false
		}
	}
	return true
}

func (b *Builder) has(step string) bool {
	_, err := os.Stat(filepath.Join(b.Dir, step))
	return err == nil
}

// Run builds what is missing. A second one waits for the first, and finds it done.
func (b *Builder) Run(ctx context.Context) error {
	if b.Complete() {
		return nil
	}
	if err := os.MkdirAll(b.Dir, 0o755); err != nil {
		return err
	}
	unlock, err := Lock(ctx, b.Dir)
	if err != nil {
		return err
	}
	defer unlock()
	if err := b.sweep(); err != nil {
		return err
	}
	for _, s := range steps {
		if b.has(s.name) {
			continue
		}
		fmt.Fprintf(b.Out, "building %s (%s)\n", s.name, s.about)
		if err := b.step(ctx, s); err != nil {
			return fmt.Errorf("build %s: %w", s.name, err)
		}
	}
	return nil
}

// unfinished begins the names of directories that a step still works in.
const unfinished = ".unfinished-"

func (b *Builder) step(ctx context.Context, s step) error {
	dir, err := os.MkdirTemp(b.Dir, unfinished)
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "out")
	w := &work{Builder: b, scratch: filepath.Join(dir, "scratch"), out: out}
	if err := errors.Join(os.Mkdir(out, 0o755), os.Mkdir(w.scratch, 0o755)); err != nil {
		return err
	}
	if err := s.run(w, ctx); err != nil {
		return err
	}
	if err := syncTree(out); err != nil {
		return fmt.Errorf("write to disk: %w", err)
	}
	return os.Rename(out, filepath.Join(b.Dir, s.name))
}

// syncTree writes out the file system that dir is on: a name must not outlive a crash that its content does not.
func syncTree(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
}

// sweep removes what an interrupted build has left. The lock is held, so nobody works in it.
func (b *Builder) sweep() error {
	entries, err := os.ReadDir(b.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), unfinished) {
			if err := os.RemoveAll(filepath.Join(b.Dir, entry.Name())); err != nil {
				return fmt.Errorf("remove what an interrupted build left: %w", err)
			}
		}
	}
	return nil
}
