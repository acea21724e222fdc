package identity

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"time"
)

// Cause is why a peer was refused.
type Cause uint8

// The causes. Their names are label values of metrics.
const (
	Malformed Cause = iota
	NoCertificate
	Expired
	NotYetValid
	UnknownAuthority
	OtherTrustDomain
	WrongIdentity
	WrongNode
)

var causeNames = [...]string{
	"malformed", "no_certificate", "expired", "not_yet_valid",
	"unknown_authority", "other_trust_domain", "wrong_identity", "wrong_node",
}

// Causes are all causes there are, for counters that start at zero.
func Causes() []Cause {
	return []Cause{Malformed, NoCertificate, Expired, NotYetValid, UnknownAuthority, OtherTrustDomain, WrongIdentity, WrongNode}
}

func (c Cause) String() string {
	if int(c) < len(causeNames) {
		return causeNames[c]
	}
	return fmt.Sprintf("cause(%d)", uint8(c))
}

// VerifyError says why a peer was refused, and who it said to be as far as that could be read.
type VerifyError struct {
	Cause Cause
	ID    ID
	Err   error
}

func (e *VerifyError) Error() string {
	if e.ID.IsZero() {
		return fmt.Sprintf("verify peer: %s: %v", e.Cause, e.Err)
	}
	return fmt.Sprintf("verify peer %s: %s: %v", e.ID, e.Cause, e.Err)
}

func (e *VerifyError) Unwrap() error { return e.Err }

// CauseOf finds the cause in an error of a handshake.
func CauseOf(err error) (Cause, bool) {
	if v, ok := errors.AsType[*VerifyError](err); ok {
		return v.Cause, true
	}
	return 0, false
}

// Peer is who stands at the other end of a verified connection.
type Peer struct {
	ID   ID
	Node string // the node that its certificate was issued to; empty for the controller
}

// PeerOf reads the peer of a connection that was made with ServerTLS or ClientTLS. Without a certificate of
// the peer (OptionalClientTLS) it returns a *VerifyError with the cause NoCertificate.
func PeerOf(cs tls.ConnectionState) (Peer, error) {
	if len(cs.PeerCertificates) == 0 {
		return Peer{}, &VerifyError{Cause: NoCertificate, Err: errors.New("the peer showed no certificate")}
	}
	return peerOf(cs.PeerCertificates[0])
}

// Verify checks a chain, leaf first, against the bundle, and returns whose it is.
func (b *Bundle) Verify(chain []*x509.Certificate) (Peer, error) {
	return b.VerifyAt(chain, time.Now())
}

// VerifyAt is Verify as of another time: for what was signed then.
func (b *Bundle) VerifyAt(chain []*x509.Certificate, at time.Time) (Peer, error) {
	if len(chain) == 0 {
		return Peer{}, &VerifyError{Cause: NoCertificate, Err: errors.New("the peer showed no certificate")}
	}
	peer, err := peerOf(chain[0])
	if err != nil {
		return Peer{}, err
	}
	refuse := func(c Cause, err error) (Peer, error) { return Peer{}, &VerifyError{Cause: c, ID: peer.ID, Err: err} }
	if peer.ID.TrustDomain() != b.td {
		return refuse(OtherTrustDomain, fmt.Errorf("ours is %s", b.td.Name()))
	}
	opts := x509.VerifyOptions{
		Roots:         b.roots.Load().pool,
		Intermediates: x509.NewCertPool(),
		CurrentTime:   at,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageAny}, // the leaf's own are checked in peerOf
	}
	for _, c := range chain[1:] {
		opts.Intermediates.AddCert(c)
	}
	if _, err := chain[0].Verify(opts); err != nil {
		return refuse(chainCause(err, opts.CurrentTime), err)
	}
	return peer, nil
}

func chainCause(err error, now time.Time) Cause {
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return UnknownAuthority
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		if invalid.Cert != nil && now.Before(invalid.Cert.NotBefore) {
			return NotYetValid
		}
		return Expired
	}
	return Malformed
}

// peerOf reads a leaf. The one URI name is the identity; DNS names, addresses and CAs are nobody of ours.
func peerOf(leaf *x509.Certificate) (Peer, error) {
	malformed := func(err error) (Peer, error) { return Peer{}, &VerifyError{Cause: Malformed, Err: err} }
	if len(leaf.URIs) != 1 {
		return malformed(fmt.Errorf("%d URI names, one is wanted", len(leaf.URIs)))
	}
	if len(leaf.DNSNames)+len(leaf.IPAddresses)+len(leaf.EmailAddresses) != 0 {
		return malformed(errors.New("names beside the SPIFFE ID"))
	}
	if leaf.IsCA || leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 || leaf.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0 {
		return malformed(errors.New("key usage is not a leaf's"))
	}
	if !hasUsages(leaf, x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth) {
		return malformed(errors.New("extended key usage is not server and client"))
	}
	id, err := ParseID(leaf.URIs[0].String())
	if err != nil {
		return malformed(err)
	}
	node, err := nodeOf(leaf)
	if err != nil {
		return malformed(err)
	}
	return Peer{ID: id, Node: node}, nil
}

func hasUsages(leaf *x509.Certificate, wanted ...x509.ExtKeyUsage) bool {
	have := map[x509.ExtKeyUsage]bool{}
	for _, u := range leaf.ExtKeyUsage {
		have[u] = true
	}
	for _, u := range wanted {
		if !have[u] {
			return false
		}
	}
	return true
}

func nodeOf(leaf *x509.Certificate) (string, error) {
	for _, e := range leaf.Extensions {
		if !e.Id.Equal(nodeOID) {
			continue
		}
		var node string
		rest, err := asn1.UnmarshalWithParams(e.Value, &node, "utf8")
		if err != nil {
			return "", fmt.Errorf("node name: %w", err)
		}
		if len(rest) != 0 || node == "" || len(node) > maxName {
			return "", errors.New("node name: malformed extension")
		}
		return node, nil
	}
	return "", nil
}
