package system

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/testnet"
)

// ownCertificate is what an app has that knows nothing of the mesh.
func ownCertificate(t *testing.T, name string) (tls.Certificate, *x509.CertPool) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, pool
}

// TestOwnTLS passes an app's own TLS through: its certificate, the name that the client asked for, and its ALPN are the app's.
func TestOwnTLS(t *testing.T) {
	p := newTCPPair(t)
	cert, pool := ownCertificate(t, "shop.example")
	l := listen(t, p.server, ":7000")
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			viaMesh(t, p.m, p.client, p.server, func() {
				var asked tls.ConnectionState
				done := serve(l, func(c *net.TCPConn) error {
					s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}, MaxVersion: version, NextProtos: []string{"shop/1"}})
					if err := s.Handshake(); err != nil {
						return err
					}
					asked = s.ConnectionState()
					if _, err := io.Copy(s, s); err != nil {
						return err
					}
					return s.CloseWrite()
				})
				c := tls.Client(p.dial(t), &tls.Config{RootCAs: pool, ServerName: "shop.example", NextProtos: []string{"shop/1"}})
				if _, err := c.Write([]byte("one shirt")); err != nil {
					t.Fatal(err)
				}
				if err := c.CloseWrite(); err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(c)
				if string(got) != "one shirt" || err != nil {
					t.Errorf("got %q, %v", got, err)
				}
				if err := <-done; err != nil {
					t.Error(err)
				}
				if asked.ServerName != "shop.example" || asked.Version != version || c.ConnectionState().NegotiatedProtocol != "shop/1" {
					t.Errorf("the server was asked for %q with version %x", asked.ServerName, asked.Version)
				}
			})
		})
	}
}

// TestIPv6Only reaches an app that does not listen on IPv4, and leaves IPv4 refused.
func TestIPv6Only(t *testing.T) {
	m := sharedMesh(t)
	name := unique(t, "server")
	vips := addService(t, m, testnet.Service("app", name, 80, 8080))
	server := webPod(t, m, m.Lab.Node(1), testnet.PodSpec{Name: name}, "--listen=[::1]:8081")
	mustStart(t, server, testnet.Command{Path: binary("web"), Args: []string{"--name=six", fmt.Sprintf("--listen=[%s]:8080", server.Addr(6))}})
	client := joined(t, m, m.Lab.Node(0), testnet.PodSpec{Name: unique(t, "client")})
	viaMesh(t, m, client, server, func() {
		for _, addr := range []netip.AddrPort{vips[1], netip.AddrPortFrom(server.Addr(6), 8080)} {
			eventually(t, 5*time.Second, "answer at "+addr.String(), func() error { return answers(t, client, addr) })
		}
	})
	for _, addr := range []netip.AddrPort{vips[0], netip.AddrPortFrom(server.Addr(4), 8080)} {
		if err := answers(t, client, addr); err == nil {
			t.Errorf("%s answers, though the app does not listen on IPv4", addr)
		}
	}
}

// TestLoopbackOnly keeps what an app binds to its loopback to itself, on every way in.
func TestLoopbackOnly(t *testing.T) {
	m := sharedMesh(t)
	name := unique(t, "server")
	vips := addService(t, m, testnet.Service("app", name, 80, 8080))
	server := webPod(t, m, m.Lab.Node(1), testnet.PodSpec{Name: name}, "--listen=127.0.0.1:8080")
	listening(t, server, "127.0.0.1:8080")
	inMesh := joined(t, m, m.Lab.Node(0), testnet.PodSpec{Name: unique(t, "client")})
	plain := mustAddPod(t, m.Lab.Node(0), testnet.PodSpec{Namespace: "plain", Name: unique(t, "plain")})
	direct := netip.AddrPortFrom(server.Addr(4), 8080)
	for name, from := range map[string]dialer{"mesh": inMesh, "plain": plain, "node": m.Lab.Node(1), "other node": m.Lab.Node(0)} {
		for _, addr := range []netip.AddrPort{direct, vips[0]} {
			began := time.Now()
			if err := answers(t, from, addr); err == nil {
				t.Errorf("from %s: %s answers", name, addr)
			}
			if took := time.Since(began); took > 2*time.Second {
				t.Errorf("from %s: %s is not refused at once but after %v", name, addr, took)
			}
		}
	}
	if err := answers(t, server, netip.MustParseAddrPort("127.0.0.1:8080")); err != nil {
		t.Errorf("within the pod: %v", err)
	}
}

// dialer is a pod or a node.
type dialer interface {
	Dial(ctx context.Context, network, addr string) (net.Conn, error)
}

// answers makes one request of HTTP/1.1 by hand and is content with any answer of the web server.
func answers(t testing.TB, from dialer, addr netip.AddrPort) error {
	t.Helper()
	_, err := askWho(t, from, addr)
	return err
}

// askWho returns which server answers, and which address it saw.
func askWho(t testing.TB, from dialer, addr netip.AddrPort) (seen struct{ Server, Remote string }, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) { return from.Dial(ctx, "tcp", addr) }}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr.String()+"/show", nil)
	if err != nil {
		return seen, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return seen, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return seen, fmt.Errorf("status %s", resp.Status)
	}
	return seen, json.NewDecoder(resp.Body).Decode(&seen)
}

func binary(name string) string { return filepath.Join(bin, name) }
