package loop

import (
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.io/fairlead/internal/l7/exchange"
)

const (
	// mark is the amount of unsent output from which on Writable is called when it has all gone. Below
	// exchange.HighWater, so that it is called a little too often and never too seldom.
	mark = 16 << 10
	// lingerTime bounds how long a closed connection is kept to send what is pending and to read what is on its way.
	lingerTime = 2 * time.Second
	// maxLeft bounds what a protocol may leave unused while it is not paused.
	maxLeft = 1 << 20
	// smallRest is what may be left in a buffer of four times as much.
	smallRest = 4 << 10
)

var (
	errAborted = errors.New("connection aborted")
	errLeft    = errors.New("protocol left too much input unused")
	errLinger  = errors.New("peer did not take the last bytes in time")
)

// conn is one socket on the loop: an exchange.Transport.
type conn struct {
	l      *Loop
	fd     int
	proto  exchange.Protocol
	owner  any
	sec    *Secure // nil for plain TCP
	in     []byte  // fed and not used up
	out    []byte  // written in this turn, in the clear
	wire   []byte  // on its way to the kernel
	sent   int     // of wire
	mask   uint32  // what epoll watches
	cancel func()  // linger timer
	kept   exchange.Account
	pace   exchange.Pace
	trip   time.Duration
	asked  time.Time // when the kernel was asked for trip
	why    error

	listed  bool // epoll knows fd
	paused  bool
	eof     bool // the peer has half-closed
	again   bool // in l.again
	dirty   bool // in l.dirty
	high    bool // output was above mark, or the kernel did not take all of it
	blocked bool // waiting for EPOLLOUT
	shut    bool // CloseWrite was asked for
	shutOut bool // ... and has been done
	closing bool
	closed  bool
}

// Attach takes a TCP connection over: c is unusable afterwards. start runs on the loop and returns the protocol;
// first is what was already read from c. It may be called from any goroutine; on error c is closed.
func (l *Loop) Attach(c *net.TCPConn, first []byte, start func(exchange.Transport) exchange.Protocol) error {
	fd, err := detach(c)
	if err != nil {
		return fmt.Errorf("attach to loop: %w", err)
	}
	return l.attach(&conn{l: l, fd: fd}, first, start)
}

// AttachTLS is Attach for a connection whose TLS handshake has been made.
func (l *Loop) AttachTLS(s *Secure, start func(exchange.Transport) exchange.Protocol) error {
	fd, err := detach(s.tcp)
	if err != nil {
		return fmt.Errorf("attach to loop: %w", err)
	}
	c := &conn{l: l, fd: fd, sec: s}
	s.adopt(c)
	return l.attach(c, nil, start)
}

func (l *Loop) attach(c *conn, first []byte, start func(exchange.Transport) exchange.Protocol) error {
	ok := l.Do(func() {
		if l.stopping {
			unix.Close(c.fd)
			// The protocol learns of its end like any other.
			c.closed = true
			c.proto, c.why = start(c), ErrStopped
			l.gone = append(l.gone, c)
			return
		}
		l.addConn(c)
		c.proto = ended{} // a panic in start has nobody to tell
		l.guard(c, func() {
			c.proto = start(c)
			c.in = append(c.in, first...)
			c.wake()
			c.touch()
		})
	})
	if !ok {
		unix.Close(c.fd)
		return ErrStopped
	}
	return nil
}

