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
	c.news, c.ack = c.whole(), 0
	c.mu.Unlock()
	if s.Send(&controlpb.DiscoverUp{Node: c.cfg.Target.Node}) != nil {
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

// whole is all subscriptions, in messages of a moderate size. The caller holds the mutex.
func (c *DiscoverClient) whole() []*controlpb.DiscoverUp {
	var out []*controlpb.DiscoverUp
	for n := range c.subs {
		if len(out) == 0 || len(out[len(out)-1].Subscribe) == 256 {
			out = append(out, &controlpb.DiscoverUp{})
		}
		last := out[len(out)-1]
		last.Subscribe = append(last.Subscribe, encodeName(n))
	}
	return out
}
