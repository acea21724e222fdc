package balance

import (
	"net/netip"
	"sync"
	"time"
)

// maxSticky bounds the clients that are remembered per service port; one more takes the place of another.
const maxSticky = 16 << 10

// sticky remembers which endpoint a client had.
type sticky struct {
	mu   sync.Mutex // protects seat
	seat map[netip.Addr]seat
}

type seat struct {
	addr  netip.AddrPort
	until time.Time
}

func (s *sticky) get(client netip.Addr, now time.Time) (netip.AddrPort, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x, ok := s.seat[client]
	return x.addr, ok && now.Before(x.until)
}

func (s *sticky) put(client netip.Addr, addr netip.AddrPort, until time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seat == nil {
		s.seat = map[netip.Addr]seat{}
	}
	if _, ok := s.seat[client]; !ok && len(s.seat) >= maxSticky {
		s.makeRoom(until)
	}
	s.seat[client] = seat{addr, until}
}

// makeRoom takes out the one that ends soonest among a few: a whole scan for one client would be too much.
func (s *sticky) makeRoom(until time.Time) {
	var victim netip.Addr
	looked := 0
	for client, x := range s.seat {
		if x.until.Before(until) || !victim.IsValid() {
			victim, until = client, x.until
		}
		if looked++; looked == 16 {
			break
		}
	}
	delete(s.seat, victim)
}
