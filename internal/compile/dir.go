package compile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

// DirConfig configures a Dir.
type DirConfig struct {
	Path  string
	World *World
	// Debounce is how long a file must have been quiet before it is read; 50 ms, three times that at most.
	Debounce time.Duration
	// Poll is how often the directory is read without being told; 5 s.
	Poll time.Duration
	Log  *slog.Logger
}

// Dir reads the *.yaml and *.yml files of a directory into a World and follows their changes. Files whose names
// begin with a dot, and directories below, are passed over.
type Dir struct {
	cfg    DirConfig
	seen   map[string]stamp
	files  *files
	logged map[string]bool

	mu       sync.Mutex // protects what follows
	problems []Problem
	ignored  []Problem
	loaded   bool
}

type stamp struct {
	size  int64
	mtime time.Time
	inode uint64
}

// NewDir makes a Dir; Load reads it once, Run follows it.
func NewDir(cfg DirConfig) *Dir {
	if cfg.Debounce == 0 {
		cfg.Debounce = 50 * time.Millisecond
	}
	if cfg.Poll == 0 {
		cfg.Poll = 5 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Dir{cfg: cfg, seen: map[string]stamp{}, files: newFiles(), logged: map[string]bool{}}
}

// Loaded tells whether the directory has been read once.
func (d *Dir) Loaded() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.loaded
}

// Pending is what has not been read yet: the directory, before Load.
func (d *Dir) Pending() []string {
	if d.Loaded() {
		return nil
	}
	return []string{"source"}
}

// Problems are all that stand, of files and of the world, in order of file and line.
func (d *Dir) Problems() []Problem {
	d.mu.Lock()
	out := slices.Clone(d.problems)
	d.mu.Unlock()
	return append(out, d.cfg.World.Problems()...)
}

// Ignored are the documents of kinds that do not matter.
func (d *Dir) Ignored() []Problem {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.ignored)
}

// Load reads what has changed since the last time. It is not for use beside Run.
func (d *Dir) Load() error {
	entries, err := os.ReadDir(d.cfg.Path)
	if err != nil {
		return fmt.Errorf("read directory: %w", err)
	}
	var set []Object
	var gone []Key
	there := map[string]bool{}
	changed := false
	for _, e := range entries {
		name := filepath.Join(d.cfg.Path, e.Name())
		if !wanted(e.Name()) {
			continue
		}
		st, text, err := d.read(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		there[name] = true
		if err != nil {
			d.cfg.Log.Warn("read file", "file", name, "err", err)
			continue // what it said before stays in force
		}
		if text == nil {
			continue
		}
		changed = true
		d.seen[name] = st
		s, g := d.files.put(name, text)
		set, gone = append(set, s...), append(gone, g...)
	}
	for name := range d.seen {
		if !there[name] {
			changed = true
			delete(d.seen, name)
			s, g := d.files.drop(name)
			set, gone = append(set, s...), append(gone, g...)
		}
	}
	if changed {
		set, gone = d.current(set, gone)
		d.cfg.World.Update(set, gone)
	}
	d.report()
	return nil
}

// current makes one change of those of several files: what one file has given up, another may have taken.
func (d *Dir) current(set []Object, gone []Key) ([]Object, []Key) {
	keys := map[Key]bool{}
	for _, o := range set {
		keys[o.Key] = true
	}
	for _, k := range gone {
		keys[k] = true
	}
	set, gone = nil, nil
	for k := range keys {
		if names := d.files.defs[k]; len(names) > 0 {
			set = append(set, d.files.of[names[0]].objects[k])
			continue
		}
		gone = append(gone, k)
	}
	return set, gone
}

func wanted(name string) bool {
	return !strings.HasPrefix(name, ".") && (strings.HasSuffix(name, ".yaml") || strings.HasSuffix(name, ".yml"))
}

// read returns nil for a file that is as it was.
func (d *Dir) read(name string) (stamp, []byte, error) {
	st, err := os.Stat(name)
	if err != nil {
		return stamp{}, nil, err
	}
	if !st.Mode().IsRegular() {
		return stamp{}, nil, errors.New("not a regular file")
	}
	now := stamp{size: st.Size(), mtime: st.ModTime(), inode: inode(st)}
	if old, known := d.seen[name]; known && old == now {
		return now, nil, nil
	}
	if st.Size() > maxFile {
		return stamp{}, nil, fmt.Errorf("%d bytes, at most %d are read", st.Size(), maxFile)
	}
	text, err := os.ReadFile(name)
	if text == nil {
		text = []byte{}
	}
	return now, text, err
}

// report logs each problem once, as long as it stands.
func (d *Dir) report() {
	problems, ignored := d.files.problems()
	d.mu.Lock()
	d.problems, d.ignored, d.loaded = problems, ignored, true
	d.mu.Unlock()
	standing := map[string]bool{}
	for _, p := range d.Problems() {
		standing[p.String()] = true
		if !d.logged[p.String()] {
			d.cfg.Log.Warn("object refused", "file", p.File, "line", p.Line, "object", p.Object, "err", p.Err)
		}
	}
	for _, p := range ignored {
		standing[p.String()] = true
		if !d.logged[p.String()] {
			d.cfg.Log.Info("object ignored", "file", p.File, "line", p.Line, "object", p.Object)
		}
	}
	d.logged = standing
}

// Run reads the directory and follows it until the context ends.
func (d *Dir) Run(ctx context.Context) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch directory: %w", err)
	}
	defer watcher.Close()
	if err := watcher.Add(d.cfg.Path); err != nil {
		return fmt.Errorf("watch directory %s: %w", d.cfg.Path, err)
	}
	if err := d.Load(); err != nil {
		return err
	}
	poll := time.NewTicker(d.cfg.Poll)
	defer poll.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, open := <-watcher.Events:
			if !open {
				return errors.New("watch directory: the watch ended")
			}
			if !d.quiet(ctx, watcher) {
				return nil
			}
		case err := <-watcher.Errors:
			d.cfg.Log.Warn("watch directory", "err", err) // an overflow: reading everything mends it
		case <-poll.C:
		}
		if err := d.Load(); err != nil {
			d.cfg.Log.Warn("directory not read", "err", err) // perhaps it is being replaced
		}
	}
}

// quiet waits until no event has come for the debounce time, or for three times as long in all.
func (d *Dir) quiet(ctx context.Context, watcher *fsnotify.Watcher) bool {
	end := time.NewTimer(3 * d.cfg.Debounce)
	defer end.Stop()
	for {
		pause := time.NewTimer(d.cfg.Debounce)
		select {
		case <-ctx.Done():
			pause.Stop()
			return false
		case <-pause.C:
			return true
		case <-end.C:
			pause.Stop()
			return true
		case <-watcher.Events:
			pause.Stop()
		}
	}
}
