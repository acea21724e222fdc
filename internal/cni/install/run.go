package install

import (
	"context"
	"fmt"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settle is how long Run lets a burst of changes end before it looks: agents write their files in several steps.
const settle = 50 * time.Millisecond

// Run installs and repairs until ctx ends. What goes wrong is logged and tried again; nothing of it ends Run.
func Run(ctx context.Context, c Config) error {
	c = c.defaults()
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		// The machine has no inotify instance left: looking every Poll must do.
		c.Log.Warn("no notice of changed files", "err", err)
		return c.keep(ctx, nil, nil)
	}
	defer watcher.Close()
	return c.keep(ctx, watcher, watcher.Events)
}

func (c Config) keep(ctx context.Context, watcher *fsnotify.Watcher, events <-chan fsnotify.Event) error {
	var said string
	for {
		if watcher != nil {
			// Directories come and go, and with them their watches; adding one twice is harmless.
			_ = watcher.Add(c.ConfDir)
			_ = watcher.Add(c.BinDir)
		}
		state, err := Install(c)
		if c.Told != nil {
			c.Told(state, err)
		}
		if now := describe(state, err); now != said || state.Changed {
			said = now
			c.say(state, err)
		}
		if !c.waitForChange(ctx, watcher, events) {
			return nil
		}
	}
}

// waitForChange returns false when ctx has ended.
func (c Config) waitForChange(ctx context.Context, watcher *fsnotify.Watcher, events <-chan fsnotify.Event) bool {
	wake := time.NewTimer(c.Poll)
	defer wake.Stop()
	var errs <-chan error
	if watcher != nil {
		errs = watcher.Errors
	}
	for settling := false; ; {
		select {
		case <-ctx.Done():
			return false
		case <-wake.C:
			return true
		case err := <-errs:
			c.Log.Warn("notice of changed files", "err", err)
			return true
		case <-events:
			if !settling {
				settling = true
				wake.Reset(settle)
			}
		}
	}
}

func describe(s State, err error) string { return fmt.Sprint(s.Conf, s.Problems, err) }

func (c Config) say(s State, err error) {
	for _, problem := range s.Problems {
		c.Log.Warn("network configuration not joined", "err", problem)
	}
	switch {
	case err != nil:
		c.Log.Error("plugin not installed", "err", err)
	case s.Conf == "":
		c.Log.Info("no network configuration to join yet", "dir", c.ConfDir)
	default:
		c.Log.Info("plugin installed", "conf", s.Conf)
	}
}
