package system

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/testnet"
)

// interopCases are those of the suite that need no credentials, each with the client's arguments.
var interopCases = []struct {
	name  string
	args  []string
	calls float64 // that reach the server at least
}{
	{"empty_unary", nil, 1},
	{"large_unary", nil, 1},
	{"client_streaming", nil, 1},
	{"server_streaming", nil, 1},
	{"ping_pong", nil, 1},
	{"empty_stream", nil, 1},
	{"timeout_on_sleeping_server", []string{"--warm"}, 1},
	{"cancel_after_begin", []string{"--warm"}, 1},
	{"cancel_after_first_response", nil, 1},
	{"status_code_and_message", nil, 2},
	{"special_status_message", nil, 1},
	{"custom_metadata", nil, 2},
	{"unimplemented_method", nil, 1},
	{"unimplemented_service", nil, 1},
	{"orca_per_rpc", nil, 1},
	{"large_unary", []string{"--gzip"}, 1},
	{"client_streaming", []string{"--gzip"}, 1},
	{"server_streaming", []string{"--gzip"}, 1},
	{"ping_pong", []string{"--gzip"}, 1},
	{"status_code_and_message", []string{"--gzip"}, 2},
	{"rpc_soak", []string{"--iterations=1000"}, 1000},
	{"channel_soak", []string{"--iterations=100"}, 100},
}

// TestInterop runs the interoperability tests of grpc-go, each as a client of its own, to a server on another node: from a
// pod of the mesh with mutual TLS, and from one that is not in it.
func TestInterop(t *testing.T) {
	m := sharedMesh(t)
	app := unique(t, "server")
	vip := addService(t, m, testnet.Service("app", app, 9000, 9000))[0]
	server := joined(t, m, m.Lab.Node(1), testnet.PodSpec{Name: app, NotReady: true})
	mustStart(t, server, testnet.Command{Path: binary("interop"), Log: app + ".log"})
	listening(t, server, "127.0.0.1:9000")
	if err := server.SetReady(true); err != nil {
		t.Fatal(err)
	}
	inMesh := joined(t, m, m.Lab.Node(0), testnet.PodSpec{Name: unique(t, "client")})
	plain := mustAddPod(t, m.Lab.Node(0), testnet.PodSpec{Namespace: "plain", Name: unique(t, "plain")})
	for _, client := range []*testnet.Pod{inMesh, plain} {
		ready := testnet.Command{Path: binary("interop"), Args: []string{"--addr=" + vip.String(), "--case=empty_unary"}}
		eventually(t, 10*time.Second, client.Name+" is served", func() error {
			_, err := client.Run(t.Context(), ready)
			return err
		})
	}
	for _, c := range interopCases {
		args := append([]string{"--addr=" + vip.String(), "--case=" + c.name}, c.args...)
		name := c.name
		if slices.Contains(c.args, "--gzip") {
			name += "_gzip"
		}
		t.Run("mesh/"+name, func(t *testing.T) {
			before := trafficOf(t, m, inMesh, server)
			viaMesh(t, m, inMesh, server, func() { interop(t, inMesh, args) })
			eventually(t, 5*time.Second, "both proxies count every call", func() error {
				after := trafficOf(t, m, inMesh, server)
				if out, in := after.out["mtls"]-before.out["mtls"], after.in["mtls"]-before.in["mtls"]; min(out, in) < c.calls {
					return fmt.Errorf("%v and %v of %v", out, in, c.calls)
				}
				return nil
			})
		})
		t.Run("plain/"+name, func(t *testing.T) {
			before := plainCalls(t, m, server)
			interop(t, plain, args)
			eventually(t, 5*time.Second, "every call is counted as plain", func() error {
				if n := plainCalls(t, m, server) - before; n < c.calls {
					return fmt.Errorf("%v of %v", n, c.calls)
				}
				return nil
			})
		})
	}
}

// interop runs the client of one test to its end.
func interop(t *testing.T, p *testnet.Pod, args []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 70*time.Second) // more than the client gives itself, of which a soak needs ten seconds
	defer cancel()
	_, err := p.Run(ctx, testnet.Command{Path: binary("interop"), Args: args})
	if err == nil {
		return
	}
	text := err.Error() // a soak has a line for each call
	t.Errorf("%v: %s", args, text[max(0, len(text)-2000):])
}

// plainCalls are those to a pod from outside the mesh, as its own proxy has counted them.
func plainCalls(t *testing.T, m *testnet.Mesh, p *testnet.Pod) float64 {
	t.Helper()
	return sum(metrics(t, meshNode(m, p)), "fairlead_requests_total", labels{"direction": "inbound", "tls": "not_in_mesh", "protocol": "grpc",
		"dst_namespace": p.Namespace, "dst_workload": p.Name})
}
