package identity

import (
	"container/list"
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"sync"
	"time"
)

const (
	// sessionsEach and sessionsAll bound the sessions of one Resumption and of all. A session takes some 4 KiB.
	sessionsEach = 512
	sessionsAll  = 4096
	// maxTicket bounds what is offered: with a ClientHello that is too long nobody would know us.
	maxTicket = 8 << 10
)

// Destination is whom a session is with: nobody else is offered it.
type Destination struct {
	Addr netip.Addr
	ID   ID
	Node string
}

// Sessions are the sessions that clients may offer, of all Resumptions that share them. The zero value is ready.
type Sessions struct {
	mu    sync.Mutex
	n     int
	owned map[*Resumption]*sessionList
}

// sessionList are the sessions of one Resumption, the last used first.
type sessionList struct {
	by    map[Destination]*list.Element
	order list.List // of *session
}

type session struct {
	to    Destination
	state *tls.ClientSessionState
	chain []*x509.Certificate // of the peer
	since time.Time           // the full handshake
}

// Len is how many there are.
func (s *Sessions) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n
}

func (s *Sessions) get(r *Resumption, to Destination) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.owned[r]
	if l == nil || l.by[to] == nil {
		return nil
	}
	l.order.MoveToFront(l.by[to])
	return l.by[to].Value.(*session)
}

// put keeps a session in the place of the last one with its destination.
func (s *Sessions) put(r *Resumption, e *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.retired.Load() { // looked at under the lock: drop has not come yet, or comes after
		return
	}
	l := s.owned[r]
	if l == nil {
		l = &sessionList{by: map[Destination]*list.Element{}}
	}
	s.remove(r, e.to)
	switch {
	case len(l.by) >= sessionsEach:
		s.removeOldest(r)
	case s.n >= sessionsAll:
		s.removeOldest(s.largest())
	}
	if s.owned == nil {
		s.owned = map[*Resumption]*sessionList{}
	}
	s.owned[r] = l // again, if what made room was its last
	l.by[e.to] = l.order.PushFront(e)
	s.n++
}

// largest has the most sessions, so that one with many destinations does not displace those with few.
func (s *Sessions) largest() (r *Resumption) {
	most := 0
	for candidate, l := range s.owned {
		if len(l.by) > most {
			r, most = candidate, len(l.by)
		}
	}
	return r
}

func (s *Sessions) removeOldest(r *Resumption) {
	s.remove(r, s.owned[r].order.Back().Value.(*session).to)
}

// remove takes one out, and its owner with the last.
func (s *Sessions) remove(r *Resumption, to Destination) {
	l := s.owned[r]
	if l == nil || l.by[to] == nil {
		return
	}
	l.order.Remove(l.by[to])
	delete(l.by, to)
	s.n--
	if len(l.by) == 0 {
		delete(s.owned, r)
	}
}

func (s *Sessions) forget(r *Resumption, to Destination) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(r, to)
}

// drop takes out all of one.
func (s *Sessions) drop(r *Resumption) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.owned[r]; l != nil {
		s.n -= len(l.by)
		delete(s.owned, r)
	}
}

// offer is the cache of one handshake: crypto/tls names sessions by server name or address, which says nothing of who
// asks and who is wanted.
type offer struct {
	r     *Resumption
	to    Destination
	chain []*x509.Certificate
	since time.Time
}

var _ tls.ClientSessionCache = (*offer)(nil)

// Get returns the session with the destination, if the peer could still be verified: after a refusal the connection is lost.
func (o *offer) Get(string) (*tls.ClientSessionState, bool) {
	e := o.r.sessions.get(o.r, o.to)
	if e == nil {
		return nil, false
	}
	now := o.r.now()
	if age := now.Sub(e.since); !o.r.live() || age >= resumeFor || !valid(e.chain, now) {
		o.r.sessions.forget(o.r, o.to)
		return nil, false
	}
	o.since = e.since
	return e.state, true
}

// Put keeps a session, or forgets the one that did not work.
func (o *offer) Put(_ string, state *tls.ClientSessionState) {
	ticket, _, err := state.ResumptionState()
	if state == nil || err != nil {
		o.r.sessions.forget(o.r, o.to)
		return
	}
	if len(ticket) <= maxTicket {
		o.r.sessions.put(o.r, &session{to: o.to, state: state, chain: o.chain, since: o.since})
	}
}

func valid(chain []*x509.Certificate, now time.Time) bool {
	for _, c := range chain {
		if now.After(c.NotAfter) {
			return false
		}
	}
	return len(chain) > 0
}
