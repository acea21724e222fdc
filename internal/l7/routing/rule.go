package routing

import (
	"fmt"
	"strconv"

	"fairlead.io/fairlead/internal/l7/balance"
	"fairlead.io/fairlead/internal/mesh"
)

// Rule is a rule, ready for use.
type Rule struct {
	*mesh.Rule
	Filters  Filters
	Backends []Backend
	Mirrors  []MirrorTo
	Faults   Faults
	total    uint64 // of the weights
}

// Backend is where a share of a rule's requests goes.
type Backend struct {
	*mesh.Backend
	Filters Filters
	Mirrors []MirrorTo
	Cluster *balance.Cluster // nil if there is no such Service or port
	Label   string           // "namespace/name:port", for the receiving proxy
	until   uint64           // the sum of the weights up to this one
}

// MirrorTo is where copies of a share of the requests go.
type MirrorTo struct {
	*mesh.Mirror
	Filters Filters // of its backend
	Cluster *balance.Cluster
	Label   string // as a Backend's
}

// Draws tells whether a copy is sent, for a random number.
func (m *MirrorTo) Draws(random uint32) bool {
	if m.Of == 0 {
		return m.Part > 0
	}
	return uint64(random)*uint64(m.Of)>>32 < uint64(m.Part)
}

func newRule(r *mesh.Rule, clusters Clusters) (*Rule, error) {
	out := &Rule{Rule: r}
	var err error
	if out.Filters, err = newFilters(&r.Filters); err != nil {
		return nil, err
	}
	if out.Mirrors, err = mirrors(r.Filters.Mirrors, clusters); err != nil {
		return nil, err
	}
	if out.Faults, err = newFaults(r.Policy); err != nil {
		return nil, err
	}
	for i := range r.Backends {
		b := Backend{Backend: &r.Backends[i], Label: label(&r.Backends[i])}
		if b.Mirrors, err = mirrors(b.Backend.Filters.Mirrors, clusters); err != nil {
			return nil, fmt.Errorf("backend %s: %w", b.Service, err)
		}
		if b.Filters, err = newFilters(&r.Backends[i].Filters); err != nil {
			return nil, fmt.Errorf("backend %s: %w", b.Service, err)
		}
		if b.Broken == "" {
			b.Cluster = clusters(b.Service, b.Port)
		}
		out.total += uint64(b.Weight)
		b.until = out.total
		out.Backends = append(out.Backends, b)
	}
	return out, nil
}

func label(b *mesh.Backend) string { return b.Service.String() + ":" + strconv.Itoa(int(b.Port)) }

func mirrors(from []mesh.Mirror, clusters Clusters) (out []MirrorTo, err error) {
	for i := range from {
		m := MirrorTo{Mirror: &from[i], Label: label(&from[i].Backend)}
		if m.Filters, err = newFilters(&m.Backend.Filters); err != nil {
			return nil, fmt.Errorf("mirror to %s: %w", m.Backend.Service, err)
		}
		if m.Backend.Broken == "" {
			m.Cluster = clusters(m.Backend.Service, m.Backend.Port)
		}
		out = append(out, m)
	}
	return out, nil
}

// Pick draws a backend by weight, for a random number; nil if no backend has any.
func (r *Rule) Pick(random uint32) *Backend {
	if r.total == 0 {
		return nil
	}
	at := uint64(random) * r.total >> 32
	for i := range r.Backends {
		if at < r.Backends[i].until {
			return &r.Backends[i]
		}
	}
	return nil
}
