package control

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"

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
	pace := pace{first: c.cfg.StateFirst, most: c.cfg.StateEvery}
	var due <-chan time.Time // nil unless there is a change that no state was asked for
	var acked, asked uint64
	for {
		c.mu.Lock()
		ups, ack, changes := c.news, c.ack, c.changes
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
		if acked != 0 && changes != asked && due == nil && c.cfg.Bundle != nil {
			due = time.After(pace.wait(time.Now()))
		}
		select {
		case <-ctx.Done():
			return
		case <-c.kick:
		case <-due:
			if s.Send(&controlpb.DiscoverUp{WantState: true}) != nil {
				return
			}
			asked, due = changes, nil
		}
	}
}

// pace is how often a signed state is asked for: soon after a change that comes alone, for what the node starts from
// must not be old, and ever less often while one follows the other.
type pace struct {
	first, most time.Duration
	next        time.Duration
	quiet       time.Time // from when on a change comes alone
}

func (p *pace) wait(now time.Time) time.Duration {
	if p.next = min(2*p.next, p.most); now.After(p.quiet) || p.next == 0 {
		p.next = p.first
	}
	p.quiet = now.Add(p.next + p.most)
	return p.next
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
	if c.all {
		out.SubscribeAll = proto.Bool(true)
	}
	for n := range c.subs {
		out.Subscribe = append(out.Subscribe, encodeName(n))
	}
	return out
}
