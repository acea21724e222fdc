package identity

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
)

// ErrNotCertificateVerify is returned by CheckCertificateVerify for anything else.
var ErrNotCertificateVerify = errors.New("not a TLS 1.3 CertificateVerify structure")

// Signer is a private key that lives in another process, which signs only what it can recognise: so it is
// given whole messages, and refuses digests.
type Signer struct {
	public crypto.PublicKey
	sign   func(content []byte) ([]byte, error)
}

// NewSigner makes the key whose public half is given; sign receives the whole CertificateVerify content and
// returns the ASN.1 signature.
func NewSigner(public crypto.PublicKey, sign func(content []byte) ([]byte, error)) *Signer {
	return &Signer{public: public, sign: sign}
}

var _ crypto.MessageSigner = (*Signer)(nil)

// Public is the public half.
func (s *Signer) Public() crypto.PublicKey { return s.public }

// Sign refuses: the holder of the key must see what it signs.
func (s *Signer) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("remote key: digests are not signed")
}

// SignMessage has the message signed, with SHA-256.
func (s *Signer) SignMessage(_ io.Reader, msg []byte, opts crypto.SignerOpts) ([]byte, error) {
	if opts.HashFunc() != crypto.SHA256 {
		return nil, fmt.Errorf("remote key: hash %v", opts.HashFunc())
	}
	return s.sign(msg)
}

// SignCertificateVerify is the other end of a Signer: it signs the content if it is a CertificateVerify, and
// nothing else.
func SignCertificateVerify(key *ecdsa.PrivateKey, content []byte) ([]byte, error) {
	if err := CheckCertificateVerify(content); err != nil {
		return nil, err
	}
	digest := sha256.Sum256(content)
	sig, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return sig, nil
}

// The two prefixes of RFC 8446 section 4.4.3: 64 spaces, the context, a zero byte.
var (
	serverPrefix = append(bytes.Repeat([]byte{0x20}, 64), "TLS 1.3, server CertificateVerify\x00"...)
	clientPrefix = append(bytes.Repeat([]byte{0x20}, 64), "TLS 1.3, client CertificateVerify\x00"...)
)

// CheckCertificateVerify accepts exactly the structure that RFC 8446 section 4.4.3 has signed, over a
// transcript hash of SHA-256 or SHA-384. Returns ErrNotCertificateVerify otherwise.
func CheckCertificateVerify(content []byte) error {
	hash, ok := bytes.CutPrefix(content, serverPrefix)
	if !ok {
		hash, ok = bytes.CutPrefix(content, clientPrefix)
	}
	if !ok || len(hash) != 32 && len(hash) != 48 {
		return ErrNotCertificateVerify
	}
	return nil
}
