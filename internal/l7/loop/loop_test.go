package loop

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"fairlead.io/fairlead/internal/l7/exchange"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T) *Loop {
	t.Helper()
	l, err := New(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("run: %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Error("loop does not end")
		}
	})
	return l
}

func pair(t *testing.T) (client, server *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(10 * time.Second))
	t.Cleanup(func() { c.Close(); s.Close() })
	return c.(*net.TCPConn), s.(*net.TCPConn)
}

// echo is a protocol whose every call can be watched.
type echo struct {
	t      exchange.Transport
	feed   func(b []byte) (int, error)
	eof    func()
	closed chan error
	ready  chan struct{}
}

func newEcho() *echo {
	return &echo{closed: make(chan error, 1), ready: make(chan struct{}, 100)}
}

func (e *echo) start(t exchange.Transport) exchange.Protocol { e.t = t; return e }

func (e *echo) Feed(b []byte) (int, error) {
	if e.feed != nil {
		return e.feed(b)
	}
	e.t.Write(b)
	return len(b), nil
}

func (e *echo) EOF() {
	if e.eof != nil {
		e.eof()
		return
	}
	e.t.CloseWrite()
}

func (e *echo) Writable()        { e.ready <- struct{}{} }
func (e *echo) Closed(err error) { e.closed <- err }

func (e *echo) wait(t *testing.T) error {
	t.Helper()
	select {
	case err := <-e.closed:
		return err
	case <-time.After(10 * time.Second):
		t.Fatal("protocol was not closed")
		return nil
	}
}

func TestEchoAndHalfClose(t *testing.T) {
	l := start(t)
	c, s := pair(t)
	e := newEcho()
	if err := l.Attach(s, []byte("first "), e.start); err != nil {
		t.Fatal(err)
	}
	io.WriteString(c, "second")
	c.CloseWrite()
	got, err := io.ReadAll(c)
	if err != nil || string(got) != "first second" {
		t.Fatalf("got %q, %v", got, err)
	}
	if err := e.wait(t); err != nil {
		t.Errorf("closed with %v", err)
	}
}

func TestLargeEchoWithBackPressure(t *testing.T) {
	l := start(t)
	c, s := pair(t)
	e := newEcho()
	want := bytes.Repeat([]byte("0123456789abcdef"), 1<<18) // 4 MiB
	l.Attach(s, nil, e.start)
	go func() {
		c.Write(want)
		c.CloseWrite()
	}()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	e.wait(t)
}

func TestPauseKeepsWhatWasNotUsed(t *testing.T) {
	l := start(t)
	c, s := pair(t)
	e := newEcho()
	fed := make(chan string, 10)
	e.feed = func(b []byte) (int, error) {
		fed <- string(b)
		e.t.Pause()
		e.t.Write(b[:1])
		return 1, nil
	}
	l.Attach(s, nil, e.start)
	io.WriteString(c, "abc")
	for _, want := range []string{"abc", "bc", "c"} {
		if got := <-fed; got != want {
			t.Fatalf("fed %q, want %q", got, want)
		}
		l.Post(func() { e.t.Resume() })
	}
	got := make([]byte, 3)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "abc" {
		t.Fatalf("got %q, %v", got, err)
	}
}

func TestResetsPassBothWays(t *testing.T) {
	l := start(t)
	c, s := pair(t)
	e := newEcho()
	l.Attach(s, nil, e.start)
	c.SetLinger(0)
	c.Close()
	if err := e.wait(t); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("closed with %v, want a reset", err)
	}

	c, s = pair(t)
	e = newEcho()
	l.Attach(s, nil, e.start)
	l.Post(func() { e.t.Abort() })
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read after Abort: %v, want a reset", err)
	}
	e.wait(t)
}

func TestResetIsSeenWhilePaused(t *testing.T) {
	l := start(t)
	c, s := pair(t)
	e := newEcho()
	l.Attach(s, nil, func(tr exchange.Transport) exchange.Protocol { tr.Pause(); return e.start(tr) })
	c.SetLinger(0)
	c.Close()
	if err := e.wait(t); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("closed with %v, want a reset", err)
	}
}

