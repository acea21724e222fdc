package node

import (
	"context"
	"errors"
	"fmt"

	"fairlead.io/fairlead/internal/l7"
	"fairlead.io/fairlead/internal/mesh"
)

// ErrPlain is returned for a connection that does not prove who it is, to a pod that wants to know.
var ErrPlain = errors.New("takes connections over mutual TLS of the mesh only")

// authorizePlain decides on a connection without a certificate by what the table says of the pod. A pod's connections to
// itself are its own affair. Of a pod that the table does not know nothing can be told: who comes to it waits, and is
// refused if that lasts.
func (b *brain) authorizePlain(a *l7.Arrival) error {
	if a.Pod.Has(a.Peer.Addr()) {
		return nil
	}
	row := b.world.Snapshot().Pod(a.Pod.UID)
	switch {
	case row == nil:
		return fmt.Errorf("policy of the pod: %w", l7.ErrUndecided)
	case row.Policy == mesh.PolicyAllow:
		return nil
	}
	return fmt.Errorf("%s/%s %w", row.Name.Namespace, row.Workload, ErrPlain)
}

// Decided waits until the table knows the pod.
func (b *brain) Decided(ctx context.Context, p *l7.Pod) {
	_, _ = b.world.Wait(ctx, func(s *mesh.Snapshot) bool { return s.Pod(p.UID) != nil })
}
