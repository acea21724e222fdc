package identity

import (
	"crypto/tls"
	"errors"
	"fmt"
)

// Source gives the certificate to show, as it is at the moment.
type Source interface {
	Certificate() (*tls.Certificate, error)
}

// Static is a Source that never changes.
type Static struct{ Cert *tls.Certificate }

// Certificate returns the one certificate.
func (s Static) Certificate() (*tls.Certificate, error) {
	if s.Cert == nil {
		return nil, ErrNoCertificate
	}
	return s.Cert, nil
}

// Authorizer decides whether a peer, whose chain is already verified, may have this connection. It returns a
// *VerifyError (Refuse makes one) so that the refusal is counted under its cause.
type Authorizer func(Peer) error

// Refuse makes the error of an Authorizer.
func Refuse(p Peer, c Cause, format string, args ...any) error {
	return &VerifyError{Cause: c, ID: p.ID, Err: fmt.Errorf(format, args...)}
}

// Anyone allows every peer of the trust domain.
func Anyone(Peer) error { return nil }

// OnlyID allows one identity, on any node.
func OnlyID(id ID) Authorizer {
	return func(p Peer) error {
		if p.ID != id {
			return Refuse(p, WrongIdentity, "%s is wanted", id)
		}
		return nil
	}
}

// OnlyIDOn allows one identity with a certificate of one node.
func OnlyIDOn(id ID, node string) Authorizer {
	return func(p Peer) error {
		if p.ID != id {
			return Refuse(p, WrongIdentity, "%s is wanted", id)
		}
		if p.Node != node {
			return Refuse(p, WrongNode, "certificate of node %q, %q is wanted", p.Node, node)
		}
		return nil
	}
}

// ServerTLS is the configuration of a server that wants a certificate of every client. The caller sets NextProtos.
func ServerTLS(src Source, b *Bundle, authorize Authorizer) *tls.Config {
	return serverTLS(src, verifier(b, authorize, false))
}

// OptionalClientTLS is ServerTLS for clients that may have no certificate yet (bootstrap by token). A certificate
// that is shown must be good.
func OptionalClientTLS(src Source, b *Bundle, authorize Authorizer) *tls.Config {
	return serverTLS(src, verifier(b, authorize, true))
}

func serverTLS(src Source, verify func(tls.ConnectionState) error) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		// Only asked for: what is missing or bad is refused by verify, which knows the cause.
		ClientAuth:             tls.RequestClientCert,
		GetCertificate:         func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return src.Certificate() },
		VerifyConnection:       verify,
		SessionTicketsDisabled: true, // see Resumption.Server
	}
}

// ClientTLS is the configuration of a client. With a nil Source it shows no certificate. The caller sets NextProtos.
func ClientTLS(src Source, b *Bundle, authorize Authorizer) *tls.Config {
	c := &tls.Config{
		MinVersion:             tls.VersionTLS13,
		InsecureSkipVerify:     true, // by name only: VerifyConnection checks chain and identity, on every handshake
		VerifyConnection:       verifier(b, authorize, false),
		SessionTicketsDisabled: true, // see Resumption.Client
	}
	if src != nil {
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return src.Certificate() }
	}
	return c
}

func verifier(b *Bundle, authorize Authorizer, optional bool) func(tls.ConnectionState) error {
	return func(cs tls.ConnectionState) error {
		if optional && len(cs.PeerCertificates) == 0 {
			return nil
		}
		peer, err := b.Verify(cs.PeerCertificates)
		if err != nil {
			return err
		}
		if authorize == nil {
			return &VerifyError{Cause: WrongIdentity, ID: peer.ID, Err: errors.New("nobody is authorised")}
		}
		return authorize(peer)
	}
}
