package system

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/sys/unix"

	"fairlead.io/fairlead/internal/testnet"
)

// tcpPair is a client on the first node and a server's pod on the second, with a service "addr" for port 7000.
type tcpPair struct {
	m              *testnet.Mesh
	client, server *testnet.Pod
	vip            netip.AddrPort
}

func newTCPPair(t *testing.T) *tcpPair {
	m := sharedMesh(t)
	name := unique(t, "server")
	p := &tcpPair{m: m, vip: addService(t, m, testnet.Service("app", name, 7000, 7000))[0]}
	p.server = joined(t, m, m.Lab.Node(1), testnet.PodSpec{Name: name})
	p.client = joined(t, m, m.Lab.Node(0), testnet.PodSpec{Name: unique(t, "client")})
	return p
}

func (p *tcpPair) dial(t *testing.T) *net.TCPConn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	c, err := p.client.Dial(ctx, "tcp", p.vip.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(15 * time.Second))
	return c.(*net.TCPConn)
}

// serve handles the next connection, and gives what came of it.
func serve(l *net.TCPListener, handle func(*net.TCPConn) error) <-chan error {
	done := make(chan error, 1)
	go func() {
		_ = l.SetDeadline(time.Now().Add(15 * time.Second))
		c, err := l.AcceptTCP()
		if err != nil {
			done <- err
			return
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(15 * time.Second))
		done <- handle(c)
	}()
	return done
}

// TestHalfClose ends each direction by itself: first the client's, then the server's, and the other way round.
func TestHalfClose(t *testing.T) {
	p := newTCPPair(t)
	l := listen(t, p.server, ":7000")
	body := make([]byte, 3<<20)
	rand.Read(body)
	viaMesh(t, p.m, p.client, p.server, func() {
		done := serve(l, func(c *net.TCPConn) error {
			got, err := io.ReadAll(c) // to the client's end, before a byte of the answer
			if err != nil {
				return err
			}
			_, err = c.Write(got)
			return err
		})
		c := p.dial(t)
		go func() {
			_, _ = c.Write(body)
			_ = c.CloseWrite()
		}()
		got, err := io.ReadAll(c)
		if err := errors.Join(err, <-done); err != nil || !bytes.Equal(got, body) {
			t.Fatalf("%d of %d bytes came back, %v", len(got), len(body), err)
		}
	})
	viaMesh(t, p.m, p.client, p.server, func() {
		done := serve(l, func(c *net.TCPConn) error {
			_, err := c.Write(body)
			if err := errors.Join(err, c.CloseWrite()); err != nil {
				return err
			}
			got, err := io.ReadAll(c)
			if err == nil && !bytes.Equal(got, body) {
				err = errors.New("what came after the server's end differs")
			}
			return err
		})
		c := p.dial(t)
		got, err := io.ReadAll(c)
		if err != nil || !bytes.Equal(got, body) {
			t.Fatalf("%d of %d bytes, %v", len(got), len(body), err)
		}
		_, err = c.Write(body)
		if err := errors.Join(err, c.CloseWrite(), <-done); err != nil {
			t.Fatal(err)
		}
	})
}

// TestReset passes a reset on, in each direction.
func TestReset(t *testing.T) {
	p := newTCPPair(t)
	l := listen(t, p.server, ":7000")
	exchange := func(c *net.TCPConn) error {
		_, err := c.Write([]byte("ping"))
		if err == nil {
			_, err = io.ReadFull(c, make([]byte, 4))
		}
		return err
	}
	wantReset := func(c *net.TCPConn) error {
		if err := exchange(c); err != nil {
			return err
		}
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
			return errors.Join(errors.New("no reset"), err)
		}
		return nil
	}
	reset := func(c *net.TCPConn) error {
		return errors.Join(exchange(c), c.SetLinger(0), c.Close())
	}
	viaMesh(t, p.m, p.client, p.server, func() {
		done := serve(l, wantReset)
		if err := errors.Join(reset(p.dial(t)), <-done); err != nil {
			t.Errorf("the client resets: %v", err)
		}
		done = serve(l, reset)
		if err := wantReset(p.dial(t)); err != nil {
			t.Errorf("the server resets: %v", err)
		}
		if err := <-done; err != nil && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
}

// TestWebSocket keeps one open through messages of every size and 3 seconds of silence, and closes it from both ends.
func TestWebSocket(t *testing.T) {
	m := sharedMesh(t)
	name := unique(t, "server")
	vip := addService(t, m, testnet.Service("app", name, 80, 8080))[0]
	server := webPod(t, m, m.Lab.Node(1), testnet.PodSpec{Name: name})
	client := joined(t, m, m.Lab.Node(0), testnet.PodSpec{Name: unique(t, "client")})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) { return client.Dial(ctx, "tcp", addr) }}
	defer transport.CloseIdleConnections()
	dial := func() *websocket.Conn {
		c, resp, err := websocket.Dial(ctx, "ws://"+vip.String()+"/ws", &websocket.DialOptions{HTTPClient: &http.Client{Transport: transport}})
		if err != nil {
			t.Fatal(err)
		}
		if got := resp.Header.Get("X-Server"); got != name {
			t.Errorf("the answer's header X-Server is %q", got)
		}
		c.SetReadLimit(4 << 20)
		t.Cleanup(func() { c.CloseNow() })
		return c
	}
	echo := func(c *websocket.Conn, kind websocket.MessageType, b []byte) {
		t.Helper()
		if err := c.Write(ctx, kind, b); err != nil {
			t.Fatal(err)
		}
		gotKind, got, err := c.Read(ctx)
		if err != nil || gotKind != kind || !bytes.Equal(got, b) {
			t.Fatalf("%d bytes came back of %d, kind %v, %v", len(got), len(b), gotKind, err)
		}
	}
	viaMesh(t, m, client, server, func() {
		c := dial()
		big := make([]byte, 1<<20)
		rand.Read(big)
		for range 3 {
			echo(c, websocket.MessageText, []byte("hello"))
			echo(c, websocket.MessageBinary, big)
			echo(c, websocket.MessageBinary, nil)
		}
		silence, wake := context.WithTimeout(ctx, 3*time.Second)
		<-silence.Done()
		wake()
		echo(c, websocket.MessageText, []byte("still there"))
		if err := c.Write(ctx, websocket.MessageText, []byte("close")); err != nil {
			t.Fatal(err)
		}
		if _, _, err := c.Read(ctx); websocket.CloseStatus(err) != 4321 || !bytes.Contains([]byte(err.Error()), []byte("as told")) {
			t.Errorf("closed by the server: %v", err)
		}
		if err := dial().Close(4000, "enough"); err != nil {
			t.Errorf("closed by the client: %v", err)
		}
	})
}
