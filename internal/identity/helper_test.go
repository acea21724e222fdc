package identity

import (
	"crypto/tls"
	"net"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/mesh"
)

func must[T any](t testing.TB) func(T, error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func domain(t testing.TB, s string) TrustDomain { return must[TrustDomain](t)(ParseTrustDomain(s)) }

func newCA(t testing.TB, td string) (*CA, *Bundle) {
	ca := must[*CA](t)(NewCA(domain(t, td)))
	return ca, must[*Bundle](t)(ParseBundle(domain(t, td), ca.RootPEM()))
}

func account(t testing.TB, td, ns, name string) ID {
	return must[ID](t)(AccountID(domain(t, td), mesh.Account{Namespace: ns, Name: name}))
}

// handshake connects two configurations, and returns what each end saw.
func handshake(t testing.TB, client, server *tls.Config) (clientState, serverState tls.ConnectionState, clientErr, serverErr error) {
	t.Helper()
	l := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	defer l.Close()
	done := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			done <- err
			return
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(10 * time.Second))
		s := tls.Server(c, server)
		err = s.Handshake()
		serverState = s.ConnectionState()
		if err == nil {
			_, err = s.Write([]byte{1})
		}
		done <- err
	}()
	c := must[net.Conn](t)(net.Dial("tcp", l.Addr().String()))
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	conn := tls.Client(c, client)
	clientErr = conn.Handshake()
	if clientErr == nil { // in TLS 1.3 a refusal by the server shows at the first read
		_, clientErr = conn.Read(make([]byte, 1))
	}
	clientState = conn.ConnectionState()
	serverErr = <-done
	return clientState, serverState, clientErr, serverErr
}
