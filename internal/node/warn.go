package node

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	// warnEvery is how often the same cause is logged.
	warnEvery = 10 * time.Minute
	// warnMax bounds the causes that are remembered.
	warnMax = 256
)

// onceWarner logs a cause once, and again only after warnEvery: whoever causes it must not fill the log.
type onceWarner struct {
	log *slog.Logger
	mu  sync.Mutex // protects at
	at  map[string]time.Time
}

func (w *onceWarner) once(ctx context.Context, msg, cause string, args ...any) {
	now := time.Now()
	w.mu.Lock()
	last, seen := w.at[cause]
	if w.at == nil || len(w.at) >= warnMax {
		w.at = map[string]time.Time{}
	}
	if !seen || now.Sub(last) >= warnEvery {
		w.at[cause] = now
	}
	w.mu.Unlock()
	if !seen || now.Sub(last) >= warnEvery {
		w.log.WarnContext(ctx, msg, args...)
	}
}
