package socket

import (
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// maxDescriptors is the kernel's SCM_MAX_FD: no message carries more, so control data never overflows a buffer of that size.
const maxDescriptors = 253

// sendTimeout is how long a peer may leave its receive buffer full.
const sendTimeout = 5 * time.Second

// packet is a message on its way out. It owns its descriptors.
type packet struct {
	data []byte
	fds  []int
}

func (p packet) close() { closeAll(p.fds) }

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// send writes one message and closes its descriptors, whatever happens.
func send(c *net.UnixConn, p packet) error {
	defer p.close()
	var oob []byte
	if len(p.fds) > 0 {
		oob = unix.UnixRights(p.fds...)
	}
	if err := c.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
		return fmt.Errorf("set write deadline: %w", err)
	}
	n, oobn, err := c.WriteMsgUnix(p.data, oob, nil)
	if err != nil {
		return fmt.Errorf("send message: %w", err)
	}
	if n != len(p.data) || oobn != len(oob) {
		return fmt.Errorf("send message: %d of %d bytes went out", n, len(p.data))
	}
	return nil
}

// inbox receives the messages of one connection, one after the other, into one buffer.
type inbox struct {
	c    *net.UnixConn
	data [MaxMessage + 1]byte // one more than allowed: what fills it is too long
	oob  []byte
}

func newInbox(c *net.UnixConn) *inbox {
	return &inbox{c: c, oob: make([]byte, unix.CmsgSpace(4*maxDescriptors))}
}

// receive returns the next message, which is valid until the next call, and its descriptors, which the caller owns.
func (i *inbox) receive() (data []byte, fds []int, err error) {
	n, oobn, flags, _, err := i.c.ReadMsgUnix(i.data[:], i.oob)
	fds, parseErr := descriptors(i.oob[:oobn])
	switch {
	case err != nil:
		err = fmt.Errorf("receive message: %w", err)
	case parseErr != nil:
		err = &Violation{Kind: Descriptors, Err: parseErr}
	case flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 || n > MaxMessage:
		err = violate(Oversized, "message of more than %d bytes or descriptors that did not fit", MaxMessage)
	}
	if err != nil {
		closeAll(fds)
		return nil, nil, err
	}
	return i.data[:n], fds, nil
}

// descriptors takes the descriptors out of control data, which the kernel wrote.
func descriptors(oob []byte) (fds []int, err error) {
	if len(oob) == 0 {
		return nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("parse control data: %w", err)
	}
	for i := range messages {
		if messages[i].Header.Level != unix.SOL_SOCKET || messages[i].Header.Type != unix.SCM_RIGHTS {
			continue
		}
		got, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			return fds, fmt.Errorf("parse descriptors: %w", err)
		}
		fds = append(fds, got...)
	}
	return fds, nil
}
