package kube

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"fairlead.io/fairlead/internal/compile"
)

// FeedConfig configures a Feed.
type FeedConfig struct {
	Source *Source
	World  *compile.World
	// Delay is how long a change waits for others that come with it; 20 ms.
	Delay time.Duration
	// Grace is how long a problem has stood before it is logged: the kinds come in no order, and a pod may be told
	// before its account; 2 s.
	Grace time.Duration
	Log   *slog.Logger
}

// Feed puts what a Source knows into a World, and follows its changes.
type Feed struct {
	cfg FeedConfig

	mu     sync.Mutex // protects what follows
	logged map[string]bool
	since  map[string]time.Time // of problems that stand
}

// NewFeed makes a Feed; Load fills the World, Run follows.
func NewFeed(cfg FeedConfig) *Feed {
	if cfg.Delay == 0 {
		cfg.Delay = 20 * time.Millisecond
	}
	if cfg.Grace == 0 {
		cfg.Grace = 2 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Feed{cfg: cfg, logged: map[string]bool{}, since: map[string]time.Time{}}
}

// Load waits until everything has been read, and puts it into the World as one change.
func (f *Feed) Load(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-f.cfg.Source.Synced():
	}
	f.cfg.Source.begin()
	f.update()
	return nil
}

// Run follows the changes until the context ends. Load comes before it.
func (f *Feed) Run(ctx context.Context) error {
	defer f.cfg.Source.end()
	look := time.NewTicker(f.cfg.Grace)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
			f.report(time.Now())
		case <-f.cfg.Source.changed:
			if !pause(ctx, f.cfg.Delay) {
				return nil
			}
			f.update()
		}
	}
}

func (f *Feed) update() {
	set, gone, leave := f.cfg.Source.take()
	if leave {
		f.cfg.World.SetClosed(true) // before pods that are new could be told to a keeper
	}
	f.cfg.World.Update(set, gone)
	if !leave {
		f.cfg.World.SetClosed(false)
	}
}

// Problems are all that stand.
func (f *Feed) Problems() []compile.Problem {
	out := f.cfg.Source.Problems()
	if f.cfg.World.Closed() {
		out = append(out, compile.Problem{Object: "ConfigMap " + LeaveConfigMap, Err: errLeave})
	}
	return append(out, f.cfg.World.Problems()...)
}

var errLeave = errors.New("while it exists everybody leaves the mesh, and nobody joins")

// report logs each problem once that has stood for a while, as long as it stands.
func (f *Feed) report(now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	since := map[string]time.Time{}
	logged := map[string]bool{}
	for _, p := range f.cfg.World.Problems() {
		text := p.String()
		if since[text] = f.since[text]; since[text].IsZero() {
			since[text] = now
		}
		logged[text] = f.logged[text]
		if !logged[text] && now.Sub(since[text]) >= f.cfg.Grace {
			f.cfg.Log.Warn("object refused", "object", p.Object, "err", p.Err)
			logged[text] = true
		}
	}
	f.since, f.logged = since, logged
}

// pause waits; false if the context has ended.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
