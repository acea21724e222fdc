package l7

import (
	"net/netip"
	"sync"
)

// lesson is what a destination turned out to be.
type lesson uint8

const (
	lessonNone        lesson = iota
	lessonHTTP               // clients speak HTTP: wait for it, without dialling
	lessonClientFirst        // opaque, and the client speaks first
	lessonServerFirst        // the server speaks first: do not wait for the client
)

// learnt remembers lessons, at most limit of them; one more takes the place of another.
type learnt struct {
	limit int
	mu    sync.RWMutex // protects seen
	seen  map[netip.AddrPort]lesson
}

func (l *learnt) get(a netip.AddrPort) lesson {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.seen[a]
}

// put remembers a lesson. A server that has once spoken first is never waited for again, whatever a client may say.
func (l *learnt) put(a netip.AddrPort, x lesson) {
	if was := l.get(a); was == x || was == lessonServerFirst {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.seen == nil {
		l.seen = map[netip.AddrPort]lesson{}
	}
	if _, ok := l.seen[a]; !ok && len(l.seen) >= l.limit {
		for victim := range l.seen {
			delete(l.seen, victim)
			break
		}
	}
	l.seen[a] = x
}
