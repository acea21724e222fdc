package loop

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// flush sends what the turn has written, and brings epoll up to date.
func (c *conn) flush() {
	if c.closed {
		return
	}
	if err := c.encrypt(); err != nil {
		c.fail(err)
		return
	}
	if !c.blocked && !c.send() {
		return
	}
	if c.Pending() == 0 && !c.drained() {
		return
	}
	c.count()
	c.watch()
}

// encrypt moves the output to the wire buffer.
func (c *conn) encrypt() error {
	if c.sec == nil {
		if c.wire == nil {
			c.wire, c.out = c.out, nil
			return nil
		}
		c.wire = c.l.buffers.Append(c.wire, c.out)
		c.l.buffers.Give(c.out)
		c.out = nil
		return nil
	}
	if len(c.out) > 0 {
		if _, err := c.sec.Write(c.out); err != nil {
			return fmt.Errorf("encrypt: %w", err)
		}
		c.l.buffers.Give(c.out)
		c.out = nil
	}
	if c.shut && !c.shutOut && !c.sec.said {
		c.sec.said = true
		if err := c.sec.CloseWrite(); err != nil {
			return fmt.Errorf("close_notify: %w", err)
		}
	}
	return nil
}

// send gives the wire buffer to the kernel. It returns false if the connection is no more.
func (c *conn) send() bool {
	for c.sent < len(c.wire) {
		n, err := send(c.fd, c.wire[c.sent:])
		if err == unix.EINTR {
			continue
		}
		if err == unix.EAGAIN {
			c.blocked, c.high = true, true
			if c.sent >= len(c.wire)/2 { // else what has gone would be kept as long as something waits
				c.wire = c.wire[:copy(c.wire, c.wire[c.sent:])]
				c.sent = 0
			}
			return true
		}
		if err != nil {
			c.fail(fmt.Errorf("send: %w", err))
			return false
		}
		c.sent += n
		c.pace.Moved(n)
	}
	c.l.buffers.Give(c.wire)
	c.wire, c.sent = nil, 0
	return true
}

// drained does what had to wait for the last byte. It returns false if the connection is no more.
func (c *conn) drained() bool {
	if c.shut && !c.shutOut {
		c.shutOut = true
		if c.eof { // the peer has ended: to close says the same
			c.finish(nil)
			return false
		}
		if err := unix.Shutdown(c.fd, unix.SHUT_WR); err != nil {
			c.fail(fmt.Errorf("half-close: %w", err))
			return false
		}
	}
	if c.shutOut && c.eof {
		c.finish(nil)
		return false
	}
	if c.high {
		c.high = false
		if !c.closing {
			c.proto.Writable()
		}
	}
	return !c.closed
}

// watch tells epoll what to wait for.
func (c *conn) watch() {
	var want uint32
	if c.reading() {
		want = unix.EPOLLIN
	}
	if c.blocked {
		want |= unix.EPOLLOUT
	}
	if c.listed && want == c.mask {
		return
	}
	if !c.listed && want == 0 && c.shutOut {
		return // see event: a socket that is shut on both sides is taken out while nobody reads
	}
	op := unix.EPOLL_CTL_MOD
	if !c.listed {
		op = unix.EPOLL_CTL_ADD
	}
	ev := unix.EpollEvent{Events: want, Fd: int32(c.fd)}
	if err := unix.EpollCtl(c.l.epoll, op, c.fd, &ev); err != nil {
		c.fail(fmt.Errorf("epoll set: %w", err))
		return
	}
	c.listed, c.mask = true, want
}
