package load

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// chunk is how much is written and read at once.
const chunk = 64 << 10

// ServeBulk answers on every connection as many bytes as its first eight ask for, until the listener is closed.
func ServeBulk(l net.Listener) error {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(time.Minute))
			_ = answerBulk(c) // the client sees what it lacks
		}()
	}
}

func answerBulk(c net.Conn) error {
	var n uint64
	if err := binary.Read(c, binary.BigEndian, &n); err != nil {
		return err
	}
	for b := make([]byte, chunk); n > 0; {
		wrote, err := c.Write(b[:min(n, chunk)])
		if err != nil {
			return err
		}
		n -= uint64(wrote)
	}
	return nil
}

// Fetch reads that many bytes from such a server, on some connections at the same time.
func Fetch(ctx context.Context, addr string, connections int, each uint64) error {
	errs := make(chan error, connections)
	for range connections {
		go func() { errs <- fetch(ctx, addr, each) }()
	}
	var all []error
	for range connections {
		all = append(all, <-errs)
	}
	return errors.Join(all...)
}

// dialling is how many connections may be open at the same time that are made at a rate.
const dialling = 64

// Dial makes so many connections a second to such a server and reads a few bytes from each.
func Dial(ctx context.Context, addr string, rate float64, connections int, each uint64) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	tick := time.NewTicker(time.Duration(float64(time.Second) / rate))
	defer tick.Stop()
	free := make(chan struct{}, dialling)
	for range connections {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		free <- struct{}{}
		go func() {
			defer func() { <-free }()
			if err := fetch(ctx, addr, each); err != nil {
				cancel(err)
			}
		}()
	}
	for range dialling { // until all have ended
		free <- struct{}{}
	}
	return context.Cause(ctx)
}

func fetch(ctx context.Context, addr string, n uint64) error {
	d := net.Dialer{Timeout: 5 * time.Second}
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
	if err := binary.Write(c, binary.BigEndian, n); err != nil {
		return fmt.Errorf("ask for %d bytes: %w", n, err)
	}
	b := make([]byte, chunk)
	var got uint64
	for {
		read, err := c.Read(b)
		got += uint64(read)
		if errors.Is(err, io.EOF) && got == n {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read bulk: %d of %d bytes: %w", got, n, err)
		}
	}
}
