package control

import (
	"context"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"fairlead.io/fairlead/internal/identity"
)

// caller is the verified peer of a call. Without a certificate the error has the cause NoCertificate.
func caller(ctx context.Context) (identity.Peer, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return identity.Peer{}, status.Error(codes.Unauthenticated, "no peer")
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return identity.Peer{}, status.Error(codes.Unauthenticated, "no TLS")
	}
	return identity.PeerOf(info.State)
}

// component checks that the caller is a node's own component: ID and node name of its certificate must agree.
// It returns the node.
func component(ctx context.Context, which func(identity.ID) (string, bool)) (string, error) {
	p, err := caller(ctx)
	if err != nil {
		return "", status.Error(codes.Unauthenticated, err.Error())
	}
	node, ok := which(p.ID)
	if !ok || node == "" || node != p.Node {
		return "", status.Errorf(codes.PermissionDenied, "%s with a certificate of node %q may not call this", p.ID, p.Node)
	}
	return node, nil
}

// issuee is the node that a call of Issue may ask for: by the keeper's certificate, or by token if it shows none.
func (s *Server) issuee(ctx context.Context) (string, error) {
	_, err := caller(ctx)
	if cause, ok := identity.CauseOf(err); !ok || cause != identity.NoCertificate {
		return component(ctx, identity.ID.Keeper)
	}
	token, ok := bearer(ctx)
	if !ok || s.cfg.Tokens == nil {
		return "", status.Error(codes.Unauthenticated, "neither certificate nor token")
	}
	node, err := s.cfg.Tokens(ctx, token)
	if err != nil {
		return "", status.Error(codes.Unauthenticated, err.Error())
	}
	return node, nil
}

func bearer(ctx context.Context) (string, bool) {
	values := metadata.ValueFromIncomingContext(ctx, "authorization")
	if len(values) != 1 {
		return "", false
	}
	return strings.CutPrefix(values[0], "Bearer ")
}
