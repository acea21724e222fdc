package node

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

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

// link is the Keeper across reconnects: while the keeper is away, calls wait for it as long as their contexts allow.
type link struct {
	path string
	log  *slog.Logger

	mu     sync.Mutex // protects the rest
	client *socket.Client
	up     chan struct{} // closed when client is set
}

var _ Keeper = (*link)(nil)

func newLink(path string, log *slog.Logger) *link {
	return &link{path: path, log: log, up: make(chan struct{})}
}

// run connects and delivers the keeper's events until the context ends.
func (l *link) run(ctx context.Context, h *pods) error {
	for pause := 20 * time.Millisecond; ctx.Err() == nil; pause = min(2*pause, time.Second) {
		began := time.Now()
		if err := l.session(ctx, h); ctx.Err() == nil {
			l.log.Warn("keeper is away", "err", err)
		}
		if time.Since(began) > 5*time.Second {
			pause = 20 * time.Millisecond
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
	return nil
}

func (l *link) session(ctx context.Context, h *pods) error {
	dctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	c, err := socket.Dial(dctx, l.path)
	if err != nil {
		return err
	}
	h.begin()
	l.set(c)
	defer l.set(nil)
	l.log.Info("keeper connected")
	return c.Run(ctx, h)
}

func (l *link) set(c *socket.Client) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.client = c
	if c != nil {
		close(l.up)
		return
	}
	l.up = make(chan struct{})
}

// get waits for a client.
func (l *link) get(ctx context.Context) (*socket.Client, error) {
	for {
		l.mu.Lock()
		c, up := l.client, l.up
		l.mu.Unlock()
		if c != nil {
			return c, nil
		}
		select {
		case <-up:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the keeper: %w", ctx.Err())
		}
	}
}

// Sockets is Keeper.
func (l *link) Sockets(ctx context.Context, uid string, family, n int) ([]int, error) {
	c, err := l.get(ctx)
	if err != nil {
		return nil, err
	}
	return c.Sockets(ctx, uid, family, n)
}

// Hop is Keeper.
func (l *link) Hop(ctx context.Context, uid string, client netip.Addr) (int, error) {
	c, err := l.get(ctx)
	if err != nil {
		return -1, err
	}
	return c.Hop(ctx, uid, client)
}

// Sign is Keeper.
func (l *link) Sign(ctx context.Context, account mesh.Account, leafSHA256 [32]byte, content []byte) ([]byte, error) {
	c, err := l.get(ctx)
	if err != nil {
		return nil, err
	}
	return c.Sign(ctx, account, leafSHA256, content)
}

// Verdicts is Keeper.
func (l *link) Verdicts(ctx context.Context) (map[string]uint64, error) {
	c, err := l.get(ctx)
	if err != nil {
		return nil, err
	}
	return c.Verdicts(ctx)
}

// SaveState is Keeper.
func (l *link) SaveState(ctx context.Context, memfd int) error {
	c, err := l.get(ctx)
	if err != nil {
		return err
	}
	return c.SaveState(ctx, memfd)
}

// LoadState is Keeper.
func (l *link) LoadState(ctx context.Context) (int, error) {
	c, err := l.get(ctx)
	if err != nil {
		return -1, err
	}
	return c.LoadState(ctx)
}
