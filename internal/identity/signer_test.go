package identity

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"errors"
	"testing"
	"time"
)

func TestAKeyInAnotherProcessServesBothEnds(t *testing.T) {
	ca, bundle := newCA(t, "td")
	key := must[*ecdsa.PrivateKey](t)(NewKey())
	chain := must[[][]byte](t)(ca.Sign(must[[]byte](t)(NewCSR(key)), Request{ID: account(t, "td", "a", "b"), Node: "n", TTL: time.Hour}))
	signed := 0
	remote := NewSigner(key.Public(), func(content []byte) ([]byte, error) {
		signed++
		return SignCertificateVerify(key, content)
	})
	src := Static{must[*certificate](t)(NewCertificate(chain, remote))}
	local := Static{must[*certificate](t)(ca.Issue(Request{ID: account(t, "td", "a", "c"), TTL: time.Hour}))}
	for _, ends := range [][2]Source{{src, local}, {local, src}} {
		if _, _, cerr, serr := handshake(t, ClientTLS(ends[0], bundle, Anyone), ServerTLS(ends[1], bundle, Anyone)); cerr != nil || serr != nil {
			t.Fatal(cerr, serr)
		}
	}
	if signed != 2 {
		t.Errorf("signed %d times", signed)
	}
	if _, err := remote.Sign(nil, make([]byte, 32), crypto.SHA256); err == nil {
		t.Error("signed a digest")
	}
	other := must[*ecdsa.PrivateKey](t)(NewKey())
	if _, err := NewCertificate(chain, other); err == nil {
		t.Error("joined a chain with another key")
	}
}

func verifyContent(role string, hash int) []byte {
	return append(append(bytes.Repeat([]byte{' '}, 64), ("TLS 1.3, "+role+" CertificateVerify\x00")...), make([]byte, hash)...)
}

func TestOnlyCertificateVerifyIsSigned(t *testing.T) {
	for _, good := range [][]byte{verifyContent("server", 32), verifyContent("client", 32), verifyContent("server", 48), verifyContent("client", 48)} {
		if err := CheckCertificateVerify(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	key := must[*ecdsa.PrivateKey](t)(NewKey())
	good := verifyContent("server", 32)
	for _, bad := range [][]byte{
		nil, good[1:], append([]byte{' '}, good...), good[:len(good)-1], append(bytes.Clone(good), 0), verifyContent("server", 0),
		verifyContent("server", 64), verifyContent("Server", 32), verifyContent("", 32), bytes.Replace(good, []byte{0}, []byte{1}, 1),
		bytes.Replace(good, []byte("1.3"), []byte("1.2"), 1), []byte("PRI * HTTP/2.0"),
	} {
		if _, err := SignCertificateVerify(key, bad); !errors.Is(err, ErrNotCertificateVerify) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func FuzzCheckCertificateVerify(f *testing.F) {
	f.Add(verifyContent("server", 32))
	f.Add(verifyContent("client", 48))
	f.Add(verifyContent("client", 31))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, content []byte) {
		if CheckCertificateVerify(content) != nil {
			return
		}
		hash := len(content) - 98
		if hash != 32 && hash != 48 {
			t.Fatalf("accepted %d bytes", len(content))
		}
		head := content[:98]
		if !bytes.Equal(head, verifyContent("server", 0)) && !bytes.Equal(head, verifyContent("client", 0)) {
			t.Fatalf("accepted %q", content)
		}
	})
}
