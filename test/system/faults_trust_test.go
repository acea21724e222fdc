package system

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/identity"
	"fairlead.io/fairlead/internal/mesh"
	"fairlead.io/fairlead/internal/testnet"
)

// caOf reads the lab's issuer.
func caOf(t testing.TB, l *testnet.Lab) (*identity.CA, identity.TrustDomain) {
	t.Helper()
	td, err := identity.ParseTrustDomain("cluster.local")
	if err != nil {
		t.Fatal(err)
	}
	cert, certErr := os.ReadFile(filepath.Join(l.Dir(), "ca", "tls.crt"))
	key, keyErr := os.ReadFile(filepath.Join(l.Dir(), "ca", "tls.key"))
	ca, err := identity.ParseCA(td, cert, key)
	if err := errors.Join(certErr, keyErr, err); err != nil {
		t.Fatal(err)
	}
	return ca, td
}

// TestForgedPeers has a pod outside the mesh speak the mesh's protocol with certificates that it should not have.
func TestForgedPeers(t *testing.T) {
	m := newMesh(t, testnet.MeshConfig{})
	p := newPair(t, m)
	rogue := mustAddPod(t, m.Nodes[0].Node, testnet.PodSpec{Namespace: "plain", Name: "rogue"})
	ca, td := caOf(t, m.Lab)
	other, err := identity.ParseTrustDomain("other.example")
	if err != nil {
		t.Fatal(err)
	}
	issue := func(ca *identity.CA, err error, namespace, node string, ttl time.Duration) *tls.Certificate {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		id, err := identity.AccountID(ca.TrustDomain(), mesh.Account{Namespace: namespace, Name: "default"})
		if err != nil {
			t.Fatal(err)
		}
		cert, err := ca.Issue(identity.Request{ID: id, Node: node, TTL: ttl})
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	stranger, strangerErr := identity.NewCA(td)
	foreign, foreignErr := identity.NewCA(other)
	wrong := issue(ca, nil, "app", "n1", time.Hour)
	eventually(t, 10*time.Second, "the server's node knows whose the address is", func() error {
		if _, err := forge(t, rogue, webAddr(p.server), wrong); err == nil {
			return errors.New("passed provisionally")
		}
		return nil
	})
	expired := issue(ca, nil, "plain", "n1", time.Millisecond)
	for _, c := range []struct {
		cause string
		cert  *tls.Certificate
	}{
		{"expired", expired},
		{"unknown_authority", issue(stranger, strangerErr, "plain", "n1", time.Hour)},
		{"other_trust_domain", issue(foreign, foreignErr, "plain", "n1", time.Hour)},
		{"wrong_identity", wrong},
		{"wrong_node", issue(ca, nil, "plain", "n2", time.Hour)},
		{"no_certificate", nil},
	} {
		t.Run(c.cause, func(t *testing.T) {
			n := m.Nodes[1]
			count := func() float64 {
				return metric(t, n, "fairlead_handshakes_total", `direction="inbound"`, `result="`+c.cause+`"`)
			}
			before := count()
			for range 3 {
				if answer, err := forge(t, rogue, webAddr(p.server), c.cert); err == nil {
					t.Errorf("answered: %q", answer)
				}
			}
			eventually(t, 5*time.Second, "each of them counted", func() error { // the client has its answer before that
				if got := count() - before; got != 3 {
					return fmt.Errorf("counted %v handshakes, want 3", got)
				}
				return nil
			})
			log, err := os.ReadFile(filepath.Join(m.Lab.LogDir(), "n2-proxy.log"))
			if err != nil {
				t.Fatal(err)
			}
			if got := bytes.Count(log, []byte(`"result":"`+c.cause+`"`)); got != 1 {
				t.Errorf("logged %d times, want once", got)
			}
		})
	}
	// The check on the check: with its own account and node it is let in.
	if answer, err := forge(t, rogue, webAddr(p.server), issue(ca, nil, "plain", "n1", time.Hour)); err != nil {
		t.Errorf("with a certificate that is right: %q, %v", answer, err)
	}
}

// forge speaks the mesh's protocol for HTTP and waits for the server's first frame.
func forge(t testing.TB, p *testnet.Pod, addr string, cert *tls.Certificate) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	raw, err := p.Dial(ctx, "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	raw.SetDeadline(time.Now().Add(5 * time.Second))
	cfg := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, NextProtos: []string{"fairlead-h2/1"}}
	if cert != nil {
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
	}
	c := tls.Client(raw, cfg)
	if _, err := io.WriteString(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"); err != nil {
		return "", err
	}
	frame := make([]byte, 9)
	n, err := io.ReadFull(c, frame)
	return string(frame[:n]), err
}

// TestRotation lets certificates end within seconds, and changes the issuer: traffic sees nothing of it.
func TestRotation(t *testing.T) {
	t.Parallel()
	m := newMesh(t, testnet.MeshConfig{ControllerArgs: []string{"--leaf-ttl=6s"}})
	p := newPair(t, m)
	loads := []*load{
		startLoad(t, p.client, "stream", p.echo, "-workers=2", "-rate=40"),
		startLoad(t, p.client, "upgrade", p.web, "-workers=1", "-rate=20"),
		startLoad(t, p.client, "h1", p.web, "-rate=50"),
		startLoad(t, p.client, "h2", p.web, "-rate=50"),
		startLoad(t, p.client, "tcp", p.echo, "-rate=50"),
	}
	pause(t, 9*time.Second) // three renewals
	ca, td := caOf(t, m.Lab)
	next, err := identity.NewCA(td)
	if err != nil {
		t.Fatal(err)
	}
	key, err := next.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	write := func(files ...string) {
		t.Helper()
		for i := 0; i < len(files); i += 2 {
			path := filepath.Join(m.Lab.Dir(), "ca", files[i])
			if err := errors.Join(os.WriteFile(path+".new", []byte(files[i+1]), 0o600), os.Rename(path+".new", path)); err != nil {
				t.Fatal(err)
			}
		}
	}
	write("ca.crt", string(ca.RootPEM())+string(next.RootPEM()))
	pause(t, 3*time.Second) // until every node believes both: the new roots travel within a second or two
	write("tls.key", string(key), "tls.crt", string(next.CertPEM()))
	pause(t, 8*time.Second) // until every leaf of the old issuer has been renewed
	write("ca.crt", string(next.RootPEM()))
	pause(t, 3*time.Second)
	for _, l := range loads {
		mustFlawless(t, l, l.stop(t), 100)
	}
	// Between two renewals sessions are resumed: of 50 connections per second, in at least 20 s.
	for i, direction := range []string{"outbound", "inbound"} {
		if n := metric(t, m.Nodes[i], "fairlead_handshakes_total", `direction="`+direction+`"`, `resumed="true"`); n < 500 {
			t.Errorf("%s: %v resumed handshakes", direction, n)
		}
	}
}
