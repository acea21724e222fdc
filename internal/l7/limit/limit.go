// Package limit says no in time: to requests beyond a rate (Limiter), and to retries beyond a budget (Budget).
//
// Promises:
//  1. Both are safe for all loops at once: an atomic for each bucket, no lock, no memory after New.
//  2. In any time t no more than t times the rate and one burst are let through, of all and of each identity. Loops that are at the
//     same identity in the same instant may let through one more each while it moves in or out of the table.
//  3. What is refused costs nothing: neither the identity's own rate nor that of all.
//  4. Identities are forgotten only when that makes no difference. While there is no room, those that are new share a bucket.
package limit

import (
	"math"
	"strconv"
	"time"

	"fairlead.io/fairlead/internal/mesh"
)

// Limiter is a mesh.Limit at work.
type Limiter struct {
	total, each rate
	except      map[string]rate
	state       *state
}

// state is what stays when the rates change.
type state struct {
	start time.Time
	total bucket
	table *table // nil until a limit is about identities
}

// New returns a limiter of which nothing has been used yet.
func New(l *mesh.Limit, now time.Time) *Limiter {
	return with(l, &state{start: now})
}

// Renew is a limiter of other rates, in the place of this one: what has been used of those stays used, so that a change gives
// nobody a new burst. Both may be asked while callers go over.
func (l *Limiter) Renew(to *mesh.Limit) *Limiter {
	s := l.state
	if s.table == nil && byIdentity(to) {
		s = &state{start: s.start}
		s.total.full.Store(l.state.total.full.Load())
	}
	return with(to, s)
}

func with(l *mesh.Limit, s *state) *Limiter {
	out := &Limiter{total: newRate(l.Total), each: newRate(l.Each), state: s}
	if !byIdentity(l) {
		return out
	}
	if s.table == nil {
		s.table = newTable()
	}
	out.except = make(map[string]rate, len(l.Except))
	for id, r := range l.Except {
		out.except[id] = newRate(r)
	}
	return out
}

func byIdentity(l *mesh.Limit) bool { return l.Each.PerSecond > 0 || len(l.Except) > 0 }

// Take lets a request of an identity through, or says how long it will be until there is room for one; 0 is through. All callers
// that are nobody are one identity, "".
func (l *Limiter) Take(identity string, now time.Time) (wait time.Duration) {
	at := max(int64(now.Sub(l.state.start)), 0)
	own := l.of(identity)
	var b *bucket
	if own.limits() {
		b = l.state.table.bucket(identity, at)
		if wait := b.take(own, at); wait > 0 {
			return time.Duration(wait)
		}
	}
	if !l.total.limits() {
		return 0
	}
	if wait := l.state.total.take(l.total, at); wait > 0 {
		if b != nil {
			b.giveBack(own)
		}
		return time.Duration(wait)
	}
	return 0
}

func (l *Limiter) of(identity string) rate {
	if len(l.except) > 0 {
		if r, ok := l.except[identity]; ok {
			return r
		}
	}
	return l.each
}

// RetryAfter is the field's value for a wait: whole seconds, at least one, so that who obeys it does not come too early (RFC 9110
// section 10.2.3).
func RetryAfter(wait time.Duration) string {
	s := int64(wait / time.Second)
	if wait%time.Second > 0 || s <= 0 {
		s = max(s, 0) + 1
	}
	return strconv.FormatInt(s, 10)
}

// rate is a mesh.Rate in nanoseconds; the zero value does not limit.
type rate struct {
	every int64 // the time that one request uses up
	ahead int64 // how far ahead of time that may be when one more comes
}

const (
	longest  = int64(1) << 53 // a hundred days: nobody means a rate below one in that time
	farthest = int64(1) << 60
)

func newRate(r mesh.Rate) rate {
	if !(r.PerSecond > 0) { // NaN too
		return rate{}
	}
	every := longest
	if ns := math.Ceil(float64(time.Second) / r.PerSecond); ns < float64(longest) {
		every = max(int64(ns), 1)
	}
	more := int64(max(r.Burst, 1)) - 1
	if more > farthest/every {
		return rate{every, farthest}
	}
	return rate{every, more * every}
}

func (r rate) limits() bool { return r.every > 0 }
