package node

import (
	"context"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/identity"
	"fairlead.io/fairlead/internal/keeper/socket"
	"fairlead.io/fairlead/internal/mesh"
)

// TestWithdrawnCertificates: an account whose pods have left loses its certificate, and a handshake of a pod that comes
// back waits for the next one instead of having the old one signed in vain.
func TestWithdrawnCertificates(t *testing.T) {
	p := testPods()
	account := mesh.Account{Namespace: "shop", Name: "web"}
	chain, roots := testChain(t, account)
	p.Roots("cluster.local", roots)
	wait := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, _, err := p.creds.wait(ctx, account)
		return err
	}
	p.Certificate(socket.Certificate{Account: account, Chain: chain})
	if err := wait(); err != nil {
		t.Fatal(err)
	}
	p.Certificate(socket.Certificate{Account: account})
	if wait() == nil {
		t.Error("the certificate is there, though its key is gone")
	}
	p.Certificate(socket.Certificate{Account: account, Chain: chain})
	p.begin() // a keeper that has started again, without the key
	p.Synced()
	if wait() == nil {
		t.Error("the certificate is there, though the new keeper does not have its key")
	}
	p.begin()
	p.Certificate(socket.Certificate{Account: account, Chain: chain})
	p.Synced()
	if err := wait(); err != nil {
		t.Error(err)
	}
}

// testChain makes a certificate of an account, and the roots to check it by.
func testChain(t *testing.T, a mesh.Account) (chain [][]byte, roots []byte) {
	t.Helper()
	td, err := identity.ParseTrustDomain("cluster.local")
	if err != nil {
		t.Fatal(err)
	}
	ca, err := identity.NewCA(td)
	if err != nil {
		t.Fatal(err)
	}
	id, err := identity.AccountID(td, a)
	if err != nil {
		t.Fatal(err)
	}
	c, err := ca.Issue(identity.Request{ID: id, Node: "n1", TTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	return c.Certificate, ca.RootPEM()
}
