package l7

import (
	"runtime"
	"sync/atomic"
	"time"
)

const (
	// stretch is how long goroutines may work before somebody looks for loops that wait.
	stretch = 100 * time.Microsecond
	// nudges is how many loops are looked at, at a time.
	nudges = 4
)

// turns is whose turn it is to look for loops.
type turns struct {
	last atomic.Int64 // when it was last done, since began
	next atomic.Uint32
}

var began = time.Now()

// giveWay is called by a goroutine that moves much and may never have to wait. One pod's bytes would else keep all processors from the
// loops, where the requests of all pods are: the runtime does not interrupt a goroutine for 10 ms, nor ask for new events meanwhile.
func (e *Engine) giveWay() {
	now := int64(time.Since(began))
	last := e.turns.last.Load()
	if now-last < int64(stretch) || !e.turns.last.CompareAndSwap(last, now) {
		return
	}
	for range min(nudges, len(e.loops)) {
		e.loops[int(e.turns.next.Add(1))%len(e.loops)].l.Nudge()
	}
	runtime.Gosched()
}
