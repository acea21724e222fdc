package exchange

import (
	"sync/atomic"
	"time"
)

const (
	// HighWater is how much a Transport may have pending before codecs stop handing it bodies.
	HighWater = 256 << 10
	// LowWater is that mark while a Budget is tight: when a Write leaves more than this pending, Writable follows once nothing is.
	LowWater = 32 << 10
	// Share is what a stream may hold of a budget that is short. What would hold more is given up.
	Share = 16 << 10
	// Least is what may be held and stand still: an attacker would need very many of those.
	Least = 4 << 10
)

// Budget bounds what the connections of one pod make the proxy keep: input that nobody has taken yet, output that a peer does
// not read, bodies that wait. It narrows by steps, so that those who do no harm are served to the end:
//
//   - above a third it is tight: nobody gets more room than the least;
//   - above two thirds it is short: what would hold more than its share is given up, unless it flows; and from then until it is
//     not tight any more, so is what stands still;
//   - above five sixths it is critical: what would hold more than its share is given up even if it flows;
//   - above Limit it is full: new connections and requests are refused.
//
// What is short with the budget that it is part of is so, too, but only its own limit makes it full. It is used from any
// goroutine. A nil Budget has no limit.
type Budget struct {
	Limit   int64
	Whole   *Budget // of all pods; may be nil
	Short   func()  // called each time that it becomes short; may be nil
	Refused func()  // called for each thing that was refused or given up; may be nil

	used atomic.Int64
}

// Used is how many bytes are kept.
func (b *Budget) Used() int64 {
	if b == nil {
		return 0
	}
	return b.used.Load()
}

// Tight tells whether nobody should get more room than the least.
func (b *Budget) Tight() bool { return b.above(2) }

// IsShort tells whether what does not flow has to keep to its share.
func (b *Budget) IsShort() bool { return b.above(4) }

// Critical tells whether everybody has to keep to his share.
func (b *Budget) Critical() bool { return b.above(5) }

// Full tells whether there is no room for anybody new.
func (b *Budget) Full() bool { return b.over(6) }

func (b *Budget) above(sixths int64) bool { return b.over(sixths) || b != nil && b.Whole.over(sixths) }

// over tells whether more than so many sixths are in use.
func (b *Budget) over(sixths int64) bool { return b != nil && b.used.Load() > b.Limit/6*sixths }

// Within tells whether b is all, or a part of it.
func (b *Budget) Within(all *Budget) bool { return b != nil && (b == all || b.Whole == all) }

// HighWater is the mark that codecs keep to.
func (b *Budget) HighWater() int {
	if b.Tight() {
		return LowWater
	}
	return HighWater
}

// Refuse counts something that is refused, or given up, for want of budget.
func (b *Budget) Refuse() {
	if b != nil && b.Refused != nil {
		b.Refused()
	}
}

func (b *Budget) add(n int) {
	now, short := b.used.Add(int64(n)), b.Limit/6*4
	if now > short && now-int64(n) <= short && b.Short != nil {
		b.Short()
	}
	if b.Whole != nil {
		b.Whole.add(n)
	}
}

// Account is what one holder keeps of a Budget. The zero value counts nothing. It is its holder's: one goroutine uses it.
type Account struct {
	b    *Budget
	held int
}

// Open has what is kept from now on counted in b.
func (a *Account) Open(b *Budget) {
	n := a.held
	a.Set(0)
	a.b = b
	a.Set(n)
}

// Set says how many bytes are kept now.
func (a *Account) Set(n int) {
	if n == a.held {
		return
	}
	if a.b != nil {
		a.b.add(n - a.held)
	}
	a.held = n
}

// Add says that n bytes more are kept, or fewer.
func (a *Account) Add(n int) { a.Set(a.held + n) }

// Of tells whether b is what it counts in, or the whole of that.
func (a *Account) Of(b *Budget) bool { return a.b.Within(b) }

// Held is how many bytes are kept.
func (a *Account) Held() int { return a.held }

// Pace tells who has stood still, of those who hold something: it is asked now and then.
type Pace struct {
	moved, before int // since the last look; between the two before
	still         int
	looked        time.Time
}

// slow is how many bytes make a holder one that moves, between two looks.
const slow = 1 << 10

// Moved says that n bytes have gone on.
func (p *Pace) Moved(n int) { p.moved += n }

// Stuck tells whether hardly a byte has gone on between the last looks. The first look never finds that, and looks that follow too
// soon, as for two budgets, count as one.
func (p *Pace) Stuck(now time.Time) bool {
	if now.Sub(p.looked) < minLook {
		return p.still > stillLooks
	}
	p.looked = now
	if p.moved < slow {
		p.still++
	} else {
		p.still = 0
	}
	p.before, p.moved = p.moved, 0
	return p.still > stillLooks
}

// Flows tells whether much more has gone on of late than is held now.
func (p *Pace) Flows(held int) bool { return max(p.moved, p.before) >= 4*held }

// minLook is how far apart looks have to be.
const minLook = 500 * time.Millisecond

// stillLooks is how many looks may find the same.
const stillLooks = 2
