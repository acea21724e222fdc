package soak

import (
	"context"
	"slices"
	"strings"
	"time"
)

// restTolerance is how much more there may be at rest than before: the runtime's own, a stream that is being made anew.
const restTolerance = 4

// rest waits until descriptors and goroutines are as many as they were before, or until the limit, and says what is left. Memory is not
// compared: what the runtime holds of it is its own affair, and shows in the trends.
func (p *probe) rest(ctx context.Context, before map[string]float64, limit time.Duration) ([]Left, error) {
	for until := time.Now().Add(limit); ; {
		now, err := p.look(ctx)
		if err != nil {
			return nil, err
		}
		left := leftOver(before, now)
		if !slices.ContainsFunc(left, func(l Left) bool { return l.Growth }) || time.Now().After(until) {
			for i, l := range left {
				if l.Growth && l.Measure == files {
					left[i].Held = p.held(l.Process)
				}
			}
			return left, nil
		}
		if err := pause(ctx, every); err != nil {
			return nil, err
		}
	}
}

func leftOver(before, now map[string]float64) []Left {
	var all []Left
	for _, name := range sorted(before) {
		at := strings.LastIndexByte(name, ' ')
		l := Left{Process: name[:at], Measure: name[at+1:], Before: before[name], After: now[name]}
		if l.Measure != rss && l.Measure != live {
			l.Growth = l.After > l.Before+restTolerance
			all = append(all, l)
		}
	}
	return all
}
