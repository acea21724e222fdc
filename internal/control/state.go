package control

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"fairlead.io/fairlead/internal/control/controlpb"
	"fairlead.io/fairlead/internal/identity"
	"fairlead.io/fairlead/internal/mesh"
)

// stateContext keeps these signatures apart from those of TLS, which the same key makes.
const stateContext = "fairlead signed state v1\x00"

// ErrNotOurs is returned by OpenState for a state that the controller did not sign for this node.
var ErrNotOurs = errors.New("state is not signed by the controller for this node")

func signState(cert *tls.Certificate, node string, d mesh.Delta, now time.Time) (*controlpb.SignedState, error) {
	key, ok := cert.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, errors.New("sign state: the controller's key cannot sign")
	}
	raw, err := proto.Marshal(&controlpb.State{Node: node, SignedAt: now.Unix(), Delta: encodeDelta(d)})
	if err != nil {
		return nil, fmt.Errorf("encode state: %w", err)
	}
	digest := stateDigest(raw)
	sig, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("sign state: %w", err)
	}
	return &controlpb.SignedState{State: raw, Signature: sig, Chain: cert.Certificate}, nil
}

func stateDigest(raw []byte) [32]byte {
	h := sha256.New()
	h.Write([]byte(stateContext))
	h.Write(raw)
	return [32]byte(h.Sum(nil))
}

// OpenState checks and reads a signed state. The controller's certificate must have been good when it signed: a
// node that was off for longer than such a certificate lives still starts without the controller. Returns
// ErrNotOurs if the signature, the signer or the node is not right.
func OpenState(signed []byte, b *identity.Bundle, node string) (mesh.Delta, time.Time, error) {
	refuse := func(err error) (mesh.Delta, time.Time, error) {
		return mesh.Delta{}, time.Time{}, fmt.Errorf("%w: %w", ErrNotOurs, err)
	}
	var ss controlpb.SignedState
	var st controlpb.State
	if err := proto.Unmarshal(signed, &ss); err != nil {
		return refuse(err)
	}
	// The signature comes first: what a hostile proxy hands over may grow many times when it is decoded.
	signer, err := checkState(&ss, b)
	if err != nil {
		return refuse(err)
	}
	if err := proto.Unmarshal(ss.GetState(), &st); err != nil {
		return refuse(err)
	}
	at := time.Unix(st.GetSignedAt(), 0)
	switch {
	case at.After(time.Now().Add(10 * time.Minute)):
		return refuse(fmt.Errorf("signed in the future, at %v", at))
	case at.Before(signer.NotBefore) || at.After(signer.NotAfter):
		return refuse(fmt.Errorf("signed at %v, when the signer's certificate was not valid", at))
	}
	if st.GetNode() != node {
		return refuse(fmt.Errorf("it is node %q's", st.GetNode()))
	}
	d, err := decodeDelta(st.GetDelta())
	if err != nil {
		return refuse(err)
	}
	if !d.Reset {
		return refuse(errors.New("it is not a whole state"))
	}
	return d, at, nil
}

// checkState returns the certificate of the controller that signed. The chain is checked as of the beginning of that
// certificate: when the state was signed stands in the state itself, which is not believed yet.
func checkState(ss *controlpb.SignedState, b *identity.Bundle) (*x509.Certificate, error) {
	if len(ss.GetChain()) > maxChain {
		return nil, fmt.Errorf("chain of %d certificates", len(ss.GetChain()))
	}
	var chain []*x509.Certificate
	for _, der := range ss.GetChain() {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("parse chain: %w", err)
		}
		chain = append(chain, cert)
	}
	if len(chain) == 0 {
		return nil, errors.New("no signer")
	}
	signer := chain[0]
	peer, err := b.VerifyAt(chain, signer.NotBefore)
	if err != nil {
		return nil, err
	}
	if !peer.ID.IsController() {
		return nil, fmt.Errorf("signed by %s", peer.ID)
	}
	pub, ok := signer.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("key of type %T", signer.PublicKey)
	}
	digest := stateDigest(ss.GetState())
	if !ecdsa.VerifyASN1(pub, digest[:], ss.GetSignature()) {
		return nil, errors.New("wrong signature")
	}
	return signer, nil
}
