package routing

import (
	"fmt"
	"strings"

	"fairlead.io/fairlead/internal/mesh"
)

// Faults are a policy's, the first to be asked first.
type Faults []Fault

// Fault is a fault, ready for use.
type Fault struct {
	*mesh.Fault
	conditions []condition
}

func newFaults(p *mesh.Traffic) (out Faults, err error) {
	if p == nil {
		return nil, nil
	}
	for i := range p.Faults {
		f := Fault{Fault: &p.Faults[i], conditions: make([]condition, len(p.Faults[i].Match))}
		for j := range f.Match {
			if f.conditions[j], err = newCondition(&f.Match[j]); err != nil {
				return nil, fmt.Errorf("fault %d: %w", i, err)
			}
		}
		out = append(out, f)
	}
	return out, nil
}

// Draw is the first fault that is for a request and is drawn, by a random number from 0 to 1 for each that is for it; nil if none
// is.
func (all Faults) Draw(q *Request, random func() float64) *mesh.Fault {
	for i := range all {
		if all[i].about(q) && random()*100 < all[i].Percent {
			return all[i].Fault
		}
	}
	return nil
}

func (f *Fault) about(q *Request) bool {
	path, query, _ := strings.Cut(q.Path, "?")
	for i := range f.conditions {
		if f.conditions[i].holds(q, path, query) {
			return true
		}
	}
	return len(f.conditions) == 0
}
