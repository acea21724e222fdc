// Greeter is a gRPC server for tests. Its messages are the well-known wrappers, so that it needs no generated code.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const maxMessage = 32 << 20

type bytesValue = wrapperspb.BytesValue

// server answers with its name in the header "server", and with what it got in "echo" in header and trailer.
type server struct {
	name      string
	cancelled atomic.Int64
}

func main() {
	listen := flag.String("listen", ":9000", "address")
	name := flag.String("name", "", "what the header \"server\" says")
	flag.Parse()
	if err := run(*listen, *name); err != nil {
		fmt.Fprintln(os.Stderr, "greeter:", err)
		os.Exit(1)
	}
}

func run(listen, name string) error {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	g := grpc.NewServer(grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxMessage))
	s := &server{name: name}
	g.RegisterService(s.describe(), s)
	return g.Serve(l)
}

func (s *server) describe() *grpc.ServiceDesc {
	stream := func(name string, fn func(grpc.ServerStream) error) grpc.StreamDesc {
		return grpc.StreamDesc{StreamName: name, ServerStreams: true, ClientStreams: true,
			Handler: func(_ any, ss grpc.ServerStream) error { return fn(ss) }}
	}
	unary := func(name string, fn func(context.Context, *bytesValue) (*bytesValue, error)) grpc.MethodDesc {
		return grpc.MethodDesc{MethodName: name, Handler: func(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			in := new(bytesValue)
			if err := decode(in); err != nil {
				return nil, err
			}
			return fn(ctx, in)
		}}
	}
	return &grpc.ServiceDesc{ServiceName: "test.Greeter", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{unary("Echo", s.echo), unary("Fail", s.fail), unary("Wait", s.wait), unary("Cancelled", s.howManyCancelled)},
		Streams: []grpc.StreamDesc{stream("Chat", s.chat), stream("Count", s.count), stream("Gather", s.gather)}}
}

func (s *server) headers(ctx context.Context) (metadata.MD, metadata.MD) {
	md, _ := metadata.FromIncomingContext(ctx)
	return metadata.Pairs("server", s.name, "echo-bin", first(md, "echo-bin"), "authority", first(md, ":authority")),
		metadata.Pairs("echo-trailer", first(md, "echo"))
}

func first(md metadata.MD, key string) string {
	if v := md.Get(key); len(v) > 0 {
		return v[0]
	}
	return ""
}

func (s *server) echo(ctx context.Context, in *bytesValue) (*bytesValue, error) {
	header, trailer := s.headers(ctx)
	return in, errors.Join(grpc.SetHeader(ctx, header), grpc.SetTrailer(ctx, trailer))
}

func (s *server) fail(context.Context, *bytesValue) (*bytesValue, error) {
	st, err := status.New(codes.ResourceExhausted, "too much: ä%").WithDetails(&errdetails.RetryInfo{}, &errdetails.ErrorInfo{Reason: "FULL", Domain: "test"})
	if err != nil {
		return nil, err
	}
	return nil, st.Err()
}

// wait waits until the client gives up.
func (s *server) wait(ctx context.Context, _ *bytesValue) (*bytesValue, error) {
	select {
	case <-ctx.Done():
		s.cancelled.Add(1)
		return nil, ctx.Err()
	case <-time.After(30 * time.Second):
		return nil, status.Error(codes.Internal, "nobody gave up")
	}
}

func (s *server) howManyCancelled(context.Context, *bytesValue) (*bytesValue, error) {
	return wrapperspb.Bytes(fmt.Append(nil, s.cancelled.Load())), nil
}

// chat answers every message at once.
func (s *server) chat(ss grpc.ServerStream) error {
	header, trailer := s.headers(ss.Context())
	if err := ss.SendHeader(header); err != nil {
		return err
	}
	ss.SetTrailer(trailer)
	for {
		in := new(bytesValue)
		err := ss.RecvMsg(in)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			s.cancelled.Add(1)
			return err
		}
		if err := ss.SendMsg(in); err != nil {
			return err
		}
	}
}

// count sends a hundred messages for one.
func (s *server) count(ss grpc.ServerStream) error {
	in := new(bytesValue)
	if err := ss.RecvMsg(in); err != nil {
		return err
	}
	for i := range 100 {
		if err := ss.SendMsg(wrapperspb.Bytes(fmt.Append(in.Value, i))); err != nil {
			return err
		}
	}
	return nil
}

// gather sends one message with the length of all.
func (s *server) gather(ss grpc.ServerStream) error {
	total := 0
	for {
		in := new(bytesValue)
		err := ss.RecvMsg(in)
		if err == io.EOF {
			return ss.SendMsg(wrapperspb.Bytes(fmt.Append(nil, total)))
		}
		if err != nil {
			return err
		}
		total += len(in.Value)
	}
}
