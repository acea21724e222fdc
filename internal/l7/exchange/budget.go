package exchange

import "sync/atomic"

const (
	// HighWater is how much a Transport may have pending before codecs stop handing it bodies.
	HighWater = 256 << 10
	// LowWater is that mark while a Budget is tight: when a Write leaves more than this pending, Writable follows once nothing is.
	LowWater = 32 << 10
	// Share is what a stream may hold of a budget that is used up. What would hold more is given up.
	Share = 16 << 10
)

// Budget bounds what the connections of one pod make the proxy keep: input that nobody has taken yet, output that a peer does
// not read, bodies that wait. When half of it is used, it is tight: nobody gets more room than the least. When it is used up,
// new connections and requests are refused, and what holds more than its share is given up. It is used from any goroutine.
// A nil Budget has no limit.
type Budget struct {
	Limit   int64
	Full    func() // called each time that the limit is passed; may be nil
	Refused func() // called for each thing that was refused or given up; may be nil

	used atomic.Int64
}

// Used is how many bytes are kept.
func (b *Budget) Used() int64 {
	if b == nil {
		return 0
	}
	return b.used.Load()
}

// Tight tells whether more than half is in use.
func (b *Budget) Tight() bool { return b != nil && b.used.Load() > b.Limit/2 }

// Over tells whether more than all is in use.
func (b *Budget) Over() bool { return b != nil && b.used.Load() > b.Limit }

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
	now := b.used.Add(int64(n))
	if now > b.Limit && now-int64(n) <= b.Limit && b.Full != nil {
		b.Full()
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

// Of tells whether b is what it counts in.
func (a *Account) Of(b *Budget) bool { return a.b == b }

// Held is how many bytes are kept.
func (a *Account) Held() int { return a.held }

// Pace tells who has stood still, of those who hold something: it is asked now and then.
type Pace struct {
	moved int
	still int
}

// slow is how many bytes make a holder one that moves, between two looks.
const slow = 1 << 10

// Moved says that n bytes have gone on.
func (p *Pace) Moved(n int) { p.moved += n }

// Stuck tells whether hardly a byte has gone on between the last looks. The first look never finds that.
func (p *Pace) Stuck() bool {
	if p.moved < slow {
		p.still++
	} else {
		p.still = 0
	}
	p.moved = 0
	return p.still > stillLooks
}

// stillLooks is how many looks may find the same.
const stillLooks = 2
