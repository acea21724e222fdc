package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"fairlead.io/fairlead/internal/identity"
	"fairlead.io/fairlead/internal/keeper/socket"
	"fairlead.io/fairlead/internal/mesh"
)

// Keeper is what the node asks of the keeper.
type Keeper interface {
	Sockets(ctx context.Context, uid string, family, n int) ([]int, error)
	Hop(ctx context.Context, uid string, client netip.Addr) (int, error)
	Sign(ctx context.Context, account mesh.Account, leafSHA256 [32]byte, content []byte) ([]byte, error)
	Verdicts(ctx context.Context) (map[string]uint64, error)
	SaveState(ctx context.Context, memfd int) error
	LoadState(ctx context.Context) (int, error)
}

// link is the Keeper across reconnects: while the keeper is away, calls wait for it as long as their contexts allow, and
// one that the connection's end has cut off is made again on the next.
type link struct {
	path string
	log  *slog.Logger

	mu      sync.Mutex // protects the rest
	client  *socket.Client
	changed chan struct{} // closed when client changes
}

// announce tells every keeper that is met from now on that the proxy can serve.
func (l *link) announce(ctx context.Context) error {
	var c *socket.Client
	for {
		var err error
		if c, err = l.get(ctx, c); err != nil {
			return nil // the end
		}
		if err := c.Serving(ctx); err != nil && !errors.Is(err, socket.ErrClosed) && ctx.Err() == nil {
			l.log.Warn("keeper not told that the proxy can serve", "err", err)
		}
	}
}

var _ Keeper = (*link)(nil)

func newLink(path string, log *slog.Logger) *link {
	return &link{path: path, log: log, changed: make(chan struct{})}
}

const (
	dialTimeout = 5 * time.Second        // of one connect to the keeper, greetings included
	firstPause  = 20 * time.Millisecond  // after a connection that had worked
	lastPause   = 500 * time.Millisecond // after many that had not
)

// run connects and delivers the keeper's events until the context ends.
func (l *link) run(ctx context.Context, h *pods) error {
	for failures := 0; ctx.Err() == nil; {
		connected, err := l.session(ctx, h)
		if connected {
			failures = 0
		}
		if failures++; failures == 1 && ctx.Err() == nil { // once per absence
			l.log.Warn("keeper is away", "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(identity.Backoff(failures, firstPause, lastPause)):
		}
	}
	return nil
}

func (l *link) session(ctx context.Context, h *pods) (connected bool, err error) {
	dctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	c, err := socket.Dial(dctx, l.path)
	if err != nil {
		return false, err
	}
	h.begin()
	defer h.lost()
	l.set(c)
	defer l.set(nil)
	l.log.Info("keeper connected")
	return true, c.Run(ctx, h)
}

func (l *link) set(c *socket.Client) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.client = c
	close(l.changed)
	l.changed = make(chan struct{})
}

// connected tells whether the keeper is there.
func (l *link) connected() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.client != nil
}

// get waits for a client that is not the one which has ended.
func (l *link) get(ctx context.Context, ended *socket.Client) (*socket.Client, error) {
	for {
		l.mu.Lock()
		c, changed := l.client, l.changed
		l.mu.Unlock()
		if c != nil && c != ended {
			return c, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the keeper: %w", ctx.Err())
		}
	}
}

// callTries bounds on how many connections a call is tried: it may be what ends them.
const callTries = 3

func call[T any](ctx context.Context, l *link, f func(*socket.Client) (T, error)) (v T, err error) {
	var c *socket.Client
	for range callTries {
		var gone error
		if c, gone = l.get(ctx, c); gone != nil {
			return v, errors.Join(gone, err)
		}
		if v, err = f(c); !errors.Is(err, socket.ErrClosed) {
			return v, err
		}
	}
	return v, err
}

// Sockets is Keeper.
func (l *link) Sockets(ctx context.Context, uid string, family, n int) ([]int, error) {
	return call(ctx, l, func(c *socket.Client) ([]int, error) { return c.Sockets(ctx, uid, family, n) })
}

// Hop is Keeper.
func (l *link) Hop(ctx context.Context, uid string, client netip.Addr) (int, error) {
	return call(ctx, l, func(c *socket.Client) (int, error) { return c.Hop(ctx, uid, client) })
}

// Sign is Keeper.
func (l *link) Sign(ctx context.Context, account mesh.Account, leafSHA256 [32]byte, content []byte) ([]byte, error) {
	return call(ctx, l, func(c *socket.Client) ([]byte, error) { return c.Sign(ctx, account, leafSHA256, content) })
}

// Verdicts is Keeper.
func (l *link) Verdicts(ctx context.Context) (map[string]uint64, error) {
	return call(ctx, l, func(c *socket.Client) (map[string]uint64, error) { return c.Verdicts(ctx) })
}

// SaveState is Keeper.
func (l *link) SaveState(ctx context.Context, memfd int) error {
	_, err := call(ctx, l, func(c *socket.Client) (struct{}, error) { return struct{}{}, c.SaveState(ctx, memfd) })
	return err
}

// LoadState is Keeper.
func (l *link) LoadState(ctx context.Context) (int, error) {
	return call(ctx, l, func(c *socket.Client) (int, error) { return c.LoadState(ctx) })
}
