package control

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"fairlead.io/fairlead/internal/control/controlpb"
	"fairlead.io/fairlead/internal/identity"
	"fairlead.io/fairlead/internal/mesh"
)

// DiscoverConfig configures a DiscoverClient.
type DiscoverConfig struct {
	Target Target
	// Bundle checks signed states. Without one, none is asked for and none can be restored.
	Bundle *identity.Bundle
	// StateFirst is how long after a change a signed state is asked for; the time doubles while there are more changes, up
	// to 2 s, more for a state of more than 256 KiB, and StateEvery at most: 1 s and 1 min.
	StateFirst, StateEvery time.Duration
	Log                    *slog.Logger
}

// DiscoverClient is the proxy's stream. Its snapshot stays in force while it reconnects.
type DiscoverClient struct {
	cfg      DiscoverConfig
	snapshot atomic.Pointer[mesh.Snapshot]
	state    atomic.Pointer[[]byte]
	synced   atomic.Bool
	up       atomic.Bool
	changed  chan struct{}
	states   chan struct{}
	ended    atomic.Bool // a stream has

	mu   sync.Mutex // protects what follows
	next chan struct{}
	subs map[mesh.Name]bool
	all  bool // subscribed to all services, beside subs
	news []*controlpb.DiscoverUp
	ack  uint64
	kick chan struct{}
	// changes counts what the controller has told, also what changes no version: endpoints that were subscribed to.
	changes uint64
}

// NewDiscoverClient makes a client with an empty snapshot; Run works it.
func NewDiscoverClient(cfg DiscoverConfig) *DiscoverClient {
	if cfg.StateFirst == 0 {
		cfg.StateFirst = time.Second
	}
	if cfg.StateEvery == 0 {
		cfg.StateEvery = time.Minute
	}
	cfg.Log = orDiscard(cfg.Log)
	c := &DiscoverClient{
		cfg: cfg, changed: make(chan struct{}, 1), states: make(chan struct{}, 1),
		next: make(chan struct{}), subs: map[mesh.Name]bool{}, kick: make(chan struct{}, 1),
	}
	c.snapshot.Store(&mesh.Snapshot{})
	return c
}

// Snapshot is the world as it is known now; never nil.
func (c *DiscoverClient) Snapshot() *mesh.Snapshot { return c.snapshot.Load() }

// Synced tells whether the snapshot is the controller's, now or earlier (Restore); false for the first, empty one.
func (c *DiscoverClient) Synced() bool { return c.synced.Load() }

// Connected tells whether the stream stands and has brought the world.
func (c *DiscoverClient) Connected() bool { return c.up.Load() }

// Changed receives a value after each change. It holds one and is for one receiver; others use Wait.
func (c *DiscoverClient) Changed() <-chan struct{} { return c.changed }

// Wait returns as soon as the snapshot satisfies the condition, or with the context's error.
func (c *DiscoverClient) Wait(ctx context.Context, ok func(*mesh.Snapshot) bool) (*mesh.Snapshot, error) {
	for {
		c.mu.Lock()
		next := c.next
		c.mu.Unlock()
		if s := c.Snapshot(); ok(s) {
			return s, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-next:
		}
	}
}

// Subscribe asks for a service's endpoints, from now on. Again is no harm.
func (c *DiscoverClient) Subscribe(n mesh.Name) { c.subscribe(n, true) }

// Unsubscribe ends a subscription; the snapshot forgets the endpoints.
func (c *DiscoverClient) Unsubscribe(n mesh.Name) { c.subscribe(n, false) }

// SubscribeAll asks for the endpoints of all services, from now on, or ends that. What was subscribed to by name stays so.
func (c *DiscoverClient) SubscribeAll(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all == on {
		return
	}
	c.all = on
	c.tell(&controlpb.DiscoverUp{SubscribeAll: &on})
}

func (c *DiscoverClient) subscribe(n mesh.Name, on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.subs[n] == on || on && len(c.subs) >= maxSubscriptions {
		return
	}
	if on {
		c.subs[n] = true
	} else {
		delete(c.subs, n)
	}
	c.tell(change(n, on))
}

// tell has the stream's sender send something. The caller holds the mutex.
func (c *DiscoverClient) tell(up *controlpb.DiscoverUp) {
	c.news = append(c.news, up)
	if len(c.news) > 2*maxSubscriptions { // nobody takes them: the next stream begins with all of them
		c.news = nil
	}
	poke(c.kick)
}

