package l7

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

// ledger keeps what the engine records.
type ledger struct {
	mu         sync.Mutex
	requests   []RequestRecord
	closed     []ConnRecord
	handshakes []HandshakeRecord
	events     map[Event]int
}

func (l *ledger) Request(r *RequestRecord) {
	l.mu.Lock()
	defer l.mu.Unlock()
	copied := *r
	copied.Head = nil // valid during the call only
	l.requests = append(l.requests, copied)
}

func (l *ledger) ConnOpened(*ConnRecord) {}

func (l *ledger) ConnClosed(r *ConnRecord) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = append(l.closed, *r)
}

func (l *ledger) ConnRefused(r *ConnRecord) { l.ConnClosed(r) }

func (l *ledger) Handshake(r *HandshakeRecord) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.handshakes = append(l.handshakes, *r)
}

func (l *ledger) Event(_ *Pod, _ Direction, e Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.events == nil {
		l.events = map[Event]int{}
	}
	l.events[e]++
}

// eventually polls until ok, or fails.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
		time.Sleep(2 * time.Millisecond) // between polls; the deadline decides
	}
}

func (l *ledger) event(t *testing.T, e Event, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d of event %v", n, e), func() bool { return l.count(e) >= n })
}

func (l *ledger) count(e Event) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.events[e]
}

// conn waits for a closed connection that matches.
func (l *ledger) conn(t *testing.T, what string, match func(*ConnRecord) bool) (found ConnRecord) {
	t.Helper()
	eventually(t, "closed connection: "+what, func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		for i := range l.closed {
			if match(&l.closed[i]) {
				found = l.closed[i]
				return true
			}
		}
		return false
	})
	return found
}
