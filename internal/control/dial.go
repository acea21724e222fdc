package control

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"fairlead.io/fairlead/internal/identity"
)

// The pauses between two tries are short: another replica may lead by now, and it waits WarmUp for the keepers. A
// connection to where the last one was (5 s), and both pauses, must be over by then.
const (
	maxDialPause   = time.Second
	maxStreamPause = 3 * time.Second
)

// Target is the controller as a client finds it.
type Target struct {
	Addr string      // host:port
	TLS  *tls.Config // from identity.ClientTLS, with the controller's ID as the only one allowed
	Node string      // the client's own node
}

func (t Target) dial() (*grpc.ClientConn, error) {
	conn, err := grpc.NewClient(t.Addr,
		grpc.WithTransportCredentials(credentials.NewTLS(t.TLS)),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxDown)),
		grpc.WithDisableServiceConfig(),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.3, MaxDelay: maxDialPause},
			MinConnectTimeout: 5 * time.Second,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepAlive, Timeout: keepAliveTimeout}))
	if err != nil {
		return nil, fmt.Errorf("dial controller %s: %w", t.Addr, err)
	}
	return conn, nil
}

// redial runs stream after stream until the context ends, with a pause after each that ended; the pauses grow
// while streams end before they brought anything.
func redial(ctx context.Context, log *slog.Logger, t Target, stream func(context.Context, *grpc.ClientConn) (useful bool, err error)) error {
	conn, err := t.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	for failures := 0; ; {
		sctx, cancel := context.WithCancel(ctx)
		useful, err := stream(sctx, conn)
		cancel()
		if ctx.Err() != nil {
			return nil
		}
		failures++
		if useful {
			failures = 1
		}
		log.Warn("controller stream ended", "err", err, "failures", failures)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(identity.Backoff(failures, 100*time.Millisecond, maxStreamPause)):
		}
	}
}

func orDiscard(log *slog.Logger) *slog.Logger {
	if log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return log
}
