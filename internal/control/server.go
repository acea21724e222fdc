package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"fairlead.io/fairlead/internal/control/controlpb"
	"fairlead.io/fairlead/internal/identity"
)

// Config configures a Server.
type Config struct {
	World  World
	CA     *identity.CA
	Bundle *identity.Bundle
	Source identity.Source // the controller's own certificate
	// Tokens tells which node a bearer token stands for, or why for none; the caller is told that, too. Without it
	// there is no bootstrap.
	Tokens  func(ctx context.Context, token string) (node string, err error)
	LeafTTL time.Duration // of the leaves; 4 h
	WarmUp  time.Duration // longest wait for the keepers after a start, before proxies are told anything; 10 s
	Leave   time.Duration // longest wait for proxies before a leaving pod is released; 10 s
	// StateEvery is the shortest time between two signed states of one stream; 1 s.
	StateEvery time.Duration
	Log        *slog.Logger
}

// Server serves the nodes.
type Server struct {
	controlpb.UnimplementedControllerServer
	cfg     Config
	metrics *metrics
	warm    chan struct{} // closed when proxies may be told the world

	mu        sync.Mutex // protects what follows
	roots     chan struct{}
	discovers map[*discover]struct{}
	keepers   map[string]int // streams by node
	acked     chan struct{}  // holds one
}

// NewServer makes a server; Run works it.
func NewServer(cfg Config) *Server {
	if cfg.LeafTTL == 0 {
		cfg.LeafTTL = 4 * time.Hour
	}
	if cfg.WarmUp == 0 {
		cfg.WarmUp = 10 * time.Second
	}
	if cfg.Leave == 0 {
		cfg.Leave = 10 * time.Second
	}
	if cfg.StateEvery == 0 {
		cfg.StateEvery = time.Second
	}
	cfg.Log = orDiscard(cfg.Log)
	return &Server{
		cfg: cfg, metrics: newMetrics(), warm: make(chan struct{}), roots: make(chan struct{}),
		discovers: map[*discover]struct{}{}, keepers: map[string]int{}, acked: make(chan struct{}, 1),
	}
}

// RootsChanged has every keeper told the roots, after the Bundle was replaced.
func (s *Server) RootsChanged() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.roots)
	s.roots = make(chan struct{})
}

func (s *Server) rootsChanged() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.roots
}

// Keepers are the nodes whose keepers are connected and have reported.
func (s *Server) Keepers() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.keepers))
}

func (s *Server) keeper(node string, streams int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keepers[node] += streams; s.keepers[node] == 0 {
		delete(s.keepers, node)
	}
}

// Warm tells whether the keepers have been heard, or waited for long enough.
func (s *Server) Warm() bool {
	select {
	case <-s.warm:
		return true
	default:
		return false
	}
}

// Run serves on the listener until the context ends.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	tlsConfig := identity.OptionalClientTLS(s.cfg.Source, s.cfg.Bundle, identity.Anyone)
	verify := tlsConfig.VerifyConnection
	tlsConfig.VerifyConnection = s.metrics.countRefusals(verify)
	g := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(tlsConfig)),
		grpc.MaxRecvMsgSize(maxUp),
		grpc.MaxConcurrentStreams(64),
		grpc.ConnectionTimeout(10*time.Second),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: keepAlive / 2, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			Time: keepAlive, Timeout: keepAliveTimeout,
			// No connection outlives the certificate that it was made with.
			MaxConnectionAge: min(s.cfg.LeafTTL/3, time.Hour), MaxConnectionAgeGrace: min(s.cfg.LeafTTL/3, keepAliveTimeout),
		}))
	controlpb.RegisterControllerServer(g, s)

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.serve(g, l) })
	group.Go(func() error { <-ctx.Done(); g.Stop(); return nil })
	group.Go(func() error { return s.warmUp(ctx) })
	group.Go(func() error { return s.release(ctx) })
	return group.Wait()
}

func (s *Server) serve(g *grpc.Server, l net.Listener) error {
	if err := g.Serve(l); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serve nodes: %w", err)
	}
	return nil
}

// warmUp holds the proxies' streams back until every node that has pods to enrol has reported.
func (s *Server) warmUp(ctx context.Context) error {
	deadline := time.NewTimer(s.cfg.WarmUp)
	defer deadline.Stop()
	for {
		changed := s.cfg.World.Changed()
		unheard := s.cfg.World.Unheard()
		if len(unheard) == 0 {
			close(s.warm)
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-deadline.C:
			s.cfg.Log.Warn("nodes not heard since the start", "nodes", unheard)
			close(s.warm)
			return nil
		}
	}
}

// invalid is the answer to a message that breaks the protocol.
func invalid(format string, args ...any) error {
	return status.Error(codes.InvalidArgument, fmt.Sprintf(format, args...))
}
