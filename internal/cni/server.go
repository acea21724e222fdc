package cni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/containernetworking/cni/pkg/types"
)

// Handler is what the keeper does about a request. An error that is a *types.Error reaches the runtime as it is; any other
// becomes one of code 11 (try again later), but for ErrElsewhere. ctx ends with the plugin's budget: an error after it is not sent, and the plugin
// decides as if nobody had been there.
type Handler interface {
	CNI(ctx context.Context, r *Request) error
}

// ErrElsewhere is returned by a Handler that does not decide any more. The plugin gets no answer, and asks whoever listens
// at the socket's path by then.
var ErrElsewhere = errors.New("another keeper answers")

// TryAgain makes the refusal that runtimes repeat: CNI code 11.
func TryAgain(message, details string) error {
	return types.NewError(types.ErrTryAgainLater, message, details)
}

// Limits of a Server: so many requests at work, the rest wait in the kernel's queue; so long for a request to arrive.
const (
	maxRequests = 64
	readTimeout = 2 * time.Second
	pollAccept  = time.Second
)

// Server is the keeper's end.
type Server struct {
	Log     *slog.Logger
	Handler Handler

	listener *net.UnixListener
}

// Listen makes the socket beside its place and renames it there, so that a predecessor's socket is replaced in one
// step and a caller never meets a path without a listener. Nothing is served before Run; Run closes the socket.
func Listen(path string, h Handler, log *slog.Logger) (*Server, error) {
	fresh := path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove stale socket: %w", err)
	}
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: fresh, Net: "unixpacket"})
	if err != nil {
		return nil, fmt.Errorf("listen for the plugin: %w", err)
	}
	// The path is never unlinked by the one who leaves: by then it may be the successor's.
	l.SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(fresh, 0o600), os.Rename(fresh, path)); err != nil {
		return nil, errors.Join(fmt.Errorf("put the socket in place: %w", err), l.Close(), os.Remove(fresh))
	}
	return &Server{Log: log, Handler: h, listener: l}, nil
}

// Close ends a Server that is never Run.
func (s *Server) Close() error { return s.listener.Close() }

// Run serves until ctx ends, then waits for the requests at work; each ends with its own budget at the latest.
func (s *Server) Run(ctx context.Context) error {
	defer s.listener.Close()
	var requests sync.WaitGroup
	defer requests.Wait()
	slots := make(chan struct{}, maxRequests)
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		conn, err := s.accept(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("accept plugin: %w", err)
		}
		requests.Go(func() {
			defer func() { <-slots }()
			defer conn.Close()
			s.serve(ctx, conn)
		})
	}
}

// accept looks up every pollAccept whether ctx has ended. A shortage of descriptors passes; it ends nothing.
func (s *Server) accept(ctx context.Context) (*net.UnixConn, error) {
	for {
		if err := s.listener.SetDeadline(time.Now().Add(pollAccept)); err != nil {
			return nil, err
		}
		stop := context.AfterFunc(ctx, func() { _ = s.listener.SetDeadline(time.Unix(1, 0)) })
		conn, err := s.listener.AcceptUnix()
		stop()
		switch {
		case err == nil:
			return conn, nil
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, syscall.ECONNABORTED):
		case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.ENOMEM):
			s.Log.Warn("accept plugin", "err", err)
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
		default:
			return nil, err
		}
	}
}

func (s *Server) serve(ctx context.Context, conn *net.UnixConn) {
	if err := checkPeer(conn); err != nil {
		s.Log.Warn("plugin refused", "err", err)
		return
	}
	_ = conn.SetDeadline(time.Now().Add(readTimeout))
	r, err := receive(conn)
	if err != nil {
		s.Log.Warn("plugin refused", "err", err)
		s.reply(conn, types.NewError(types.ErrDecodingFailure, "the keeper does not understand the CNI plugin: "+err.Error(),
			"plugin and keeper are of different versions; the keeper installs its own plugin when it starts"))
		return
	}
	if r.NetNS != nil {
		defer r.NetNS.Close()
	}
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, r.Timeout())
	defer cancel()
	err = s.Handler.CNI(ctx, r)
	s.Log.Debug("cni request", "command", r.Command, "ns", r.Pod.Namespace, "pod", r.Pod.Name, "took", time.Since(start), "err", err)
	if errors.Is(err, ErrElsewhere) || err != nil && ctx.Err() != nil {
		return // too late, or leaving: the plugin decides as without a keeper, so that a pod outside the mesh still starts
	}
	s.reply(conn, err)
}

func (s *Server) reply(conn *net.UnixConn, err error) {
	reply := Reply{Version: Version, OK: err == nil}
	if err != nil {
		var refusal *types.Error
		if !errors.As(err, &refusal) {
			refusal = types.NewError(types.ErrTryAgainLater, err.Error(), "")
		}
		reply.Code, reply.Message, reply.Details = refusal.Code, clip(refusal.Msg), clip(refusal.Details)
	}
	b, err := json.Marshal(reply)
	if err == nil {
		_ = conn.SetWriteDeadline(time.Now().Add(readTimeout))
		_, err = conn.Write(b)
	}
	if err != nil {
		s.Log.Debug("plugin left before its answer", "err", err)
	}
}

// clip keeps a reply far below MaxMessage: JSON may make six bytes of one.
func clip(s string) string {
	const limit = 4096
	if len(s) > limit {
		return s[:limit]
	}
	return s
}

// checkPeer admits root and the keeper's own user, who could do everything that a request can.
func checkPeer(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var cred *syscall.Ucred
	var sockErr error
	if err := raw.Control(func(fd uintptr) {
		cred, sockErr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); err != nil {
		return err
	}
	if sockErr != nil {
		return fmt.Errorf("peer credentials: %w", sockErr)
	}
	if cred.Uid != 0 && int(cred.Uid) != os.Geteuid() {
		return fmt.Errorf("peer is uid %d pid %d", cred.Uid, cred.Pid)
	}
	return nil
}
