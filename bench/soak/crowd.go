package soak

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Crowd is a noisy neighbour: it opens connections until they are refused, and then floods requests over all of them and bytes over a
// few, and goes on dialling, until its context ends.
type Crowd struct {
	To       string
	Requests int // that are under way at once, of HTTP/1.1
	Bytes    int // connections that bytes go over without end, opaque ones
}

// Commotion is what a crowd has done.
type Commotion struct {
	Connections int64 // that were open at once
	Refused     int64
	Requests    int64
	Bytes       int64 // sent, and come back
}

const (
	dialers = 32
	// enough refusals in a row say that there is a limit.
	enough = 200
)

// mob is a crowd at work.
type mob struct {
	Crowd
	refused, requests, bytes atomic.Int64

	mu   sync.Mutex // protects held
	held []*held
}

type held struct {
	conn net.Conn
	in   *bufio.Reader
}

// Run calls full when no connection is taken any more, and tells what was done when ctx has ended.
func (c Crowd) Run(ctx context.Context, full func()) (Commotion, error) {
	m := &mob{Crowd: c}
	defer m.close()
	var pipes []net.Conn // before there is no room for them
	for range c.Bytes {
		p, err := m.pipe(ctx)
		if err != nil {
			return Commotion{}, fmt.Errorf("a connection for bytes: %w", err)
		}
		defer p.Close()
		pipes = append(pipes, p)
	}
	m.open(ctx)
	full()
	most := int64(len(m.held))
	var flood sync.WaitGroup
	for _, p := range pipes {
		flood.Go(func() { m.pour(ctx, p) })
	}
	defer context.AfterFunc(ctx, m.close)() // who waits for an answer then waits no more
	for i := range c.Requests {
		flood.Go(func() { m.ask(ctx, i) })
	}
	flood.Go(func() { m.insist(ctx) })
	flood.Wait()
	if most == 0 {
		return Commotion{}, errors.New("no connection was taken")
	}
	return Commotion{most + int64(c.Bytes), m.refused.Load(), m.requests.Load(), m.bytes.Load()}, nil
}

// open dials until so many are refused in a row that no more will be taken.
func (m *mob) open(ctx context.Context) {
	var row atomic.Int64
	var all sync.WaitGroup
	for range dialers {
		all.Go(func() {
			for ctx.Err() == nil && row.Load() < enough {
				h, err := m.dial(ctx)
				if err != nil {
					m.note(err)
					row.Add(1)
					continue
				}
				row.Store(0)
				m.mu.Lock()
				m.held = append(m.held, h)
				m.mu.Unlock()
			}
		})
	}
	all.Wait()
}

// dial makes a connection with a request on it: one that is refused is reset after the kernel has taken it.
func (m *mob) dial(ctx context.Context) (*held, error) {
	d := net.Dialer{Timeout: limit}
	c, err := d.DialContext(ctx, "tcp", fmt.Sprintf("%s:%d", m.To, webPort))
	if err != nil {
		return nil, err
	}
	h := &held{c, bufio.NewReaderSize(c, 512)}
	if err := h.ask(); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return h, nil
}

var request = []byte("GET / HTTP/1.1\r\nHost: crowd\r\n\r\n")

func (h *held) ask() error {
	if err := h.conn.SetDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	if _, err := h.conn.Write(request); err != nil {
		return err
	}
	resp, err := http.ReadResponse(h.in, nil)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return errors.Join(err, resp.Body.Close())
}

// ask floods requests over its part of the connections, one after the other.
func (m *mob) ask(ctx context.Context, part int) {
	for i := part; ctx.Err() == nil; i += m.Requests {
		if part >= len(m.held) {
			return
		}
		if i >= len(m.held) {
			i = part
		}
		if m.held[i].ask() == nil {
			m.requests.Add(1)
		}
	}
}

// pipe makes an opaque connection to the echo.
func (m *mob) pipe(ctx context.Context) (net.Conn, error) {
	d := net.Dialer{Timeout: limit}
	c, err := d.DialContext(ctx, "tcp", fmt.Sprintf("%s:%d", m.To, echoPort))
	if err != nil {
		return nil, err
	}
	_ = c.SetDeadline(time.Now().Add(limit)) // a write tells if there is no connection
	if _, err := c.Write(make([]byte, 1)); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, c.SetDeadline(time.Time{})
}

// pour sends bytes as fast as they come back.
func (m *mob) pour(ctx context.Context, c net.Conn) {
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
	go func() { // ends with the deadline
		b := make([]byte, 64<<10)
		for {
			if _, err := c.Write(b); err != nil {
				return
			}
		}
	}()
	b := make([]byte, 64<<10)
	for {
		n, err := c.Read(b)
		m.bytes.Add(int64(n))
		if err != nil {
			return
		}
	}
}

// insist goes on dialling though nobody is taken.
func (m *mob) insist(ctx context.Context) {
	for ctx.Err() == nil {
		if h, err := m.dial(ctx); err != nil {
			m.note(err)
		} else {
			h.conn.Close()
		}
	}
}

// note counts a connection that was reset. What the end of the run has cut off is none.
func (m *mob) note(err error) {
	if errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		m.refused.Add(1)
	}
}

func (m *mob) close() {
	for _, h := range m.held {
		h.conn.Close()
	}
}