// State is the last signed state, for the keeper to keep; nil before the first. States receives a value after
// each new one.
func (c *DiscoverClient) State() []byte {
	if p := c.state.Load(); p != nil {
		return *p
	}
	return nil
}

// States receives a value after each new State. It holds one.
func (c *DiscoverClient) States() <-chan struct{} { return c.states }

// Await waits until there is a snapshot. It returns false when the first stream has ended before that, which is soon if the
// controller is not there, or the context has.
func (c *DiscoverClient) Await(ctx context.Context) bool {
	_, err := c.Wait(ctx, func(*mesh.Snapshot) bool { return c.Synced() || c.ended.Load() })
	return err == nil && c.Synced()
}

// Restore puts a signed state in force, unless the controller's own word is there already. Its endpoints are
// subscribed to, unless they are there because all were: then those of services in use are the user's to subscribe to. Returns ErrNotOurs for a state that is not the controller's for this node.
func (c *DiscoverClient) Restore(signed []byte) error {
	if c.cfg.Bundle == nil {
		return fmt.Errorf("restore state: %w: no roots to check it by", ErrNotOurs)
	}
	d, at, err := OpenState(signed, c.cfg.Bundle, c.cfg.Target.Node)
	if err != nil {
		return fmt.Errorf("restore state: %w", err)
	}
	if !c.set(d, true) {
		return nil
	}
	for _, e := range d.Endpoints {
		if !d.AllEndpoints {
			c.Subscribe(e.Service)
		}
	}
	c.state.CompareAndSwap(nil, &signed) // the controller may have sent a newer one
	c.cfg.Log.Info("state restored", "version", d.Version, "signed", at)
	return nil
}

// set puts a change in force. The first only: not over anything that is there.
func (c *DiscoverClient) set(d mesh.Delta, first bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if first && c.Synced() {
		return false
	}
	c.snapshot.Store(c.snapshot.Load().Apply(d))
	c.synced.Store(true)
	c.wake()
	poke(c.changed)
	return true
}

// lost notes that a stream has ended.
func (c *DiscoverClient) lost() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended.Store(true)
	c.wake()
}

// wake has everybody who waits look again. The caller holds the mutex.
func (c *DiscoverClient) wake() {
	close(c.next)
	c.next = make(chan struct{})
}

// Run connects and reconnects until the context ends.
func (c *DiscoverClient) Run(ctx context.Context) error {
	return redial(ctx, c.cfg.Log, c.cfg.Target, c.stream)
}

func (c *DiscoverClient) stream(ctx context.Context, conn *grpc.ClientConn) (useful bool, err error) {
	defer c.lost()
	ctx, cancel := context.WithCancel(ctx)
	s, err := controlpb.NewControllerClient(conn).Discover(ctx)
	if err != nil {
		cancel()
		return false, fmt.Errorf("open discover stream: %w", err)
	}
	var sender sync.WaitGroup
	sender.Go(func() { c.send(ctx, s) })
	defer sender.Wait()
	defer cancel()
	defer c.up.Store(false)
	for {
		m, err := s.Recv()
		if err != nil {
			return useful, fmt.Errorf("receive world: %w", err)
		}
		if err := c.receive(m, useful); err != nil {
			return useful, err
		}
		useful = useful || m.GetDelta() != nil
	}
}

func (c *DiscoverClient) receive(m *controlpb.DiscoverDown, begun bool) error {
	if m.GetDelta() != nil {
		d, err := decodeDelta(m.GetDelta())
		if err != nil {
			return fmt.Errorf("decode world: %w", err)
		}
		if !begun && !d.Reset {
			return fmt.Errorf("decode world: the first delta is not whole")
		}
		c.set(d, false)
		c.up.Store(true)
		c.mu.Lock()
		c.ack = d.Version
		c.changes++
		c.mu.Unlock()
		poke(c.kick)
	}
	if m.GetState() != nil && c.cfg.Bundle != nil {
		return c.keep(m.GetState())
	}
	return nil
}

func (c *DiscoverClient) keep(ss *controlpb.SignedState) error {
	raw, err := proto.Marshal(ss)
	if err != nil {
		return fmt.Errorf("encode signed state: %w", err)
	}
	if _, _, err := OpenState(raw, c.cfg.Bundle, c.cfg.Target.Node); err != nil {
		return fmt.Errorf("keep state: %w", err)
	}
	c.state.Store(&raw)
	poke(c.states)
	return nil
}
