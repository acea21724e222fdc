package compile

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// following is a Dir that follows a directory by its events alone.
func following(t *testing.T, poll time.Duration) (path string, w *World, d *Dir, log *syncBuffer) {
	t.Helper()
	path, w, log = t.TempDir(), NewWorld(Config{}), &syncBuffer{}
	d = NewDir(DirConfig{Path: path, World: w, Poll: poll, Log: slog.New(slog.NewTextHandler(log, nil))})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	eventually(t, "first read", d.Loaded)
	return path, w, d, log
}

type syncBuffer struct {
	sync.Mutex
	b bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.Lock()
	defer s.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) count(what string) int {
	s.Lock()
	defer s.Unlock()
	return strings.Count(s.b.String(), what)
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		if ok() {
			return
		}
		<-time.After(2 * time.Millisecond)
	}
	t.Fatalf("not in time: %s", what)
}

func write(t *testing.T, name string, docs ...string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(strings.Join(docs, "\n---\n")), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestChangesAreFollowed(t *testing.T) {
	path, w, _, _ := following(t, time.Hour)
	file := filepath.Join(path, "all.yaml")
	has := func(uid, addr string) func() bool {
		return func() bool {
			p := pod(t, w, uid)
			return p != nil && len(p.Addrs) == 1 && p.Addrs[0].String() == addr
		}
	}
	start := time.Now()
	write(t, file, nsShop, podDoc("p", "10.0.0.1", ""))
	eventually(t, "new file", has("u-p", "10.0.0.1"))
	t.Logf("visible after %v", time.Since(start))
	write(t, file, nsShop, podDoc("p", "10.0.0.2", ""))
	eventually(t, "changed in place", has("u-p", "10.0.0.2"))
	write(t, filepath.Join(path, ".all.yaml.tmp"), nsShop, podDoc("p", "10.0.0.3", ""))
	if err := os.Rename(filepath.Join(path, ".all.yaml.tmp"), file); err != nil {
		t.Fatal(err)
	}
	eventually(t, "renamed into place", has("u-p", "10.0.0.3"))
	if err := os.Rename(file, filepath.Join(path, "other.yml")); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(path, "q.yaml"), podDoc("q", "10.0.0.4", ""))
	eventually(t, "another file", has("u-q", "10.0.0.4"))
	if pod(t, w, "u-p") == nil {
		t.Error("a file that was only renamed lost its objects")
	}
	if err := os.Remove(filepath.Join(path, "other.yml")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "removed", func() bool { return pod(t, w, "u-p") == nil })
}

func TestPollFindsWhatNoEventTells(t *testing.T) {
	path, w, _, _ := following(t, 20*time.Millisecond)
	// The file that a link in the directory leads to lies elsewhere: its changes make no event.
	target := filepath.Join(t.TempDir(), "t.yaml")
	write(t, target, nsShop)
	if err := os.Symlink(target, filepath.Join(path, "l.yaml")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "link", func() bool { n, _ := w.Namespaces(); return n["shop"] })
	write(t, target, nsShop, podDoc("p", "10.0.0.1", ""))
	eventually(t, "target", func() bool { return pod(t, w, "u-p") != nil })
}

func TestProblemsAreLoggedOnceAndListed(t *testing.T) {
	path, w, d, log := following(t, 10*time.Millisecond)
	write(t, filepath.Join(path, "b.yaml"), nsShop, podDoc("p", "nonsense", ""), "kind: {", "apiVersion: apps/v1\nkind: Deployment")
	eventually(t, "problems", func() bool { return len(d.Problems()) == 2 && len(d.Ignored()) == 1 })
	write(t, filepath.Join(path, "c.yaml"), podDoc("q", "10.0.0.2", ""))
	eventually(t, "another file", func() bool { return pod(t, w, "u-q") != nil })
	eventually(t, "log", func() bool { return log.count("object refused") > 0 })
	if log.count("object refused") != 2 || log.count("object ignored") != 1 {
		t.Errorf("%d refused, %d ignored in the log", log.count("object refused"), log.count("object ignored"))
	}
	write(t, filepath.Join(path, "b.yaml"), nsShop)
	eventually(t, "mended", func() bool { return len(d.Problems()) == 0 && len(d.Ignored()) == 0 })
}

func TestAFileThatCannotBeReadStaysInForce(t *testing.T) {
	path, w := t.TempDir(), NewWorld(Config{})
	d := NewDir(DirConfig{Path: path, World: w})
	file := filepath.Join(path, "a.yaml")
	write(t, file, nsShop)
	if err := d.Load(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(file, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := d.Load(); err != nil {
		t.Fatal(err)
	}
	if n, _ := w.Namespaces(); !n["shop"] {
		t.Error("the namespace went")
	}
}

func TestAMissingDirectoryIsAnError(t *testing.T) {
	d := NewDir(DirConfig{Path: filepath.Join(t.TempDir(), "x"), World: NewWorld(Config{})})
	if d.Load() == nil || d.Run(context.Background()) == nil {
		t.Error("no error")
	}
}