func TestCloseDeliversTheLastBytes(t *testing.T) {
	l := start(t)
	c, s := pair(t)
	e := newEcho()
	e.feed = func(b []byte) (int, error) {
		e.t.Write([]byte("bye"))
		e.t.Close()
		return len(b), nil
	}
	l.Attach(s, nil, e.start)
	io.WriteString(c, "x")
	got := make([]byte, 3)
	if _, err := io.ReadFull(c, got); err != nil {
		t.Fatal(err)
	}
	c.Write(make([]byte, 100000)) // unread bytes must not turn the close into a reset
	if rest, err := io.ReadAll(c); err != nil || len(rest) != 0 {
		t.Fatalf("rest %q, %v", rest, err)
	}
	c.Close()
	if err := e.wait(t); err != nil {
		t.Errorf("closed with %v", err)
	}
}

func TestPanicEndsOneConnection(t *testing.T) {
	l := start(t)
	c1, s1 := pair(t)
	c2, s2 := pair(t)
	bad, good := newEcho(), newEcho()
	bad.feed = func([]byte) (int, error) { panic("boom") }
	l.Attach(s1, nil, bad.start)
	l.Attach(s2, nil, good.start)
	io.WriteString(c1, "x")
	if err := bad.wait(t); err != errPanic {
		t.Errorf("closed with %v", err)
	}
	if l.Panics() != 1 {
		t.Errorf("%d panics counted", l.Panics())
	}
	io.WriteString(c2, "y")
	if _, err := io.ReadFull(c2, make([]byte, 1)); err != nil {
		t.Errorf("the other connection: %v", err)
	}
}

func TestTimers(t *testing.T) {
	l := start(t)
	got := make(chan int, 4)
	l.Post(func() {
		l.After(30*time.Millisecond, func() { got <- 2 })
		l.After(10*time.Millisecond, func() { got <- 1 })
		cancel := l.After(20*time.Millisecond, func() { got <- 9 })
		cancel()
		cancel()
		l.After(40*time.Millisecond, func() { got <- 3 })
	})
	for _, want := range []int{1, 2, 3} {
		if n := <-got; n != want {
			t.Errorf("timer %d, want %d", n, want)
		}
	}
}

func TestAttachAfterTheEnd(t *testing.T) {
	l, err := New(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	c, s := pair(t)
	e := newEcho()
	l.Attach(s, nil, e.start)
	cancel()
	if err := l.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if err := e.wait(t); err != ErrStopped {
		t.Errorf("closed with %v", err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("connection outlived its loop")
	}
	_, s = pair(t)
	if err := l.Attach(s, nil, newEcho().start); err != ErrStopped {
		t.Errorf("attach: %v", err)
	}
}

func tlsConfigs(t *testing.T) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"x"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, _ := x509.ParseCertificate(der)
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	server = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS13}
	return server, &tls.Config{RootCAs: roots, ServerName: "x"}
}

// TestTLS sends data together with the last flight of the handshake, in sizes below and above a record.
func TestTLS(t *testing.T) {
	l := start(t)
	serverCfg, clientCfg := tlsConfigs(t)
	for _, size := range []int{1, 1000, 70000, 3 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			c, s := pair(t)
			e := newEcho()
			done := make(chan error, 1)
			go func() {
				sec, err := Server(context.Background(), s, nil, serverCfg)
				if err == nil {
					err = l.AttachTLS(sec, e.start)
				}
				done <- err
			}()
			tc := tls.Client(c, clientCfg)
			want := bytes.Repeat([]byte{7}, size)
			go func() {
				tc.Write(want)
				tc.CloseWrite()
			}()
			got, err := io.ReadAll(tc)
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%d bytes, %v", len(got), err)
			}
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			c.Close()
			if err := e.wait(t); err != nil {
				t.Errorf("closed with %v", err)
			}
		})
	}
}

func TestTLSTruncationIsAnError(t *testing.T) {
	l := start(t)
	serverCfg, clientCfg := tlsConfigs(t)
	c, s := pair(t)
	e := newEcho()
	go func() {
		if sec, err := Server(context.Background(), s, nil, serverCfg); err == nil {
			l.AttachTLS(sec, e.start)
		}
	}()
	tc := tls.Client(c, clientCfg)
	tc.Write([]byte("x"))
	if _, err := io.ReadFull(tc, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	c.CloseWrite() // FIN without close_notify
	if err := e.wait(t); err != io.ErrUnexpectedEOF {
		t.Errorf("closed with %v", err)
	}
}
