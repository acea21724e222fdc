package keeper

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.io/fairlead/internal/control"
	"fairlead.io/fairlead/internal/identity"
	"fairlead.io/fairlead/internal/keeper/socket"
	"fairlead.io/fairlead/internal/mesh"
)

// childSocket is set in the child process: this binary again, as a proxy without any privilege.
const childSocket, childController = "KEEPER_TEST_PROXY", "KEEPER_TEST_CONTROLLER"

func TestMain(m *testing.M) {
	if path := os.Getenv(childSocket); path != "" {
		if err := runChild(path); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// child is the smallest proxy there can be. It says what it does on its standard output, and ends with its input.
type child struct {
	client *socket.Client
	mu     sync.Mutex
	certs  map[mesh.Account]*tls.Certificate
	bundle chan *identity.Bundle
}

func runChild(path string) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { _, _ = io.Copy(io.Discard, os.Stdin); os.Exit(0) }()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(status)) {
		if name, value, _ := strings.Cut(strings.TrimSpace(line), ":\t"); name == "CapEff" {
			fmt.Println("caps", value, "uid", os.Getuid())
		}
	}
	for {
		client, err := socket.Dial(ctx, path)
		if err != nil {
			time.Sleep(20 * time.Millisecond) // a keeper that restarts; the parent's deadlines decide
			continue
		}
		c := &child{client: client, certs: map[mesh.Account]*tls.Certificate{}, bundle: make(chan *identity.Bundle, 16)}
		go c.discover(ctx)
		_ = client.Run(ctx, c) // it ends with the keeper, or with the test
		fmt.Println("keeper gone")
	}
}

func (c *child) Synced()         {}
func (c *child) Others([]string) {}

func (c *child) Earlier(uid string, e socket.Earlier) {
	fmt.Println("earlier", uid, e.Connections, e.More)
}

func (c *child) Superseded() { fmt.Println("superseded") }

func (c *child) Roots(td string, pem []byte) {
	domain, err := identity.ParseTrustDomain(td)
	if err == nil {
		var b *identity.Bundle
		if b, err = identity.ParseBundle(domain, pem); err == nil {
			c.bundle <- b
		}
	}
	fmt.Println("roots", td, err)
}

func (c *child) Certificate(cert socket.Certificate) {
	leaf, err := x509.ParseCertificate(cert.Chain[0])
	if err != nil {
		fmt.Println("error", err)
		return
	}
	key := identity.NewSigner(leaf.PublicKey.(*ecdsa.PublicKey), func(content []byte) ([]byte, error) {
		return c.client.Sign(context.Background(), cert.Account, sha256.Sum256(cert.Chain[0]), content)
	})
	joined, err := identity.NewCertificate(cert.Chain, key)
	c.mu.Lock()
	c.certs[cert.Account] = joined
	c.mu.Unlock()
	fmt.Println("certificate", cert.Account, err)
}

// childSource is the certificate of one account, signed for by the keeper.
type childSource struct {
	c *child
	a mesh.Account
}

func (s childSource) Certificate() (*tls.Certificate, error) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if cert := s.c.certs[s.a]; cert != nil {
		return cert, nil
	}
	return nil, identity.ErrNoCertificate
}

func (c *child) Left(uid string, drain time.Duration) { fmt.Println("left", uid, drain) }

func (c *child) Enrolled(p socket.Pod, listeners []socket.Listener) {
	for _, l := range listeners {
		f := os.NewFile(uintptr(l.FD), "listener")
		nl, err := net.FileListener(f)
		f.Close()
		if err != nil {
			fmt.Println("error", err)
			continue
		}
		go c.accept(p, l.Direction, nl)
	}
	fmt.Println("enrolled", p.Name, p.Account, len(listeners))
}

func (c *child) accept(p socket.Pod, d socket.Direction, l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			if err := c.serve(p, d, conn.(*net.TCPConn)); err != nil {
				fmt.Println("error", d, err)
			}
		}()
	}
}

// serve passes a connection on to where it was going: out with a ready-made socket, in to the app as the client, and in
// on port 8443 it answers by itself, as the pod's account.
func (c *child) serve(p socket.Pod, d socket.Direction, conn *net.TCPConn) error {
	ctx := context.Background()
	to := conn.LocalAddr().(*net.TCPAddr).AddrPort()
	from := conn.RemoteAddr().(*net.TCPAddr).AddrPort()
	var fds []int
	var err error
	switch {
	case d == socket.Out:
		fds, err = c.client.Sockets(ctx, p.UID, 4, 1)
	case to.Port() == 8443:
		server := tls.Server(conn, &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return childSource{c, p.Account}.Certificate()
		}})
		_, err := server.Write([]byte("hello\n"))
		return errors.Join(err, server.Close())
	default:
		fds = []int{-1}
		fds[0], err = c.client.Hop(ctx, p.UID, from.Addr())
	}
	if err != nil {
		return err
	}
	fmt.Println(d, "mark", unix.SetsockoptInt(fds[0], unix.SOL_SOCKET, unix.SO_MARK, 0x6d02))
	next, err := connectFD(fds[0], to)
	if err != nil {
		return fmt.Errorf("connect to %v: %w", to, err)
	}
	defer next.Close()
	fmt.Println(d, to)
	go func() { _, _ = io.Copy(next, conn); _ = next.CloseWrite() }()
	_, err = io.Copy(conn, next)
	return err
}

// connectFD connects a socket that is not ours to make, and owns it.
func connectFD(fd int, to netip.AddrPort) (*net.TCPConn, error) {
	err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()})
	if errors.Is(err, unix.EINPROGRESS) {
		if _, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, 3000); err == nil {
			var soErr int
			if soErr, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR); err == nil && soErr != 0 {
				err = unix.Errno(soErr)
			}
		}
	}
	f := os.NewFile(uintptr(fd), "socket")
	defer f.Close()
	if err != nil {
		return nil, err
	}
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// discover opens the proxy's own stream to the controller, with a key that the keeper holds, and has the keeper save the
// state that it brings.
func (c *child) discover(ctx context.Context) {
	b := <-c.bundle
	if fd, err := c.client.LoadState(ctx); err == nil {
		signed, err := socket.ReadState(fd)
		_, _, openErr := control.OpenState(signed, b, node)
		fmt.Println("state", errors.Join(err, openErr))
	}
	id, err := identity.ControllerID(b.TrustDomain())
	if err != nil {
		fmt.Println("error", err)
		return
	}
	d := control.NewDiscoverClient(control.DiscoverConfig{
		Target: control.Target{Addr: os.Getenv(childController), Node: node, TLS: identity.ClientTLS(childSource{c: c}, b, identity.OnlyID(id))},
		Bundle: b, StateFirst: 10 * time.Millisecond, StateEvery: 50 * time.Millisecond,
	})
	go func() { _ = d.Run(ctx) }()
	<-d.States()
	fd, err := socket.Memfd(d.State())
	if err == nil {
		err = c.client.SaveState(ctx, fd)
		unix.Close(fd)
	}
	fmt.Println("saved", err)
}

// lines reads a child's output in the background, and waits for single lines of it.
type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) read(r io.Reader) {
	for s := bufio.NewScanner(r); s.Scan(); {
		l.mu.Lock()
		l.all = append(l.all, s.Text())
		l.mu.Unlock()
	}
}

func (l *lines) count(line string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range l.all {
		if a == line {
			n++
		}
	}
	return n
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.all, "\n")
}
