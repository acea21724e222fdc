package control

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"fairlead.io/fairlead/internal/control/controlpb"
	"fairlead.io/fairlead/internal/identity"
	"fairlead.io/fairlead/internal/mesh"
)

// Issue signs for the caller's node only. What may not be signed is refused request by request.
func (s *Server) Issue(ctx context.Context, req *controlpb.IssueRequest) (*controlpb.IssueResponse, error) {
	node, err := s.issuee(ctx)
	if err != nil {
		s.metrics.issued.WithLabelValues("unauthenticated").Inc()
		s.cfg.Log.Warn("certificate request without proof", "node", clip(req.GetNode()), "err", err)
		return nil, err
	}
	if req.GetNode() != node {
		s.metrics.issued.WithLabelValues("wrong_node").Inc()
		s.cfg.Log.Warn("certificate request for another node", "node", clip(req.GetNode()), "proof", node)
		return nil, status.Errorf(codes.PermissionDenied, "the proof is of node %q", node)
	}
	if len(req.GetRequests()) > maxRequests {
		return nil, invalid("%d requests, at most %d are served", len(req.GetRequests()), maxRequests)
	}
	res := &controlpb.IssueResponse{Trust: s.trust()}
	for _, r := range req.GetRequests() {
		chain, err := s.sign(node, r)
		if err != nil {
			s.metrics.issued.WithLabelValues("refused").Inc()
			s.cfg.Log.Warn("certificate request refused", "node", node, "account", clip(decodeAccount(r.GetAccount()).String()), "err", err)
			res.Issued = append(res.Issued, &controlpb.Issued{Refused: err.Error()})
			continue
		}
		s.metrics.issued.WithLabelValues("signed").Inc()
		res.Issued = append(res.Issued, &controlpb.Issued{Chain: chain})
	}
	return res, nil
}

// clip keeps what a peer calls itself, before it has proved anything, from filling the log.
func clip(s string) string { return s[:min(len(s), maxName)] }

func (s *Server) trust() *controlpb.Trust {
	return &controlpb.Trust{TrustDomain: s.cfg.Bundle.TrustDomain().Name(), Roots: s.cfg.Bundle.PEM()}
}

func (s *Server) sign(node string, r *controlpb.CertificateRequest) ([][]byte, error) {
	id, err := s.subject(node, r)
	if err != nil {
		return nil, err
	}
	return s.cfg.CA.Sign(r.GetCsr(), identity.Request{ID: id, Node: node, TTL: s.cfg.LeafTTL})
}

// subject is whom a request is for, if this node may have it.
func (s *Server) subject(node string, r *controlpb.CertificateRequest) (identity.ID, error) {
	td := s.cfg.CA.TrustDomain()
	switch sub := r.GetSubject().(type) {
	case *controlpb.CertificateRequest_Account:
		account := mesh.Account{Namespace: sub.Account.GetNamespace(), Name: sub.Account.GetName()}
		if len(account.Namespace) > maxName || len(account.Name) > maxName {
			return identity.ID{}, fmt.Errorf("account with a name of more than %d bytes", maxName)
		}
		if !s.cfg.World.Live(node, account) {
			return identity.ID{}, fmt.Errorf("no live pod of %s on node %s", account, node)
		}
		return identity.AccountID(td, account)
	case *controlpb.CertificateRequest_Component:
		switch sub.Component {
		case controlpb.Component_COMPONENT_KEEPER:
			return identity.KeeperID(td, node)
		case controlpb.Component_COMPONENT_PROXY:
			return identity.ProxyID(td, node)
		}
	}
	return identity.ID{}, errors.New("request without a subject")
}
