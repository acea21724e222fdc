// Origin is a gRPC server for measurements, with one unary method that answers with what it got, and a server of bulk over TCP. The
// message is a well-known wrapper, so that it needs no generated code.
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"fairlead.io/fairlead/bench/load"
)

func main() {
	listen := flag.String("listen", ":8083", "address")
	bulk := flag.String("bulk", ":8084", "address for bulk")
	flag.Parse()
	if err := serve(*listen, *bulk); err != nil {
		fmt.Fprintln(os.Stderr, "origin:", err)
		os.Exit(1)
	}
}

func serve(listen, bulk string) error {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	b, err := net.Listen("tcp", bulk)
	if err != nil {
		return err
	}
	s := grpc.NewServer()
	s.RegisterService(&grpc.ServiceDesc{ServiceName: "bench.Echo", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Unary", Handler: echo}}}, nil)
	failed := make(chan error, 2)
	go func() { failed <- s.Serve(l) }()
	go func() { failed <- load.ServeBulk(b) }()
	return <-failed
}

func echo(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	in := new(wrapperspb.BytesValue)
	if err := decode(in); err != nil {
		return nil, err
	}
	return in, nil
}
