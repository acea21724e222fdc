package cni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/containernetworking/cni/pkg/types"
)

// ErrKeeperAway is wrapped by Call's error when the keeper gave no answer: nothing listens, or it did not reply in time.
var ErrKeeperAway = errors.New("the keeper does not answer")

// Call sends r to the keeper that listens on socket, with netns when there is one, and waits for its reply as long as
// r's budget and ctx allow. A refusal is a *types.Error with the keeper's code; no answer wraps ErrKeeperAway.
func Call(ctx context.Context, socket string, r *Request, netns *os.File) error {
	sent := *r
	sent.Version = Version
	b, err := json.Marshal(&sent)
	if err != nil {
		return fmt.Errorf("encode request: %w", err)
	}
	if len(b) > MaxMessage {
		return fmt.Errorf("encode request: %w: %d bytes, at most %d", ErrMessage, len(b), MaxMessage)
	}

	ctx, cancel := context.WithTimeout(ctx, sent.Timeout())
	defer cancel()
	reply, err := ask(ctx, socket, b, netns)
	for cutOff(err) {
		// The keeper has ended or, during an update, lets its successor answer: that listens at the same path.
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ErrKeeperAway, err)
		case <-time.After(askAgain):
		}
		reply, err = ask(ctx, socket, b, netns)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrKeeperAway, err)
	}
	if reply.OK {
		return nil
	}
	if reply.Code == types.ErrDecodingFailure {
		// Plugin and keeper of different versions: to a pod that is as good as no keeper.
		return fmt.Errorf("%w: %s", ErrKeeperAway, reply.Message)
	}
	return types.NewError(reply.Code, reply.Message, reply.Details)
}

// askAgain is the pause before a request is made again that was cut off.
const askAgain = 20 * time.Millisecond

// cutOff tells whether somebody took the connection, and ended it without an answer.
func cutOff(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

func ask(ctx context.Context, socket string, request []byte, netns *os.File) (*Reply, error) {
	conn, err := dial(ctx, socket)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	var rights []byte
	if netns != nil {
		rights = syscall.UnixRights(int(netns.Fd()))
	}
	if _, _, err := conn.WriteMsgUnix(request, rights, nil); err != nil {
		return nil, fmt.Errorf("send request: %w", err)
	}
	reply, err := readReply(conn)
	if err != nil {
		return nil, fmt.Errorf("read reply: %w", err)
	}
	return reply, nil
}

// dial connects without waiting for anybody: a socket that nobody serves is refused by the kernel at once, and one whose
// queue is full is waited for until the deadline.
func dial(ctx context.Context, socket string) (*net.UnixConn, error) {
	var d net.Dialer
	for {
		c, err := d.DialContext(ctx, "unixpacket", socket)
		if err == nil {
			deadline, _ := ctx.Deadline()
			conn := c.(*net.UnixConn)
			return conn, conn.SetDeadline(deadline)
		}
		if !errors.Is(err, syscall.EAGAIN) {
			return nil, err
		}
		// A non-blocking connect to a full queue gives EAGAIN on a unix socket, and nothing to poll on.
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func readReply(conn *net.UnixConn) (*Reply, error) {
	buf := make([]byte, MaxMessage+1)
	n, err := conn.Read(buf)
	if err != nil {
		return nil, err
	}
	return ParseReply(buf[:n])
}
