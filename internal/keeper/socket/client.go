package socket

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
)

// maxEvents is how many events wait for a Handler that is busy. A node has a few hundred pods.
const maxEvents = 8192

// Client is the proxy's end. Its calls may be made by any goroutine; they wait until Run runs.
type Client struct {
	c     *net.UnixConn
	in    *inbox
	slots chan struct{} // one per request in flight

	mu      sync.Mutex // protects the rest
	waiting map[uint32]chan reply
	lastID  uint32
	closed  bool
}

// reply is what came for a request. Whoever receives it owns its descriptors.
type reply struct {
	kind kind
	body []byte
	fds  []int
}

// Dial connects and greets. The caller runs the client, or closes it.
func Dial(ctx context.Context, path string) (*Client, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unixpacket", path)
	if err != nil {
		return nil, fmt.Errorf("dial keeper: %w", err)
	}
	conn := c.(*net.UnixConn)
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	in := newInbox(conn)
	if err := greet(conn, in); err != nil {
		conn.Close()
		return nil, fmt.Errorf("greet keeper: %w", err)
	}
	return &Client{
		c:       conn,
		in:      in,
		slots:   make(chan struct{}, MaxInFlight),
		waiting: map[uint32]chan reply{},
	}, nil
}

// Close ends the connection. Run, if it runs, returns.
func (c *Client) Close() error { return c.c.Close() }

// Run delivers events to h until the connection or ctx ends, and returns why. Calls fail with ErrClosed from then on.
func (c *Client) Run(ctx context.Context, h Handler) error {
	events := make(chan event, maxEvents)
	var delivering sync.WaitGroup
	delivering.Go(func() { deliver(events, h) })
	stop := context.AfterFunc(ctx, func() { c.c.Close() })
	defer stop()

	err := c.read(events)
	c.c.Close()
	close(events)
	c.end()
	delivering.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// deliver runs beside read, so that a Handler may make calls. Events that arrived are delivered even after the end:
// the listeners in them are as good as before.
func deliver(events <-chan event, h Handler) {
	for e := range events {
		switch {
		case e.enrolled != nil:
			h.Enrolled(e.enrolled.pod, e.enrolled.listeners)
		case e.left != nil:
			h.Left(e.left.uid, e.left.drain)
		case e.certificate != nil:
			h.Certificate(*e.certificate)
		case e.roots != nil:
			h.Roots(e.roots.trustDomain, e.roots.pem)
		case e.others != nil:
			h.Others(e.others.programs)
		case e.earlier != nil:
			h.Earlier(e.earlier.uid, e.earlier.count)
		case e.synced:
			h.Synced()
		case e.superseded:
			h.Superseded()
		}
	}
}

func (c *Client) read(events chan<- event) error {
	for {
		data, fds, err := c.in.receive()
		if err != nil {
			return err
		}
		if len(data) < headerLen {
			closeAll(fds)
			return fmt.Errorf("read the keeper's message: %w", errShort)
		}
		r := &reader{b: data}
		if k, id := kind(r.u8()), r.u32(); k == kindReply || k == kindRefusal {
			c.resolve(id, reply{k, append([]byte(nil), r.b...), fds})
			continue
		}
		e, err := parseEvent(data, fds)
		if err != nil {
			closeAll(fds)
			return fmt.Errorf("read the keeper's event: %w", err)
		}
		select {
		case events <- e:
		default:
			closeAll(fds)
			return fmt.Errorf("%d events wait for the proxy", maxEvents)
		}
	}
}

// resolve hands a reply to the call that waits for it, or closes what came for one that has given up.
func (c *Client) resolve(id uint32, r reply) {
	c.mu.Lock()
	wait, ok := c.waiting[id]
	delete(c.waiting, id)
	c.mu.Unlock()
	if !ok {
		closeAll(r.fds)
		return
	}
	<-c.slots
	if wait == nil { // abandoned
		closeAll(r.fds)
		return
	}
	wait <- r // has room for it
}

// end fails every call that waits, and those to come.
func (c *Client) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for id, wait := range c.waiting {
		delete(c.waiting, id)
		<-c.slots
		if wait != nil {
			close(wait)
		}
	}
}

// abandon is for a call that waits no longer. Its slot stays taken until the reply comes, since the keeper counts it too.
func (c *Client) abandon(id uint32, wait chan reply) {
	c.mu.Lock()
	_, still := c.waiting[id]
	if still {
		c.waiting[id] = nil
	}
	c.mu.Unlock()
	if still {
		return
	}
	if r, ok := <-wait; ok { // it is there, or on its way
		closeAll(r.fds)
	}
}

func (c *Client) register() (uint32, chan reply, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return 0, nil, ErrClosed
	}
	c.lastID++
	wait := make(chan reply, 1)
	c.waiting[c.lastID] = wait
	return c.lastID, wait, nil
}

// call sends a request with the descriptors that it lends, and waits for the reply.
func (c *Client) call(ctx context.Context, q request, fds ...int) (reply, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	select {
	case c.slots <- struct{}{}:
	case <-ctx.Done():
		return reply{}, fmt.Errorf("wait for a slot: %w", ctx.Err())
	}
	id, wait, err := c.register()
	if err != nil {
		<-c.slots
		return reply{}, err
	}
	q.id = id
	if err := c.transmit(&q, fds); err != nil {
		c.resolve(id, reply{}) // the slot; nobody answers what was not sent
		<-wait
		return reply{}, err
	}
	select {
	case r, ok := <-wait:
		if !ok {
			return reply{}, ErrClosed
		}
		if r.kind == kindRefusal {
			closeAll(r.fds)
			return reply{}, parseRefusal(r.body)
		}
		return r, nil
	case <-ctx.Done():
		c.abandon(id, wait)
		return reply{}, fmt.Errorf("wait for the keeper: %w", ctx.Err())
	}
}

// transmit sends duplicates of fds, since sending closes them.
func (c *Client) transmit(q *request, fds []int) error {
	data, err := q.encode()
	if err != nil {
		return fmt.Errorf("encode request: %w", err)
	}
	p := packet{data: data}
	for _, fd := range fds {
		d, err := duplicate(fd)
		if err != nil {
			p.close()
			return err
		}
		p.fds = append(p.fds, d)
	}
	if err := send(c.c, p); errors.Is(err, net.ErrClosed) {
		return ErrClosed
	} else if err != nil {
		return fmt.Errorf("%w: %w", ErrClosed, err)
	}
	return nil
}
