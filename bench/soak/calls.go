package soak

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// limit is how long any single request may take: then it hangs, and has failed.
const limit = 15 * time.Second

// client makes requests of every kind to one service.
type client struct {
	host   string
	h1, h2 *http.Client
	calls  *grpc.ClientConn
}

func newClient(host string) (*client, error) {
	h1 := &http.Transport{MaxIdleConnsPerHost: workers, Protocols: new(http.Protocols)}
	h1.Protocols.SetHTTP1(true)
	h2 := &http.Transport{Protocols: new(http.Protocols)}
	h2.Protocols.SetUnencryptedHTTP2(true)
	calls, err := grpc.NewClient(fmt.Sprintf("passthrough:///%s:%d", host, grpcPort), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	return &client{host: host, h1: &http.Client{Transport: h1, Timeout: limit}, h2: &http.Client{Transport: h2, Timeout: limit}, calls: calls}, nil
}

// close closes what is idle.
func (c *client) close() error {
	c.h1.CloseIdleConnections()
	c.h2.CloseIdleConnections()
	return c.calls.Close()
}

// web makes one request, on a connection of its own if it is to be the last.
func (c *client) web(ctx context.Context, by *http.Client, method, path string, body int, last bool) error {
	var content io.Reader
	if body > 0 {
		content = bytes.NewReader(make([]byte, body))
	}
	req, err := http.NewRequestWithContext(ctx, method, fmt.Sprintf("http://%s:%d%s", c.host, webPort, path), content)
	if err != nil {
		return err
	}
	req.Close = last
	resp, err := by.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return fmt.Errorf("read body: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d: %.80s", resp.StatusCode, text)
	}
	if string(text) != answer {
		return fmt.Errorf("another body: %.80q", text)
	}
	return nil
}

// fresh makes one request on a connection that is made for it.
func (c *client) fresh(ctx context.Context) error {
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetHTTP1(true)
	defer tr.CloseIdleConnections()
	return c.web(ctx, &http.Client{Transport: tr, Timeout: limit}, http.MethodGet, "/", 0, true)
}

// cancelled gives a request up that takes longer than it is waited for. What would be wrong is an answer, or another error.
func (c *client) cancelled(ctx context.Context, by *http.Client) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	err := c.web(ctx, by, http.MethodGet, "/?ms=2000", 0, false)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return fmt.Errorf("it was not to be answered: %w", err)
}

var message = bytes.Repeat([]byte("m"), 128)

func (c *client) unary(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	out := new(wrapperspb.BytesValue)
	if err := c.calls.Invoke(ctx, unaryMethod, wrapperspb.Bytes(message), out); err != nil {
		return err
	}
	return same(message, out.Value)
}

// chat talks on one stream until it is over, a message each beat, and ends it in order, or else gives it up.
func (c *client) chat(ctx context.Context, over func() bool, beat time.Duration, inOrder bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	hangs := time.AfterFunc(limit, cancel)
	defer hangs.Stop()
	s, err := c.calls.NewStream(ctx, &chatDesc, chatMethod)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	for !over() {
		hangs.Reset(limit)
		out := new(wrapperspb.BytesValue)
		if err := errors.Join(s.SendMsg(wrapperspb.Bytes(message)), s.RecvMsg(out)); err != nil {
			return fmt.Errorf("talk: %w", err)
		}
		if err := errors.Join(same(message, out.Value), pause(ctx, beat)); err != nil {
			return err
		}
	}
	if !inOrder {
		return nil // the context cancels it
	}
	hangs.Reset(limit)
	if err := s.CloseSend(); err != nil {
		return fmt.Errorf("end: %w", err)
	}
	if err := s.RecvMsg(new(wrapperspb.BytesValue)); !errors.Is(err, io.EOF) {
		return fmt.Errorf("end: %w", err)
	}
	return nil
}

// echo sends bytes over one opaque connection until it is over, and once at least.
func (c *client) echo(ctx context.Context, over func() bool, beat time.Duration) error {
	d := net.Dialer{Timeout: limit}
	conn, err := d.DialContext(ctx, "tcp", fmt.Sprintf("%s:%d", c.host, echoPort))
	if err != nil {
		return err
	}
	defer conn.Close()
	sent := append([]byte{0}, bytes.Repeat([]byte("e"), 4095)...) // no protocol that a proxy could take it for
	got := make([]byte, len(sent))
	for {
		if err := conn.SetDeadline(time.Now().Add(limit)); err != nil {
			return err
		}
		if _, err := conn.Write(sent); err != nil {
			return err
		}
		if _, err := io.ReadFull(conn, got); err != nil {
			return err
		}
		if err := same(sent, got); err != nil || over() {
			return err
		}
		if err := pause(ctx, beat); err != nil {
			return err
		}
	}
}

func same(sent, got []byte) error {
	if !bytes.Equal(sent, got) {
		return errors.New("other bytes came back")
	}
	return nil
}
