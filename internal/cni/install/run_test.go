package install

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

// safeBuffer is what a logger of another goroutine writes to.
type safeBuffer struct {
	sync.Mutex
	b bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.Lock()
	defer s.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.Lock()
	defer s.Unlock()
	return s.b.String()
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		<-time.After(10 * time.Millisecond)
	}
}

func TestRunKeepsTheEntryThere(t *testing.T) {
	for name, poll := range map[string]time.Duration{"told": time.Hour, "looking": 20 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			c := mustConfig(t, nil)
			mustMkdir(t, c.BinDir)
			var log safeBuffer
			c.Poll, c.Log = poll, slog.New(slog.NewTextHandler(&log, nil))
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- Run(ctx, c) }()
			defer func() {
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
			}()
			has := func(file, text string) func() bool {
				return func() bool {
					b, _ := os.ReadFile(filepath.Join(c.ConfDir, file))
					return strings.Contains(string(b), text)
				}
			}
			waitFor(t, "word of the wait", func() bool { return strings.Contains(log.String(), "no network configuration") })
			mustWrite(t, filepath.Join(c.ConfDir, "10-lab.conflist"), bridge)
			waitFor(t, "the entry", has("10-lab.conflist", DefaultType))
			mustWrite(t, filepath.Join(c.ConfDir, "10-lab.conflist"), bridge)
			waitFor(t, "the repair", has("10-lab.conflist", DefaultType))
			mustWrite(t, filepath.Join(c.ConfDir, "05-new.conf"), single)
			waitFor(t, "the new first one", has("05-new.conf"+madeSuffix, DefaultType))
			if err := os.Remove(filepath.Join(c.BinDir, DefaultType)); err != nil {
				t.Fatal(err)
			}
			waitFor(t, "the binary", func() bool { _, err := os.Stat(filepath.Join(c.BinDir, DefaultType)); return err == nil })
			mustWrite(t, filepath.Join(c.ConfDir, "01-broken.conf"), "{")
			waitFor(t, "word of the broken one", func() bool { return strings.Contains(log.String(), "01-broken.conf") })
		})
	}
}
