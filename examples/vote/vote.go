// Package vote is what the programs of the vote example share: a marker, a listener's life, a client's dial.
//
// Promises:
//  1. The programs know nothing of a mesh: no import of its code, no header, port or address of its making.
//  2. Every request and every reply bears Marker in the clear, so that a capture of packets which finds it has
//     found plaintext.
//  3. Dial makes one connection at most. That calls reach more than one instance is then the network's doing.
package vote

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// Marker is in every gRPC message as a field (a header would be compressed by HPACK) and in every HTTP/1.1
// message as the value of MarkerHeader.
const (
	Marker       = "vote-plaintext-8f2b61c4d9"
	MarkerHeader = "X-Vote-Marker"
)

// Env is the variable's value, or fallback when it is not set.
func Env(name, fallback string) string {
	if v, ok := os.LookupEnv(name); ok {
		return v
	}
	return fallback
}

// InstanceName is what an instance calls itself in its replies: NAME, or the host's name.
func InstanceName() string {
	host, _ := os.Hostname() // without one, the name is empty: it is for people only
	return Env("NAME", host)
}

// Dial makes a client with one plaintext connection, opened at the first call.
func Dial(addr string) (*grpc.ClientConn, error) {
	conn, err := grpc.NewClient(addr,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDisableServiceConfig(), // no TXT look-ups, and the default policy pick_first: one connection
		grpc.WithNoProxy())
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", addr, err)
	}
	return conn, nil
}

// Main runs a program until SIGINT or SIGTERM and returns its exit status.
func Main(name string, run func(context.Context, *slog.Logger) error) int {
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil)).With("program", name)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, log); err != nil {
		log.Error("stopped", "err", err)
		return 1
	}
	return 0
}
