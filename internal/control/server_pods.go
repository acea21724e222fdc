package control

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"fairlead.io/fairlead/internal/control/controlpb"
	"fairlead.io/fairlead/internal/identity"
)

// firstMessage is how long a stream may be open before it says what it wants.
const firstMessage = 10 * time.Second

// Pods serves one keeper.
func (s *Server) Pods(stream controlpb.Controller_PodsServer) error {
	node, err := component(stream.Context(), identity.ID.Keeper)
	if err != nil {
		s.metrics.denied.WithLabelValues("pods").Inc()
		return err
	}
	s.metrics.streams.WithLabelValues("pods").Inc()
	defer s.metrics.streams.WithLabelValues("pods").Dec()
	s.cfg.Log.Info("keeper connected", "node", node)
	defer s.cfg.Log.Info("keeper disconnected", "node", node)

	up := receive(stream.Context(), stream.Recv)
	first, err := up.first()
	if err != nil {
		return err
	}
	if err := s.captured(node, first); err != nil {
		return err
	}
	s.keeper(node, 1)
	defer s.keeper(node, -1)
	sent := podsSent{}
	for {
		changed, roots := s.cfg.World.Changed(), s.rootsChanged()
		if m := s.podsDown(node, &sent); m != nil {
			if err := stream.Send(m); err != nil {
				return err
			}
			s.metrics.messages.WithLabelValues("pods").Inc()
		}
		select {
		case <-stream.Context().Done():
			return status.FromContextError(stream.Context().Err()).Err()
		case <-changed:
		case <-roots:
		case m := <-up.messages:
			if err := s.captured(node, m); err != nil {
				return err
			}
		case err := <-up.failed:
			return err
		}
	}
}

// captured takes a keeper's report.
func (s *Server) captured(node string, m *controlpb.PodsUp) error {
	if m.GetNode() != "" && m.GetNode() != node {
		return status.Errorf(codes.PermissionDenied, "the certificate is of node %q", node)
	}
	captured, err := decodeCaptured(m.GetCaptured())
	if err != nil {
		return invalid("%v", err)
	}
	s.cfg.World.SetCaptured(node, m.GetVersion(), captured)
	return nil
}

// podsSent is what a stream's receiver has.
type podsSent struct {
	begun            bool
	pods, namespaces uint64
	roots            string
}

// podsDown is the message that brings the receiver up to date; nil if it is.
func (s *Server) podsDown(node string, sent *podsSent) *controlpb.PodsDown {
	m := &controlpb.PodsDown{Version: s.cfg.World.Version()}
	if pods, v := s.cfg.World.Enrolments(node); v != sent.pods || !sent.begun {
		m.Pods, sent.pods = encodeEnrolments(pods), v
		m.Version = max(m.Version, v) // the pods may be newer: what is acknowledged must cover them
	}
	if namespaces, v := s.cfg.World.Namespaces(); v != sent.namespaces || !sent.begun {
		m.Namespaces, sent.namespaces = encodeNamespaces(namespaces), v
	}
	if trust := s.trust(); string(trust.GetRoots()) != sent.roots || !sent.begun {
		m.Trust, sent.roots = trust, string(trust.GetRoots())
	}
	sent.begun = true
	if m.Pods == nil && m.Namespaces == nil && m.Trust == nil {
		return nil
	}
	return m
}

// receiver reads a stream in a goroutine of its own, which ends with the stream. It holds one message: a peer
// that says much waits.
type receiver[M any] struct {
	messages chan M
	failed   chan error
}

func receive[M any](ctx context.Context, recv func() (M, error)) *receiver[M] {
	r := &receiver[M]{messages: make(chan M), failed: make(chan error, 1)}
	go r.run(ctx, recv)
	return r
}

// run ends when Recv fails, which it does at the latest when the handler returns.
func (r *receiver[M]) run(ctx context.Context, recv func() (M, error)) {
	for {
		m, err := recv()
		if errors.Is(err, io.EOF) {
			err = status.Error(codes.Canceled, "the peer ended the stream")
		}
		if err != nil {
			r.failed <- err
			return
		}
		select {
		case r.messages <- m:
		case <-ctx.Done():
			return
		}
	}
}

func (r *receiver[M]) first() (m M, err error) {
	select {
	case m = <-r.messages:
		return m, nil
	case err = <-r.failed:
		return m, err
	case <-time.After(firstMessage):
		return m, status.Error(codes.DeadlineExceeded, "no first message")
	}
}
