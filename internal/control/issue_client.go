package control

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/metadata"

	"fairlead.io/fairlead/internal/control/controlpb"
	"fairlead.io/fairlead/internal/mesh"
)

// Subject is whom a certificate is asked for.
type Subject struct {
	Account mesh.Account // or, if it is zero:
	Proxy   bool         // the node's proxy; otherwise its keeper
}

// CertificateRequest is a request of one certificate; CSR is made by identity.NewCSR.
type CertificateRequest struct {
	Subject Subject
	CSR     []byte
}

// Issued is the answer to one request: a chain, leaf first, or the reason why there is none.
type Issued struct {
	Chain   [][]byte
	Refused error
}

// ErrRefused is in Issued.Refused: the controller does not sign that for this node.
var ErrRefused = errors.New("refused by the controller")

// Issue asks for certificates, at most 256. The token is for a keeper that has no certificate yet (its TLS has
// a nil Source); with a certificate it is empty. roots is the trust bundle as PEM.
func Issue(ctx context.Context, t Target, token string, requests []CertificateRequest) (issued []Issued, roots []byte, err error) {
	conn, err := t.dial()
	if err != nil {
		return nil, nil, err
	}
	defer conn.Close()
	if token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	}
	req := &controlpb.IssueRequest{Node: t.Node}
	for _, r := range requests {
		req.Requests = append(req.Requests, encodeRequest(r))
	}
	res, err := controlpb.NewControllerClient(conn).Issue(ctx, req)
	if err != nil {
		return nil, nil, fmt.Errorf("issue: %w", err)
	}
	if len(res.GetIssued()) != len(requests) {
		return nil, nil, fmt.Errorf("issue: %d answers to %d requests", len(res.GetIssued()), len(requests))
	}
	for _, i := range res.GetIssued() {
		out := Issued{Chain: i.GetChain()}
		if len(out.Chain) == 0 {
			out.Refused = fmt.Errorf("%w: %s", ErrRefused, i.GetRefused())
		}
		issued = append(issued, out)
	}
	return issued, res.GetTrust().GetRoots(), nil
}

func encodeRequest(r CertificateRequest) *controlpb.CertificateRequest {
	out := &controlpb.CertificateRequest{Csr: r.CSR}
	switch {
	case r.Subject.Account != mesh.Account{}:
		out.Subject = &controlpb.CertificateRequest_Account{Account: encodeAccount(r.Subject.Account)}
	case r.Subject.Proxy:
		out.Subject = &controlpb.CertificateRequest_Component{Component: controlpb.Component_COMPONENT_PROXY}
	default:
		out.Subject = &controlpb.CertificateRequest_Component{Component: controlpb.Component_COMPONENT_KEEPER}
	}
	return out
}
