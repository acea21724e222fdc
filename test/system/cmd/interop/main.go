// Interop runs the interoperability tests of grpc-go: as their server, or, with --case, as the client of one of them. The
// client's exit status says whether it has passed.
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/interop"
	"google.golang.org/grpc/orca"

	testgrpc "google.golang.org/grpc/interop/grpc_testing"
)

type config struct {
	addr, name string
	gzip, warm bool
	iterations int           // of a soak
	limit      time.Duration // of the whole
}

func main() {
	var c config
	flag.StringVar(&c.addr, "addr", ":9000", "address to listen at, or to call")
	flag.StringVar(&c.name, "case", "", "test to run as a client")
	flag.BoolVar(&c.gzip, "gzip", false, "the client compresses its messages, and so does the server")
	flag.BoolVar(&c.warm, "warm", false, "the connection has served a call before, so that the test's own reaches the server whatever its deadline")
	flag.IntVar(&c.iterations, "iterations", 10, "calls of a soak test")
	flag.DurationVar(&c.limit, "limit", time.Minute, "time for the test")
	flag.Parse()
	run := call
	if c.name == "" {
		run = serve
	}
	if err := run(c); err != nil {
		fmt.Fprintln(os.Stderr, "interop:", err)
		os.Exit(1)
	}
}

func serve(c config) error {
	l, err := net.Listen("tcp", c.addr)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	s := grpc.NewServer(orca.CallMetricsServerOption(nil))
	testgrpc.RegisterTestServiceServer(s, interop.NewTestServer())
	return s.Serve(l)
}

func call(c config) error {
	ctx, cancel := context.WithTimeout(context.Background(), c.limit)
	defer cancel()
	conn, err := dial(c)
	if err != nil {
		return err
	}
	defer conn.Close()
	if c.warm {
		interop.DoEmptyUnaryCall(ctx, testgrpc.NewTestServiceClient(conn))
	}
	if test := calls[c.name]; test != nil {
		var opts []grpc.CallOption
		if c.gzip {
			opts = append(opts, grpc.UseCompressor(gzip.Name))
		}
		test(ctx, testgrpc.NewTestServiceClient(conn), opts...)
		return nil
	}
	switch c.name {
	case "orca_per_rpc":
		interop.DoORCAPerRPCTest(ctx, testgrpc.NewTestServiceClient(conn))
	case "unimplemented_method":
		interop.DoUnimplementedMethod(ctx, conn)
	case "unimplemented_service":
		interop.DoUnimplementedService(ctx, testgrpc.NewUnimplementedServiceClient(conn))
	case "rpc_soak":
		soak(ctx, c, func() (*grpc.ClientConn, func()) { return conn, func() {} })
	case "channel_soak":
		soak(ctx, c, func() (*grpc.ClientConn, func()) {
			own, err := dial(c)
			if err != nil {
				panic(err) // the address has been good for the first
			}
			return own, func() { own.Close() }
		})
	default:
		return fmt.Errorf("no test is named %q", c.name)
	}
	return nil
}

// calls are the tests that need nothing but the service. They end the process when they fail.
var calls = map[string]func(context.Context, testgrpc.TestServiceClient, ...grpc.CallOption){
	"empty_unary":                 interop.DoEmptyUnaryCall,
	"large_unary":                 interop.DoLargeUnaryCall,
	"client_streaming":            interop.DoClientStreaming,
	"server_streaming":            interop.DoServerStreaming,
	"ping_pong":                   interop.DoPingPong,
	"empty_stream":                interop.DoEmptyStream,
	"timeout_on_sleeping_server":  interop.DoTimeoutOnSleepingServer,
	"cancel_after_begin":          interop.DoCancelAfterBegin,
	"cancel_after_first_response": interop.DoCancelAfterFirstResponse,
	"status_code_and_message":     interop.DoStatusCodeAndMessage,
	"special_status_message":      interop.DoSpecialStatusMessage,
	"custom_metadata":             interop.DoCustomMetadata,
}

func dial(c config) (*grpc.ClientConn, error) {
	opts := []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}
	if c.name == "orca_per_rpc" { // the balancer of the suite, to which the reports go
		opts = append(opts, grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"test_backend_metrics_load_balancer":{}}]}`))
	}
	conn, err := grpc.NewClient("passthrough:///"+c.addr, opts...)
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	return conn, nil
}

// soak makes many large calls one after the other; each of them has to succeed, in time.
func soak(ctx context.Context, c config, channel func() (*grpc.ClientConn, func())) {
	interop.DoSoakTest(ctx, interop.SoakTestConfig{RequestSize: 271828, ResponseSize: 314159, PerIterationMaxAcceptableLatency: 5 * time.Second,
		OverallTimeout: c.limit, ServerAddr: c.addr, NumWorkers: 1, Iterations: c.iterations, ChannelForTest: channel})
}
