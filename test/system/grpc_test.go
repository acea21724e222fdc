package system

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"fairlead.io/fairlead/internal/testnet"
)

const maxMessage = 32 << 20

// grpcClient is a client of grpc-go whose sockets are the pod's.
func grpcClient(t *testing.T, p *testnet.Pod, addr netip.AddrPort) *grpc.ClientConn {
	c, err := grpc.NewClient("passthrough:///"+addr.String(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return p.Dial(ctx, "tcp", addr) }),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage), grpc.WaitForReady(true)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func greeterPod(t *testing.T, m *testnet.Mesh, n *testnet.Node, name, app string) *testnet.Pod {
	p := joined(t, m, n, testnet.PodSpec{Name: name, Labels: map[string]string{"app": app}, NotReady: true})
	mustStart(t, p, testnet.Command{Path: filepath.Join(bin, "greeter"), Args: []string{"--name=" + name}, Log: name + ".log"})
	listening(t, p, "127.0.0.1:9000")
	if err := p.SetReady(true); err != nil {
		t.Fatal(err)
	}
	return p
}

func call(ctx context.Context, c *grpc.ClientConn, method string, in []byte, opts ...grpc.CallOption) ([]byte, error) {
	out := new(wrapperspb.BytesValue)
	err := c.Invoke(ctx, "/test.Greeter/"+method, wrapperspb.Bytes(in), out, opts...)
	return out.Value, err
}

// TestGRPC does everything that gRPC can between two nodes.
func TestGRPC(t *testing.T) {
	m := sharedMesh(t)
	app := unique(t, "greeter")
	vips := addService(t, m, testnet.Service("app", app, 9000, 9000))
	server := greeterPod(t, m, m.Lab.Node(1), app, app)
	client := joined(t, m, m.Lab.Node(0), testnet.PodSpec{Name: unique(t, "client")})
	for i, family := range []string{"v4", "v6"} {
		c := grpcClient(t, client, vips[i])
		for name, test := range map[string]func(*testing.T, context.Context, *grpc.ClientConn){
			"unary": grpcUnary, "large": grpcLarge, "errors": grpcErrors, "streams": grpcStreams, "cancel": grpcCancel} {
			t.Run(family+"/"+name, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				viaMesh(t, m, client, server, func() { test(t, ctx, c) })
			})
		}
	}
}

func grpcUnary(t *testing.T, ctx context.Context, c *grpc.ClientConn) {
	var header, trailer metadata.MD
	ctx = metadata.AppendToOutgoingContext(ctx, "echo", "trailer, %", "echo-bin", "\x00\xff\n")
	out, err := call(ctx, c, "Echo", []byte("hello"), grpc.Header(&header), grpc.Trailer(&trailer))
	if err != nil || string(out) != "hello" {
		t.Fatalf("%q, %v", out, err)
	}
	if first := header.Get("echo-bin"); len(first) != 1 || first[0] != "\x00\xff\n" {
		t.Errorf("header %v", header)
	}
	if first := header.Get("authority"); len(first) != 1 || first[0] == "" {
		t.Errorf("the server saw no authority: %v", header)
	}
	if len(trailer.Get("echo-trailer")) != 1 {
		t.Errorf("trailer %v", trailer)
	}
}

func grpcLarge(t *testing.T, ctx context.Context, c *grpc.ClientConn) {
	message := make([]byte, 8<<20)
	rand.Read(message)
	out, err := call(ctx, c, "Echo", message)
	if err != nil || !bytes.Equal(out, message) {
		t.Fatalf("%d bytes came back of %d: %v", len(out), len(message), err)
	}
}

func grpcErrors(t *testing.T, ctx context.Context, c *grpc.ClientConn) {
	_, err := call(ctx, c, "Fail", nil)
	st := status.Convert(err)
	if st.Code() != codes.ResourceExhausted || st.Message() != "too much: ä%" || len(st.Details()) != 2 {
		t.Fatalf("%v with details %v", err, st.Details())
	}
	if info, ok := st.Details()[1].(*errdetails.ErrorInfo); !ok || info.Reason != "FULL" {
		t.Errorf("detail %v", st.Details()[1])
	}
	if _, err := call(ctx, c, "None", nil); status.Code(err) != codes.Unimplemented {
		t.Errorf("unknown method: %v", err)
	}
}

