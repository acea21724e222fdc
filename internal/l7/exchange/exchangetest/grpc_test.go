package exchangetest_test

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"fairlead.io/fairlead/internal/l7/exchange"
	. "fairlead.io/fairlead/internal/l7/exchange/exchangetest"
)

// echoes is a gRPC service that sends back what comes, and then ends with what the metadata asks for.
var echoes = grpc.ServiceDesc{
	ServiceName: "test.Echo",
	HandlerType: (*any)(nil),
	Streams: []grpc.StreamDesc{{StreamName: "Echo", ServerStreams: true, ClientStreams: true, Handler: func(_ any, s grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(s.Context())
		s.SetTrailer(metadata.Pairs("x-after", "tail"))
		for {
			m := new(wrapperspb.BytesValue)
			if err := s.RecvMsg(m); err == io.EOF {
				break
			} else if err != nil {
				return err
			}
			if err := s.SendMsg(m); err != nil {
				return err
			}
		}
		if v := md.Get("fail"); len(v) > 0 {
			return status.Error(codes.ResourceExhausted, v[0])
		}
		return nil
	}}},
}

func grpcApp(t *testing.T) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	s.RegisterService(&echoes, nil)
	done := make(chan struct{})
	go func() { defer close(done); s.Serve(ln) }()
	t.Cleanup(func() { s.Stop(); <-done })
	return ln.Addr().String()
}

func TestGRPC(t *testing.T) {
	for _, p := range []path{{H2, "", H2}, {H2, Private, H2}} {
		t.Run(p.String(), func(t *testing.T) {
			cc, err := grpc.NewClient("passthrough:"+way(t, p, grpcApp(t), exchange.Limits{}), grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				t.Fatal(err)
			}
			defer cc.Close()
			ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
			defer cancel()
			for _, n := range []int{0, 100, 300_000} {
				m := new(wrapperspb.BytesValue)
				if err := cc.Invoke(ctx, "/test.Echo/Echo", wrapperspb.Bytes(pattern(n)), m); err != nil || len(m.Value) != n {
					t.Fatalf("unary of %d: %d, %v", n, len(m.Value), err)
				}
			}
			s, err := cc.NewStream(metadata.AppendToOutgoingContext(ctx, "fail", "50 % of it"), &echoes.Streams[0], "/test.Echo/Echo")
			if err != nil {
				t.Fatal(err)
			}
			for i := range 50 {
				if err := s.SendMsg(wrapperspb.Bytes(pattern(i * 100))); err != nil {
					t.Fatal(err)
				}
				m := new(wrapperspb.BytesValue)
				if err := s.RecvMsg(m); err != nil || len(m.Value) != i*100 {
					t.Fatalf("message %d: %d, %v", i, len(m.Value), err)
				}
			}
			s.CloseSend()
			err = s.RecvMsg(new(wrapperspb.BytesValue))
			if st := status.Convert(err); st.Code() != codes.ResourceExhausted || st.Message() != "50 % of it" {
				t.Errorf("ended with %v", err)
			}
			if v := s.Trailer().Get("x-after"); len(v) != 1 || v[0] != "tail" {
				t.Errorf("trailers: %v", s.Trailer())
			}
		})
	}
}

func TestGRPCFailure(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	cc, err := grpc.NewClient("passthrough:"+way(t, path{H2, "", H2}, ln.Addr().String(), exchange.Limits{}), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	err = cc.Invoke(ctx, "/test.Echo/Echo", wrapperspb.Bytes(nil), new(wrapperspb.BytesValue))
	if st := status.Convert(err); st.Code() != codes.Unavailable || st.Message() != "no connection" {
		t.Errorf("got %v", err)
	}
}
