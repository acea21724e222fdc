package loop

import (
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.io/fairlead/internal/l7/exchange"
)

const (
	// turnShare is how many events of one owner a turn serves at most, on a loop that several owners use, and turnTime after how much time
	// it serves no further one: an event can be a hundred answers.
	turnShare = 16
	turnTime  = 100 * time.Microsecond
	// shareFor is how long a loop counts as used by several after it was.
	shareFor = time.Second
)

// Own says whose a connection is, by something that can be compared. A loop shares its turns out among owners: who has many events
// waits for the next turn with what goes beyond his share, and those who have few are served, and sent for, before him.
func Own(t exchange.Transport, owner any) {
	if c, ok := t.(*conn); ok {
		c.owner = owner
	}
}

// share is what a loop knows of its owners.
type share struct {
	last   any       // whose the last event was
	mixed  time.Time // when it was another's last
	first  int       // where the next turn begins among its events
	owners []claim   // of a turn
}

// claim is how many events of a turn are an owner's.
type claim struct {
	owner  any
	events int
}

func (s *share) saw(owner any, now time.Time) {
	if owner != s.last {
		s.last, s.mixed = owner, now
	}
}

// claims counts the events of each owner, those with few first. Events of no connection are nobody's.
func (l *Loop) claims(n int) []claim {
	all := l.share.owners[:0]
	for i := range n {
		owner := l.owner(&l.events[i])
		at := slices.IndexFunc(all, func(c claim) bool { return c.owner == owner })
		if at < 0 {
			at, all = len(all), append(all, claim{owner: owner})
		}
		all[at].events++
	}
	slices.SortFunc(all, func(a, b claim) int { return a.events - b.events })
	l.share.owners = all
	return all
}

func (l *Loop) owner(ev *unix.EpollEvent) any {
	if c := l.conn(int(ev.Fd)); c != nil {
		return c.owner
	}
	return nil
}

// serveShared gives each owner his share of a turn. What goes beyond it stays with epoll, which tells it again; so each turn begins
// elsewhere among the events.
func (l *Loop) serveShared(n int) {
	claims := l.claims(n)
	l.share.first += turnShare
	for _, claim := range claims {
		left, began := turnShare, time.Now()
		for i := range n {
			ev := &l.events[(l.share.first+i)%n]
			if ev.Fd < 0 || l.owner(ev) != claim.owner {
				continue
			}
			l.handle(ev)
			ev.Fd = -1 // a connection that ends is nobody's: it would be met again
			if left--; left == 0 || time.Since(began) > turnTime {
				break
			}
		}
		l.settle()
	}
	clear(l.share.owners)
}