// detach takes the descriptor out of the Go netpoller.
func detach(c *net.TCPConn) (int, error) {
	defer c.Close()
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd := -1
	var dup error
	if err := raw.Control(func(f uintptr) { fd, dup = unix.FcntlInt(f, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return -1, err
	}
	if dup != nil {
		return -1, fmt.Errorf("dup: %w", dup)
	}
	return fd, nil
}

func (c *conn) Loop() exchange.Loop { return c.l }

func (c *conn) Charge(b *exchange.Budget) { c.kept.Open(b) }

func (c *conn) Flows() bool { return c.pace.Flows(c.Pending()) }

// count says what is kept. It comes behind every turn in which that can have changed.
func (c *conn) count() {
	n := cap(c.in) + c.Pending()
	if c.sec != nil {
		n += len(c.sec.shim.in)
	}
	c.kept.Set(n)
}

func (c *conn) Write(b []byte) {
	if c.closed || c.closing || c.shut {
		return
	}
	c.out = c.l.buffers.Append(c.out, b)
	if len(c.out) >= mark {
		c.high = true
		c.count() // a turn can write much, on many connections
	}
	c.touch()
}

func (c *conn) Pending() int { return len(c.out) + len(c.wire) - c.sent }

func (c *conn) Unread() bool { return !c.closed && c.sec == nil && stirs(c.fd) }

func (c *conn) Pause() {
	if !c.paused {
		c.paused = true
		c.touch()
	}
}

func (c *conn) Resume() {
	if c.paused {
		c.paused = false
		c.wake()
		c.touch()
	}
}

func (c *conn) CloseWrite() {
	if !c.shut && !c.closed {
		c.shut = true
		c.touch()
	}
}

func (c *conn) Close() {
	if c.closing || c.closed {
		return
	}
	c.closing, c.shut = true, true
	c.in = nil
	c.count() // at once: others are given up as long as the budget is short
	c.cancel = c.l.After(lingerTime, func() {
		err := error(nil)
		if c.Pending() > 0 {
			err = errLinger
		}
		c.finish(err)
	})
	c.touch()
}

func (c *conn) Abort() {
	c.reset()
	c.finish(errAborted)
}

// touch has the connection flushed, and its event mask set, at the end of the turn.
func (c *conn) touch() {
	if !c.dirty {
		c.dirty = true
		c.l.dirty = append(c.l.dirty, c)
	}
}

// wake has input that was left over fed again at the end of the turn.
func (c *conn) wake() {
	if !c.again {
		c.again = true
		c.l.again = append(c.l.again, c)
	}
}

// reset makes the coming close a reset.
func (c *conn) reset() {
	if !c.closed {
		_ = unix.SetsockoptLinger(c.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	}
}

func (c *conn) finish(err error) {
	if c.closed {
		return
	}
	c.closed = true
	c.why = err
	if c.cancel != nil {
		c.cancel()
	}
	c.l.dropConn(c)
	unix.Close(c.fd)
	c.in, c.out, c.wire = nil, nil, nil
	c.kept.Set(0)
	c.l.gone = append(c.l.gone, c)
}

// reading tells whether bytes are wanted from the socket; a closing connection reads to throw away, because closing
// with unread bytes would turn the farewell into a reset.
func (c *conn) reading() bool { return !c.eof && (!c.paused || c.closing) }

func (c *conn) event(ev uint32) {
	if ev&unix.EPOLLOUT != 0 {
		c.blocked = false
		c.touch()
	}
	if ev&^unix.EPOLLOUT == 0 {
		return
	}
	if c.reading() {
		c.read()
		return
	}
	if ev&unix.EPOLLERR != 0 {
		errno, _ := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_ERROR)
		c.fail(fmt.Errorf("connection: %w", unix.Errno(errno)))
		return
	}
	// Both directions are shut and nobody reads: epoll would report that for ever.
	if ev&unix.EPOLLHUP != 0 && c.listed {
		_ = unix.EpollCtl(c.l.epoll, unix.EPOLL_CTL_DEL, c.fd, nil) // listed: it is there
		c.listed, c.mask = false, 0
	}
}

func (c *conn) read() {
	n, err := recv(c.fd, c.l.buf)
	c.pace.Moved(max(n, 0))
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
	case err != nil:
		c.fail(fmt.Errorf("read: %w", err))
	case n == 0:
		c.eof = true
		c.touch()
		if c.closing {
			return
		}
		if c.sec != nil && !c.sec.bye {
			c.fail(io.ErrUnexpectedEOF) // truncated: no close_notify
			return
		}
		if c.sec == nil {
			c.proto.EOF()
		}
	case c.closing:
	case c.sec != nil:
		c.sec.push(c.l.buf[:n])
		c.open()
	default:
		c.deliver(c.l.buf[:n])
	}
}

// fail ends a connection that the kernel or TLS has given up; the peer gets a reset.
func (c *conn) fail(err error) {
	c.reset()
	c.finish(err)
}

// deliver feeds b after what was left over before.
func (c *conn) deliver(b []byte) {
	left := len(c.in) > 0
	if left {
		c.in = c.l.buffers.Append(c.in, b)
		b = c.in
	}
	if len(b) == 0 {
		return
	}
	n, err := c.proto.Feed(b)
	if c.closed {
		return
	}
	if err != nil {
		c.fatal(err)
		return
	}
	if c.closing {
		c.in = nil
		return
	}
	rest := b[n:]
	switch {
	case len(rest) == 0:
		if c.in != nil {
			c.l.buffers.Give(c.in)
			c.in = nil
			c.count()
		}
	case len(rest) > maxLeft && !c.paused:
		c.fatal(errLeft)
	case left && (len(rest) > smallRest || cap(c.in) <= 4*smallRest):
		c.in = c.in[:copy(c.in, rest)]
		c.touch()
	default:
		old := c.in // a small rest must not hold a large buffer
		c.in = c.l.buffers.Append(nil, rest)
		c.l.buffers.Give(old)
		c.touch() // to be counted
	}
}

// fatal ends a connection whose protocol was broken: what the protocol has said about it goes out first, if it fits.
func (c *conn) fatal(err error) {
	c.shut = true
	c.flush()
	if c.closed {
		return
	}
	if c.Pending() > 0 {
		c.reset()
	}
	c.finish(err)
}

// refeed feeds what was left over when the protocol paused.
func (c *conn) refeed() {
	if c.closed || c.closing || c.paused {
		return
	}
	c.deliver(nil)
	if c.sec != nil && !c.closed && !c.closing {
		c.open()
	}
}

type ended struct{}

func (ended) Feed(b []byte) (int, error) { return len(b), nil }
func (ended) EOF()                       {}
func (ended) Writable()                  {}
func (ended) Closed(error)               {}
