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

// learnt remembers lessons, of each pod by itself, so that no pod can unteach another: at most limit of a pod; one more
// takes the place of another.
type learnt struct {
	limit int
	mu    sync.RWMutex // protects seen
	seen  map[string]map[netip.AddrPort]lesson
}

func (l *learnt) get(uid string, a netip.AddrPort) lesson {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.seen[uid][a]
}

func (l *learnt) put(uid string, a netip.AddrPort, x lesson) {
	if l.get(uid, a) == x {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.seen == nil {
		l.seen = map[string]map[netip.AddrPort]lesson{}
	}
	of := l.seen[uid]
	if of == nil {
		of = map[netip.AddrPort]lesson{}
		l.seen[uid] = of
	}
	if _, ok := of[a]; !ok && len(of) >= l.limit {
		for victim := range of {
			delete(of, victim)
			break
		}
	}
	of[a] = x
}

// forget drops the lessons of a pod that has left.
func (l *learnt) forget(uid string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.seen, uid)
}
