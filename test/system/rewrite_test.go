package system

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/testnet"
	"fairlead.io/fairlead/internal/testnet/rewrite"
)

// rewritten is a mesh beside a program that puts the far server's address in place of the service's, as a replacement for
// kube-proxy does with one of them. The near one is reached by the mesh's own choice only.
type rewritten struct {
	m       *testnet.Mesh
	client  *testnet.Pod
	servers [2]*testnet.Pod
	vips    [2]netip.Addr // of the service
	other   *rewrite.Rewriter
}

// newRewritten attaches the other program before ours or after, all in the lab's own cgroup. It is detached at the end.
func newRewritten(t *testing.T, before bool, cfg testnet.MeshConfig) *rewritten {
	root(t)
	lab, err := newLab()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			saveLogs(t, lab)
		}
		if err := lab.Close(); err != nil {
			t.Error(err)
		}
	})
	r := &rewritten{}
	attach := func() {
		if r.other, err = rewrite.Attach(lab.Cgroup()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := r.other.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	if before {
		attach()
	}
	cfg.KeeperArgs = append(cfg.KeeperArgs, "--cgroup="+lab.Cgroup(), "--others-every=1s")
	r.m = startMesh(t, lab, cfg)
	if !before {
		attach()
	}
	r.client = mustAddPod(t, lab.Node(0), testnet.PodSpec{Name: "client"})
	for i, n := range lab.Nodes() {
		r.servers[i] = mustAddPod(t, n, testnet.PodSpec{Name: fmt.Sprint("server-", i), Workload: "server", Labels: map[string]string{"app": "server"}})
		mustServe(t, r.servers[i])
	}
	web, _ := mustAddLoadService(t, lab, "app", "server")
	r.vips[0] = netip.MustParseAddrPort(web).Addr()
	r.vips[1] = netip.MustParseAddr(fmt.Sprintf("fd96::%x", int(r.vips[0].As4()[2])<<8+int(r.vips[0].As4()[3])))
	var rules []rewrite.Rule
	for i, vip := range r.vips {
		for _, port := range []uint16{webPort, echoPort} {
			rules = append(rules, rewrite.Rule{From: netip.AddrPortFrom(vip, port), To: netip.AddrPortFrom(r.servers[1].Addr([]int{4, 6}[i]), port)})
		}
	}
	for _, p := range r.servers {
		mustReach(t, r.client, webAddr(p), p.Name)
	}
	if err := r.other.Set(rules...); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rewritten) mapped(t *testing.T) float64 {
	t.Helper()
	return metric(t, r.m.Nodes[0], "fairlead_backends_mapped")
}

// served asks many times over few connections, and tells how often each server answered.
func (r *rewritten) served(t *testing.T, mode string, vip netip.Addr) map[string]int {
	t.Helper()
	to := netip.AddrPortFrom(vip, webPort).String()
	l := startLoad(t, r.client, mode, to, "-workers=4", "-calls=20", "-rate=400")
	report := l.wait(t)
	mustFlawless(t, l, report, 80)
	return report.Servers
}

// balanced asks until both servers have answered: how often each does is a matter of how fast it was.
func (r *rewritten) balanced(t *testing.T, mode string, vip netip.Addr) {
	t.Helper()
	got := map[string]int{}
	eventually(t, 15*time.Second, fmt.Sprintf("%s to %s: answers of both servers", mode, vip), func() error {
		for server, n := range r.served(t, mode, vip) {
			got[server] += n
		}
		if len(got) != 2 {
			return fmt.Errorf("answered by %v", got)
		}
		return nil
	})
}

// calls counts the client's requests and connections on the service, as its own node has it.
func (r *rewritten) calls(t *testing.T, name string) float64 {
	t.Helper()
	return metric(t, r.m.Nodes[0], name, `direction="outbound"`, `src_workload="client"`, `dst_service="server"`, `dst_service_namespace="app"`)
}

// named wants routes and metrics of both nodes to name the service.
func (r *rewritten) named(t *testing.T) {
	t.Helper()
	var routes []struct {
		Service, Path string
		Requests      int
	}
	text, err := r.m.Nodes[0].Admin(t.Context(), "/debug/routes")
	if err := errors.Join(err, json.Unmarshal(text, &routes)); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, route := range routes {
		if route.Service == "app/server" {
			n += route.Requests
		}
	}
	if n < 80 {
		t.Errorf("%d requests by the service's routes: %s", n, text)
	}
	if n := r.calls(t, "fairlead_requests_total"); n < 80 {
		t.Errorf("%v requests counted with the service", n)
	}
	for i, node := range r.m.Nodes {
		if n := metric(t, node, "fairlead_requests_total", `direction="inbound"`, `dst_workload="server"`, `dst_service="server"`, `tls="mtls"`); n == 0 {
			t.Errorf("server %d: no requests counted with the service", i)
		}
	}
}

// TestAnotherRewritesServices has requests balanced and named by their service, although every connect() to it is sent to one
// of its pods by another program, which has seen it before our program or sees it after.
func TestAnotherRewritesServices(t *testing.T) {
	for order, before := range map[string]bool{"before": true, "after": false} {
		t.Run(order, func(t *testing.T) {
			r := newRewritten(t, before, testnet.MeshConfig{})
			eventually(t, 10*time.Second, "the other program is seen", func() error {
				if r.mapped(t) != 1 {
					return errors.New("not yet")
				}
				return nil
			})
			for _, vip := range r.vips {
				for _, mode := range []string{"h1", "h2"} {
					r.balanced(t, mode, vip)
				}
			}
			echo := func() float64 { return r.calls(t, "fairlead_tcp_connections_opened_total") }
			was := echo()
			l := startLoad(t, r.client, "tcp", netip.AddrPortFrom(r.vips[0], echoPort).String(), "-workers=1", "-calls=20")
			mustFlawless(t, l, l.wait(t), 20)
			if n := echo() - was; n < 20 {
				t.Errorf("%v connections counted with the service", n)
			}
			r.named(t)
			if before {
				return
			}
			if err := r.other.Set(); err != nil { // what is still there is enough
				t.Fatal(err)
			}
			if got := ask(t, r.client, netip.AddrPortFrom(r.vips[0], webPort).String()); got.OK != 1 {
				t.Errorf("the service's own address: %v", got)
			}
			if err := r.other.Close(); err != nil {
				t.Fatal(err)
			}
			eventually(t, 10*time.Second, "the other program is gone", func() error {
				if r.mapped(t) != 0 {
					return errors.New("not yet")
				}
				return nil
			})
			for _, p := range r.servers {
				l := startLoad(t, r.client, "h1", webAddr(p), "-workers=1", "-calls=20")
				if got := l.wait(t); got.Servers[p.Name] != 20 {
					t.Errorf("a pod's own address is served by %v, want %s", got.Servers, p.Name)
				}
			}
		})
	}
}

// TestAnotherRewritesAndNothingIsMapped is the check on the check above.
func TestAnotherRewritesAndNothingIsMapped(t *testing.T) {
	r := newRewritten(t, true, testnet.MeshConfig{ProxyArgs: []string{"--map-backends=off"}})
	if got := r.served(t, "h1", r.vips[0]); got[r.servers[1].Name] != 80 {
		t.Errorf("served by %v", got)
	}
	if n := r.calls(t, "fairlead_requests_total"); n != 0 || r.mapped(t) != 0 {
		t.Errorf("%v requests counted with the service", n)
	}
}
