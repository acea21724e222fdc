package soak

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// The ports of every server: HTTP of both versions, gRPC, and an opaque echo.
const (
	webPort  = 8081
	grpcPort = 8083
	echoPort = 8084
)

// grace is how long a server waits for what is under way when it is told to end: longer than any stream lasts.
const grace = 10 * time.Second

// The methods of the gRPC server.
const (
	grpcService = "soak.Echo"
	unaryMethod = "/" + grpcService + "/Unary"
	chatMethod  = "/" + grpcService + "/Chat"
)

var chatDesc = grpc.StreamDesc{StreamName: "Chat", ServerStreams: true, ClientStreams: true, Handler: chat}

// Serve serves until ctx ends, and then ends what is under way in order.
func Serve(ctx context.Context) error {
	var lc net.ListenConfig
	var listeners []net.Listener
	for _, port := range []int{webPort, grpcPort, echoPort} {
		l, err := lc.Listen(ctx, "tcp", fmt.Sprintf(":%d", port))
		if err != nil {
			return err
		}
		defer l.Close()
		listeners = append(listeners, l)
	}
	web := &http.Server{Handler: http.HandlerFunc(page), Protocols: new(http.Protocols), ReadHeaderTimeout: time.Minute}
	web.Protocols.SetHTTP1(true)
	web.Protocols.SetUnencryptedHTTP2(true)
	calls := grpc.NewServer()
	calls.RegisterService(&grpc.ServiceDesc{ServiceName: grpcService, HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Unary", Handler: unary}}, Streams: []grpc.StreamDesc{chatDesc}}, nil)
	failed := make(chan error, 3)
	var echoes echoServer
	go func() { failed <- web.Serve(listeners[0]) }()
	go func() { failed <- calls.Serve(listeners[1]) }()
	go func() { failed <- echoes.serve(listeners[2]) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	stopped := make(chan error, 3)
	go func() { stopped <- web.Shutdown(end) }()
	go func() { stopped <- stopCalls(end, calls) }()
	go func() { stopped <- errors.Join(listeners[2].Close(), echoes.wait(end)) }()
	return errors.Join(<-stopped, <-stopped, <-stopped)
}

func stopCalls(ctx context.Context, s *grpc.Server) error {
	done := make(chan struct{})
	go func() { defer close(done); s.GracefulStop() }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		s.Stop()
		<-done
		return fmt.Errorf("end gRPC: %w", ctx.Err())
	}
}

// answer is what every page says.
var answer = strings.Repeat("x", 256)

// page waits for as long as it is asked to, takes the body, and answers.
func page(w http.ResponseWriter, r *http.Request) {
	if ms, err := strconv.Atoi(r.URL.Query().Get("ms")); err == nil {
		if pause(r.Context(), min(time.Duration(ms)*time.Millisecond, grace/2)) != nil {
			return // nobody waits for the answer
		}
	}
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		panic(http.ErrAbortHandler)
	}
	_, _ = io.WriteString(w, answer) // the client sees what it lacks
}

func unary(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	in := new(wrapperspb.BytesValue)
	if err := decode(in); err != nil {
		return nil, err
	}
	return in, nil
}

// chat sends every message back until the client has no more.
func chat(_ any, s grpc.ServerStream) error {
	for {
		in := new(wrapperspb.BytesValue)
		if err := s.RecvMsg(in); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := s.SendMsg(in); err != nil {
			return err
		}
	}
}

// echoServer sends all bytes back.
type echoServer struct{ open sync.WaitGroup }

func (e *echoServer) serve(l net.Listener) error {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		e.open.Go(func() {
			defer c.Close()
			_, _ = io.CopyBuffer(struct{ io.Writer }{c}, struct{ io.Reader }{c}, make([]byte, 32<<10))
		})
	}
}

// wait waits until the clients have ended their connections.
func (e *echoServer) wait(ctx context.Context) error {
	done := make(chan struct{})
	go func() { defer close(done); e.open.Wait() }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("end the echoes: %w", ctx.Err())
	}
}
