// Package exchangetest runs codecs over real connections, for tests.
//
// Promises:
//  1. One goroutine, Loop.Run's, calls all codecs of the loop.
//  2. Close ends every connection and waits for every goroutine.
package exchangetest

import (
	"sync"
	"time"
)

// Loop is an exchange.Loop of one goroutine.
type Loop struct {
	mu    sync.Mutex // protects queue and ended
	queue []func()
	ended bool

	wake  chan struct{}
	done  chan struct{}
	group sync.WaitGroup
	conns map[*Conn]bool // the loop's own
	dirty []*Conn
}

// NewLoop makes a loop; its owner calls Run.
func NewLoop() *Loop {
	return &Loop{wake: make(chan struct{}, 1), done: make(chan struct{}), conns: make(map[*Conn]bool)}
}

// Now implements exchange.Loop.
func (l *Loop) Now() time.Time { return time.Now() }

// Post implements exchange.Loop.
func (l *Loop) Post(f func()) {
	l.mu.Lock()
	if !l.ended {
		l.queue = append(l.queue, f)
	}
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// After implements exchange.Loop.
func (l *Loop) After(d time.Duration, f func()) func() {
	cancelled := false
	t := time.AfterFunc(d, func() {
		l.Post(func() {
			if !cancelled {
				f()
			}
		})
	})
	return func() { cancelled = true; t.Stop() }
}

// Do runs f on the loop and waits for it. It returns false if the loop has ended.
func (l *Loop) Do(f func()) bool {
	ran := make(chan struct{})
	l.Post(func() { f(); close(ran) })
	select {
	case <-ran:
		return true
	case <-l.done:
		return false
	}
}

// Run works until Close.
func (l *Loop) Run() {
	defer close(l.done)
	for {
		l.mu.Lock()
		batch := l.queue
		l.queue = nil
		ended := l.ended
		l.mu.Unlock()
		if ended && len(batch) == 0 {
			return
		}
		for _, f := range batch {
			f()
		}
		for _, c := range l.dirty {
			c.flush()
		}
		l.dirty = l.dirty[:0]
		if len(batch) == 0 {
			<-l.wake
		}
	}
}

// Close aborts the connections and waits until everything has ended.
func (l *Loop) Close() {
	l.Do(func() {
		for c := range l.conns {
			c.Abort()
		}
	})
	l.group.Wait()
	l.mu.Lock()
	l.ended = true
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
	<-l.done
}
