package node

import (
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

// rareLog logs a cause once, and again only after warnEvery: whoever causes it must not fill the log.
type rareLog struct {
	log *slog.Logger
	mu  sync.Mutex // protects at
	at  map[string]time.Time
}

// due tells whether the cause is to be logged now.
func (w *rareLog) due(cause string) bool {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if last, seen := w.at[cause]; seen && now.Sub(last) < warnEvery {
		return false
	}
	if w.at == nil || len(w.at) >= warnMax {
		w.at = map[string]time.Time{}
	}
	w.at[cause] = now
	return true
}
