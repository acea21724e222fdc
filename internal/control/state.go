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
	if err := proto.Unmarshal(ss.GetState(), &st); err != nil {
		return refuse(err)
	}
	at := time.Unix(st.GetSignedAt(), 0)
	if at.After(time.Now().Add(10 * time.Minute)) {
		return refuse(fmt.Errorf("signed in the future, at %v", at))
	}
	if err := checkState(&ss, b, at); err != nil {
		return refuse(err)
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

func checkState(ss *controlpb.SignedState, b *identity.Bundle, at time.Time) error {
	var chain []*x509.Certificate
	for _, der := range ss.GetChain() {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("parse chain: %w", err)
		}
		chain = append(chain, cert)
	}
	peer, err := b.VerifyAt(chain, at)
	if err != nil {
		return err
	}
	if !peer.ID.IsController() {
		return fmt.Errorf("signed by %s", peer.ID)
	}
	pub, ok := chain[0].PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return fmt.Errorf("key of type %T", chain[0].PublicKey)
	}
	digest := stateDigest(ss.GetState())
	if !ecdsa.VerifyASN1(pub, digest[:], ss.GetSignature()) {
		return errors.New("wrong signature")
	}
	return nil
}
