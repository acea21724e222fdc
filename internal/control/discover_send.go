package control

import (
	"context"
	"time"

	"fairlead.io/fairlead/internal/control/controlpb"
	"fairlead.io/fairlead/internal/mesh"
)

// send tells the controller subscriptions and acknowledgements as they come, and asks for a signed state when
// one is due. It ends with the stream's context.
func (c *DiscoverClient) send(ctx context.Context, s controlpb.Controller_DiscoverClient) {
	c.mu.Lock()
	first := c.whole()
	c.news, c.ack = nil, 0
	c.mu.Unlock()
	if s.Send(first) != nil {
		return // Recv has the reason
	}
	due := time.NewTimer(c.cfg.StateFirst)
	defer due.Stop()
	var acked, signed uint64
	for {
		c.mu.Lock()
		ups, ack := c.news, c.ack
		c.news = nil
		c.mu.Unlock()
		if ack != acked {
			acked = ack
			ups = append(ups, &controlpb.DiscoverUp{Acked: ack})
		}
		for _, up := range ups {
			if s.Send(up) != nil {
				return
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-c.kick:
		case <-due.C:
			if acked == 0 {
				due.Reset(c.cfg.StateFirst)
				continue
			}
			due.Reset(c.cfg.StateEvery)
			if c.cfg.Bundle == nil || acked == signed {
				continue
			}
			if s.Send(&controlpb.DiscoverUp{WantState: true}) != nil {
				return
			}
			signed = acked
		}
	}
}

func change(n mesh.Name, on bool) *controlpb.DiscoverUp {
	if on {
		return &controlpb.DiscoverUp{Subscribe: []*controlpb.Name{encodeName(n)}}
	}
	return &controlpb.DiscoverUp{Unsubscribe: []*controlpb.Name{encodeName(n)}}
}

// whole is a stream's first message: with all subscriptions, so that the first delta has their endpoints. The
// caller holds the mutex.
func (c *DiscoverClient) whole() *controlpb.DiscoverUp {
	out := &controlpb.DiscoverUp{Node: c.cfg.Target.Node}
	for n := range c.subs {
		out.Subscribe = append(out.Subscribe, encodeName(n))
	}
	return out
}