func grpcStreams(t *testing.T, ctx context.Context, c *grpc.ClientConn) {
	both := &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}
	chat, err := c.NewStream(ctx, both, "/test.Greeter/Chat")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 50 { // each answer before the next message
		text := fmt.Appendf(nil, "message %d", i)
		got := new(wrapperspb.BytesValue)
		if err := errors.Join(chat.SendMsg(wrapperspb.Bytes(text)), chat.RecvMsg(got)); err != nil || !bytes.Equal(got.Value, text) {
			t.Fatalf("chat: %q, %v", got.Value, err)
		}
	}
	if err := errors.Join(chat.CloseSend(), chat.RecvMsg(new(wrapperspb.BytesValue))); !errors.Is(err, io.EOF) {
		t.Errorf("end of chat: %v", err)
	}
	count, err := c.NewStream(ctx, both, "/test.Greeter/Count")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(count.SendMsg(wrapperspb.Bytes([]byte("n"))), count.CloseSend()); err != nil {
		t.Fatal(err)
	}
	n := 0
	for ; err == nil; n++ {
		got := new(wrapperspb.BytesValue)
		if err = count.RecvMsg(got); err == nil && string(got.Value) != fmt.Sprint("n", n) {
			t.Fatalf("message %d is %q", n, got.Value)
		}
	}
	if n != 101 || err != io.EOF {
		t.Errorf("%d messages, %v", n-1, err)
	}
	gather, err := c.NewStream(ctx, both, "/test.Greeter/Gather")
	if err != nil {
		t.Fatal(err)
	}
	for range 64 {
		if err := gather.SendMsg(wrapperspb.Bytes(make([]byte, 10000))); err != nil {
			t.Fatal(err)
		}
	}
	got := new(wrapperspb.BytesValue)
	if err := errors.Join(gather.CloseSend(), gather.RecvMsg(got)); err != nil || string(got.Value) != "640000" {
		t.Errorf("gathered %q, %v", got.Value, err)
	}
}

// grpcCancel looks for what reaches the server of a deadline, a cancelled call and a cancelled stream.
func grpcCancel(t *testing.T, ctx context.Context, c *grpc.ClientConn) {
	cancelled := func() int {
		out, err := call(ctx, c, "Cancelled", nil)
		n := 0
		if _, scanErr := fmt.Sscan(string(out), &n); err != nil || scanErr != nil {
			t.Fatal(err, scanErr)
		}
		return n
	}
	before := cancelled()
	short, stop := context.WithTimeout(ctx, 200*time.Millisecond)
	defer stop()
	if _, err := call(short, c, "Wait", nil); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("deadline: %v", err)
	}
	short, stop = context.WithCancel(ctx)
	time.AfterFunc(200*time.Millisecond, stop)
	if _, err := call(short, c, "Wait", nil); status.Code(err) != codes.Canceled {
		t.Errorf("cancelled: %v", err)
	}
	short, stop = context.WithCancel(ctx)
	chat, err := c.NewStream(short, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/test.Greeter/Chat")
	if err == nil {
		_, err = chat.Header()
	}
	stop()
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, "the server sees three clients give up", func() error {
		if n := cancelled() - before; n != 3 {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
}

// TestGRPCBalanced sends requests of one connection to every server, and follows servers that come and go.
func TestGRPCBalanced(t *testing.T) {
	m := sharedMesh(t)
	app := unique(t, "greeter")
	vip := addService(t, m, testnet.Service("app", app, 80, 9000))[0]
	servers := map[string]*testnet.Pod{}
	for i := range 3 {
		name := fmt.Sprint(app, "-", i)
		servers[name] = greeterPod(t, m, m.Lab.Node(i%2), name, app)
	}
	client := joined(t, m, m.Lab.Node(0), testnet.PodSpec{Name: unique(t, "client")})
	c := grpcClient(t, client, vip)
	ask := func(n int) map[string]int {
		t.Helper()
		got := map[string]int{}
		for range n {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			var header metadata.MD
			_, err := call(ctx, c, "Echo", []byte("who?"), grpc.Header(&header))
			cancel()
			if err != nil {
				t.Fatalf("after %v: %v", got, err)
			}
			got[header.Get("server")[0]]++
		}
		return got
	}
	got := ask(300)
	for name := range servers {
		if got[name] == 0 { // how many is a matter of how fast each answers
			t.Errorf("none of 300 requests reached %s: %v", name, got)
		}
	}
	last := fmt.Sprint(app, "-2")
	if err := servers[last].SetReady(false); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	// A second is promised; a machine that is busy with other tests is given more.
	eventually(t, 5*time.Second, "no request to a server that is not ready", func() error {
		if got := ask(20); got[last] > 0 {
			return fmt.Errorf("%v", got)
		}
		return nil
	})
	t.Logf("followed after %v", time.Since(began).Round(time.Millisecond))
	added := fmt.Sprint(app, "-3")
	greeterPod(t, m, m.Lab.Node(1), added, app)
	began = time.Now()
	eventually(t, 5*time.Second, "requests to a server that was added", func() error {
		if got := ask(20); got[added] == 0 {
			return fmt.Errorf("%v", got)
		}
		return nil
	})
	t.Logf("followed after %v", time.Since(began).Round(time.Millisecond))
}
