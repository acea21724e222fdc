package socket

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	"fairlead.io/fairlead/internal/mesh"
)

// Keeper is what the server calls. Its methods are called by several goroutines at once and do not wait for anybody
// outside of the keeper. An error that wraps a Violation ends the connection; any other is the answer.
type Keeper interface {
	// Attached is called when a proxy has connected. The events sent to it until Detached reach it in their order,
	// from the first; sending never waits.
	Attached(Handler)
	Detached(Handler)
	// Serving is called when the proxy has everything that it needs to serve pods.
	Serving(Handler)
	// Sockets and Hop return descriptors that the server owns then.
	Sockets(uid string, family, n int) ([]int, error)
	Hop(uid string, client netip.Addr) (int, error)
	Sign(account mesh.Account, leaf [32]byte, content []byte) ([]byte, error)
	Verdicts() (map[string]uint64, error)
	// SaveState does not keep fd.
	SaveState(fd int) error
	// LoadState returns a descriptor to read from, which the server owns then.
	LoadState() (int, error)
}

// ServerConfig is what a Server needs to know.
type ServerConfig struct {
	Path      string // of the unix socket; what lies there is replaced
	UID       int    // the proxy's
	AllowRoot bool   // accept a proxy of uid 0; a deployment never sets it
	Keeper    Keeper
	Log       *slog.Logger
}

// maxSessions is a proxy and its successor.
const maxSessions = 2

// acceptRate bounds how often a proxy that comes and goes makes the keeper send everything again.
const acceptRate, acceptBurst = 20, 40

// Server speaks to the proxy.
type Server struct {
	cfg ServerConfig

	mu         sync.Mutex // protects the rest
	sessions   int
	violations map[string]uint64
}

// NewServer returns a server, which serves when it is run.
func NewServer(cfg ServerConfig) *Server {
	return &Server{cfg: cfg, violations: map[string]uint64{}}
}

// Run listens and serves until ctx ends. The socket's path stays: by then it may be a successor's.
func (s *Server) Run(ctx context.Context) error {
	l, err := listen(s.cfg.Path, s.cfg.UID)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var served sync.WaitGroup
	defer served.Wait()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	defer l.Close()

	limit := rate.NewLimiter(acceptRate, acceptBurst)
	for {
		c, err := l.AcceptUnix()
		if ctx.Err() != nil {
			if err == nil {
				c.Close()
			}
			return nil
		}
		switch {
		case err == nil:
			served.Go(func() { s.serve(ctx, c) })
		case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE), errors.Is(err, unix.ENOMEM), errors.Is(err, unix.ECONNABORTED):
			s.cfg.Log.Warn("proxy not accepted", "err", err) // it passes
		default:
			return fmt.Errorf("accept proxy: %w", err)
		}
		if limit.Wait(ctx) != nil {
			return nil
		}
	}
}

// listen makes the socket aside and renames it into place, so that no proxy ever finds none.
func listen(path string, uid int) (*net.UnixListener, error) {
	aside := fmt.Sprintf("%s.%d", path, os.Getpid())
	if err := os.Remove(aside); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove old socket: %w", err)
	}
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Net: "unixpacket", Name: aside})
	if err != nil {
		return nil, fmt.Errorf("listen for proxy: %w", err)
	}
	l.SetUnlinkOnClose(false)
	err = os.Chmod(aside, 0o600)
	if err == nil && uid != os.Geteuid() {
		err = os.Chown(aside, uid, -1)
	}
	if err == nil {
		err = os.Rename(aside, path)
	}
	if err != nil {
		l.Close()
		return nil, errors.Join(fmt.Errorf("put proxy socket into place: %w", err), os.Remove(aside))
	}
	return l, nil
}

// serve is the life of one connection.
func (s *Server) serve(ctx context.Context, c *net.UnixConn) {
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	pid, err := s.admit(c)
	if err == nil {
		defer s.release()
		s.cfg.Log.Info("proxy connected", "pid", pid)
		err = newSession(c, s.cfg.Keeper).run()
	}
	var v *Violation
	switch {
	case errors.As(err, &v):
		s.count(v.Kind)
		s.cfg.Log.Warn("proxy disconnected for a violation", "pid", pid, "kind", v.Kind, "err", err)
	case ctx.Err() == nil:
		s.cfg.Log.Info("proxy disconnected", "pid", pid, "err", err)
	}
}

// admit checks who the peer is and takes one of the places.
func (s *Server) admit(c *net.UnixConn) (pid int32, err error) {
	cred, err := credentials(c)
	if err != nil {
		return 0, err
	}
	if int(cred.Uid) != s.cfg.UID || cred.Uid == 0 && !s.cfg.AllowRoot {
		return cred.Pid, violate(BadCredentials, "peer has uid %d", cred.Uid)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sessions == maxSessions {
		return cred.Pid, violate(Crowd, "%d proxies are connected", s.sessions)
	}
	s.sessions++
	return cred.Pid, nil
}

func (s *Server) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions--
}

func (s *Server) count(kind string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.violations[kind]++
}

// Violations returns the count of every kind, also of those that have not occurred.
func (s *Server) Violations() map[string]uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	counts := make(map[string]uint64, len(Kinds))
	for _, kind := range Kinds {
		counts[kind] = s.violations[kind]
	}
	return counts
}

func credentials(c *net.UnixConn) (*unix.Ucred, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("peer credentials: %w", err)
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err = errors.Join(err, credErr); err != nil {
		return nil, fmt.Errorf("peer credentials: %w", err)
	}
	return cred, nil
}

// greet exchanges greetings. Both ends send first, so a peer of another version can tell its operator which.
func greet(c *net.UnixConn, in *inbox) error {
	if err := send(c, packet{data: encodeHello()}); err != nil {
		return err
	}
	if err := c.SetReadDeadline(time.Now().Add(sendTimeout)); err != nil {
		return fmt.Errorf("set read deadline: %w", err)
	}
	data, fds, err := in.receive()
	if err != nil {
		return err
	}
	if len(fds) > 0 {
		closeAll(fds)
		return violate(Descriptors, "%d with the greeting", len(fds))
	}
	if err := parseHello(data); err != nil {
		return err
	}
	return c.SetReadDeadline(time.Time{})
}
