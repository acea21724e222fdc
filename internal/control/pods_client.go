package control

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"

	"fairlead.io/fairlead/internal/control/controlpb"
	"fairlead.io/fairlead/internal/mesh"
)

// Assignment is what the controller wants of a keeper. It never changes; a new one comes in its place.
type Assignment struct {
	Version    uint64
	Pods       []mesh.Enrolment // all pods of the node; a captured pod that is not in it is to be released
	Namespaces map[string]bool  // all that are known, with whether they are enrolled
	Roots      []byte           // PEM
}

// PodsClient is the keeper's stream.
type PodsClient struct {
	target  Target
	log     *slog.Logger
	state   atomic.Pointer[Assignment]
	changed chan struct{}
	up      atomic.Bool
	report  struct {
		sync.Mutex
		seen     uint64
		captured map[string][]netip.Addr
		kick     chan struct{} // holds one
	}
}

// NewPodsClient makes a client; Run works it.
func NewPodsClient(t Target, log *slog.Logger) *PodsClient {
	c := &PodsClient{target: t, log: orDiscard(log), changed: make(chan struct{}, 1)}
	c.report.kick = make(chan struct{}, 1)
	return c
}

// Assignment is the last one received; nil before the first.
func (c *PodsClient) Assignment() *Assignment { return c.state.Load() }

// Changed receives a value after each new Assignment. It holds one: a slow receiver sees the newest.
func (c *PodsClient) Changed() <-chan struct{} { return c.changed }

// Connected tells whether the stream stands and has brought an Assignment.
func (c *PodsClient) Connected() bool { return c.up.Load() }

// SetCaptured says everything that is captured now, after the Assignment of version seen was put in force (0 if
// none was). It is sent at once, and again at each reconnect.
func (c *PodsClient) SetCaptured(seen uint64, captured map[string][]netip.Addr) {
	c.report.Lock()
	c.report.seen, c.report.captured = seen, maps.Clone(captured)
	c.report.Unlock()
	poke(c.report.kick)
}

// Run connects and reconnects until the context ends.
func (c *PodsClient) Run(ctx context.Context) error {
	return redial(ctx, c.log, c.target, c.stream)
}

func (c *PodsClient) stream(ctx context.Context, conn *grpc.ClientConn) (useful bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	s, err := controlpb.NewControllerClient(conn).Pods(ctx)
	if err != nil {
		cancel()
		return false, fmt.Errorf("open pods stream: %w", err)
	}
	var sender sync.WaitGroup
	sender.Go(func() { c.send(ctx, s) })
	defer sender.Wait()
	defer cancel()
	defer c.up.Store(false)
	for {
		m, err := s.Recv()
		if err != nil {
			return useful, fmt.Errorf("receive pods: %w", err)
		}
		next, err := c.apply(m, useful)
		if err != nil {
			return useful, fmt.Errorf("apply pods: %w", err)
		}
		c.state.Store(next)
		useful = true
		c.up.Store(true)
		poke(c.changed)
	}
}

// send reports whenever there is something new to report. It ends with the stream's context.
func (c *PodsClient) send(ctx context.Context, s controlpb.Controller_PodsClient) {
	up := &controlpb.PodsUp{Node: c.target.Node}
	for {
		c.report.Lock()
		up.Version, up.Captured = c.report.seen, encodeCaptured(c.report.captured)
		c.report.Unlock()
		if err := s.Send(up); err != nil {
			return // Recv has the reason
		}
		select {
		case <-ctx.Done():
			return
		case <-c.report.kick:
		}
	}
}

func (c *PodsClient) apply(m *controlpb.PodsDown, again bool) (*Assignment, error) {
	next := &Assignment{Version: m.GetVersion()}
	if old := c.state.Load(); old != nil && again {
		next.Pods, next.Namespaces, next.Roots = old.Pods, old.Namespaces, old.Roots
	} else if m.GetPods() == nil || m.GetNamespaces() == nil || m.GetTrust() == nil {
		return nil, fmt.Errorf("first message is not whole")
	}
	if m.GetPods() != nil {
		pods, err := decodeEnrolments(m.GetPods())
		if err != nil {
			return nil, err
		}
		next.Pods = pods
	}
	if m.GetNamespaces() != nil {
		next.Namespaces = decodeNamespaces(m.GetNamespaces())
	}
	if m.GetTrust() != nil {
		next.Roots = m.GetTrust().GetRoots()
	}
	return next, nil
}

// poke leaves one value in a channel that holds one.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
