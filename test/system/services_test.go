package system

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"fairlead.io/fairlead/internal/testnet"
)

// cast is two servers of one app, one on each node, and a client on each node. The service has the app's name.
type cast struct {
	m                *testnet.Mesh
	app              string
	servers, clients [2]*testnet.Pod
	vips             []netip.AddrPort
	nodePort         uint16
}

func newCast(t *testing.T, edit func(*corev1.ServiceSpec)) *cast {
	c := &cast{m: sharedMesh(t), app: unique(t, "web")}
	s := testnet.Service("app", c.app, 80, 8080)
	if edit != nil {
		edit(&s.Spec)
	}
	made := mustAddService(t, c.m, s)
	for _, ip := range made.Spec.ClusterIPs {
		if a, err := netip.ParseAddr(ip); err == nil {
			c.vips = append(c.vips, netip.AddrPortFrom(a, 80))
		}
	}
	c.nodePort = uint16(made.Spec.Ports[0].NodePort)
	for i, n := range c.m.Lab.Nodes() {
		name := fmt.Sprint(c.app, "-", n.Name)
		c.servers[i] = webPod(t, c.m, n, testnet.PodSpec{Name: name, Labels: map[string]string{"app": c.app}})
		c.clients[i] = joined(t, c.m, n, testnet.PodSpec{Name: unique(t, "client-"+n.Name)})
	}
	return c
}

// who asks so many times and counts which server answers.
func (c *cast) who(t *testing.T, from dialer, addr netip.AddrPort, times int) map[string]int {
	t.Helper()
	got := map[string]int{}
	for range times {
		seen, err := askWho(t, from, addr)
		if err != nil {
			t.Fatalf("%s: %v", addr, err)
		}
		got[seen.Server]++
	}
	return got
}

// all asks until every server has answered: how often each does is a matter of how fast it was.
func (c *cast) all(t *testing.T, from dialer, addr netip.AddrPort) {
	t.Helper()
	got := map[string]int{}
	eventually(t, 10*time.Second, fmt.Sprintf("answers of both servers at %s", addr), func() error {
		for server, n := range c.who(t, from, addr, 5) {
			got[server] += n
		}
		if len(got) != 2 {
			return fmt.Errorf("answered by %v", got)
		}
		return nil
	})
}

// TestClusterIP uses both servers, also when the client is one of them.
func TestClusterIP(t *testing.T) {
	c := newCast(t, nil)
	for _, vip := range c.vips {
		for i := range c.clients {
			viaMesh(t, c.m, c.clients[i], c.servers[1-i], func() { c.all(t, c.clients[i], vip) })
		}
		c.all(t, c.servers[0], vip) // one of the two is itself
	}
	self := trafficOf(t, c.m, c.servers[0], c.servers[0])
	if self.out["self"] == 0 || self.out["mtls"] != 0 {
		t.Errorf("calls to itself are counted as %v", self.out)
	}
	seen, err := askWho(t, c.servers[0], netip.AddrPortFrom(c.servers[0].Addr(4), 8080))
	if err != nil || seen.Server != c.servers[0].Name {
		t.Errorf("a pod that calls its own address: %+v, %v", seen, err)
	}
}

// TestHeadless resolves a service without an address to its pods, and an external name to what it stands for.
func TestHeadless(t *testing.T) {
	needs(t, "curl")
	c := newCast(t, func(s *corev1.ServiceSpec) { s.ClusterIP = corev1.ClusterIPNone })
	mustAddService(t, c.m, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "app", Name: c.app + "-ext"},
		Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: c.app + ".app.svc.cluster.local"}})
	for _, name := range []string{c.app, c.app + ".app.svc.cluster.local", c.app + "-ext"} {
		for _, family := range []string{"-4", "-6"} {
			// Whichever of the addresses the client takes, it is of one of the two.
			before := [2]traffic{trafficOf(t, c.m, c.clients[0], c.servers[0]), trafficOf(t, c.m, c.clients[0], c.servers[1])}
			out := curl(t, c.clients[0], family, "http://"+name+":8080/show")
			if !strings.Contains(out, c.app+"-n") {
				t.Errorf("%s: %s", name, out)
			}
			eventually(t, 5*time.Second, "counted with mutual TLS", func() error {
				for i, was := range before {
					if trafficOf(t, c.m, c.clients[0], c.servers[i]).in["mtls"] > was.in["mtls"] {
						return nil
					}
				}
				return errors.New("not counted")
			})
		}
	}
}

// TestSessionAffinity stays with a server, whichever it is.
func TestSessionAffinity(t *testing.T) {
	c := newCast(t, func(s *corev1.ServiceSpec) { s.SessionAffinity = corev1.ServiceAffinityClientIP })
	for _, client := range c.clients {
		if got := c.who(t, client, c.vips[0], 30); len(got) != 1 {
			t.Errorf("%s: answered by %v", client.Name, got)
		}
	}
}

// TestInternalTrafficPolicyLocal uses the node's own server alone, and fails when there is none.
func TestInternalTrafficPolicyLocal(t *testing.T) {
	local := corev1.ServiceInternalTrafficPolicyLocal
	c := newCast(t, func(s *corev1.ServiceSpec) { s.InternalTrafficPolicy = &local })
	for i := range c.clients {
		viaMesh(t, c.m, c.clients[i], c.servers[i], func() {
			if got := c.who(t, c.clients[i], c.vips[0], 20); got[c.servers[i].Name] != 20 {
				t.Errorf("%s: answered by %v", c.clients[i].Name, got)
			}
		})
	}
	if err := c.servers[1].SetReady(false); err != nil {
		t.Fatal(err)
	}
	if err := c.servers[1].Edit(func(o *corev1.Pod) { o.Labels["app"] = "another" }); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, "no answer without a server on the node", func() error {
		if seen, err := askWho(t, c.clients[1], c.vips[0]); err == nil {
			return fmt.Errorf("%s answers", seen.Server)
		}
		return nil
	})
	if got := c.who(t, c.clients[0], c.vips[0], 5); got[c.servers[0].Name] != 5 {
		t.Errorf("on the other node: answered by %v", got)
	}
}

// TestNodePort leads a pod of the mesh from any node's address to a server by mutual TLS, and one from outside plainly.
func TestNodePort(t *testing.T) {
	c := newCast(t, func(s *corev1.ServiceSpec) { s.Type = corev1.ServiceTypeNodePort })
	for _, n := range c.m.Lab.Nodes() {
		addr := netip.AddrPortFrom(n.Addrs[0], c.nodePort)
		for _, server := range c.servers {
			viaMesh(t, c.m, c.clients[0], server, func() { c.all(t, c.clients[0], addr) })
		}
		if got := c.who(t, c.m.Lab.Outside(), addr, 5); len(got) == 0 {
			t.Errorf("%s from outside: answered by %v", addr, got)
		}
	}
}

// TestUnmeshed works plainly in both directions, and leaves a pod with its host's network alone.
func TestUnmeshed(t *testing.T) {
	c := newCast(t, nil)
	name := unique(t, "plain")
	vips := func() []netip.AddrPort {
		return addService(t, c.m, testnet.Service("plain", name, 80, 8080))
	}()
	plain := mustAddPod(t, c.m.Lab.Node(1), testnet.PodSpec{Namespace: "plain", Name: name})
	mustStart(t, plain, testnet.Command{Path: binary("web"), Args: []string{"--name=" + name}})
	listening(t, plain, "127.0.0.1:8080")
	client := joined(t, c.m, c.m.Lab.Node(0), testnet.PodSpec{Name: unique(t, "late")})
	for family := range 2 {
		for _, addr := range []netip.AddrPort{c.vips[family], netip.AddrPortFrom(c.servers[0].Addr([]int{4, 6}[family]), 8080)} {
			seen, err := askWho(t, plain, addr)
			if remote, parseErr := netip.ParseAddrPort(seen.Remote); err != nil || parseErr != nil || remote.Addr() != plain.Addr([]int{4, 6}[family]) {
				t.Errorf("plain to mesh by %s: %+v, %v", addr, seen, err)
			}
		}
		for _, addr := range []netip.AddrPort{vips[family], netip.AddrPortFrom(plain.Addr([]int{4, 6}[family]), 8080)} {
			if seen, err := askWho(t, client, addr); err != nil || seen.Server != name {
				t.Errorf("mesh to plain by %s: %+v, %v", addr, seen, err)
			}
		}
	}
	eventually(t, 5*time.Second, "counted as outside the mesh", func() error {
		out := trafficOf(t, c.m, client, plain).out
		if out["not_in_mesh"] == 0 || out["mtls"] != 0 {
			return fmt.Errorf("%v", out)
		}
		return nil
	})
	host := mustAddPod(t, c.m.Lab.Node(1), testnet.PodSpec{Name: unique(t, "host"), HostNetwork: true})
	mustStart(t, host, testnet.Command{Path: binary("web"), Args: []string{"--name=host", "--listen=:18080"}})
	listening(t, host, "127.0.0.1:18080")
	for _, from := range []dialer{client, plain, c.m.Lab.Node(0)} {
		if seen, err := askWho(t, from, netip.AddrPortFrom(host.Addrs[0], 18080)); err != nil || seen.Server != "host" {
			t.Errorf("to a pod with its host's network: %+v, %v", seen, err)
		}
	}
	if seen, err := askWho(t, host, c.vips[0]); err != nil || !strings.HasPrefix(seen.Server, c.app) {
		t.Errorf("from a pod with its host's network: %+v, %v", seen, err)
	}
}

// TestNobodyThere ends connections to closed ports and to addresses without an owner, and lets none hang.
func TestNobodyThere(t *testing.T) {
	c := newCast(t, nil)
	empty := addService(t, c.m, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "app", Name: c.app + "-empty"}, Spec: corev1.ServiceSpec{
		Selector: map[string]string{"app": "nobody"}, Ports: []corev1.ServicePort{{Name: "tcp", Port: 80, TargetPort: intstr.FromInt32(80)}}}})
	client := joined(t, c.m, c.m.Lab.Node(0), testnet.PodSpec{Name: unique(t, "late")})
	for name, tc := range map[string]struct {
		addr  netip.AddrPort
		limit time.Duration
	}{
		"closed port far":       {netip.AddrPortFrom(c.servers[1].Addr(4), 9999), 3 * time.Second},
		"closed port near":      {netip.AddrPortFrom(c.servers[0].Addr(6), 9999), 3 * time.Second},
		"closed port of a node": {netip.AddrPortFrom(c.m.Lab.Node(1).Addrs[0], 9999), 3 * time.Second},
		"service without pods":  {empty[0], 3 * time.Second},
		"port of no service":    {netip.AddrPortFrom(c.vips[0].Addr(), 9999), 3 * time.Second},
		"no such address":       {netip.MustParseAddrPort("203.0.113.9:80"), 15 * time.Second},
	} {
		for _, speaks := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/speaks=%v", name, speaks), func(t *testing.T) {
				t.Parallel()
				ctx, cancel := context.WithTimeout(t.Context(), tc.limit)
				defer cancel()
				conn, err := client.Dial(ctx, "tcp", tc.addr.String())
				if err == nil {
					defer conn.Close()
					_ = conn.SetDeadline(time.Now().Add(tc.limit))
					if speaks {
						_, _ = conn.Write([]byte("\x00hello"))
					}
					_, err = conn.Read(make([]byte, 1))
				}
				var timeout net.Error
				if err == nil || errors.As(err, &timeout) && timeout.Timeout() {
					t.Errorf("not refused within %v: %v", tc.limit, err)
				}
			})
		}
	}
}

// TestKubeletProbe reaches the app past the proxy, from the kubelet's cgroup alone.
func TestKubeletProbe(t *testing.T) {
	needs(t, "curl")
	c := newCast(t, nil)
	node, server := c.m.Nodes[0], c.servers[0]
	inbound := func() (n float64) {
		families := metrics(t, node)
		for _, name := range []string{"fairlead_requests_total", "fairlead_tcp_connections_opened_total"} {
			n += sum(families, name, labels{"direction": "inbound", "dst_namespace": "app", "dst_workload": server.Name})
		}
		return n
	}
	probe := func(cgroup string, family int) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		out, err := node.Run(ctx, testnet.Command{Path: "curl", Cgroup: cgroup, Args: []string{"-sS", "--noproxy", "*", "--fail", "--max-time", "10",
			"http://" + netip.AddrPortFrom(server.Addr(family), 8080).String() + "/show"}})
		if err != nil || !strings.Contains(string(out), server.Name) {
			t.Errorf("%s: %s, %v", cgroup, out, err)
		}
	}
	before := inbound()
	seenBefore := sum(metrics(t, node), "fairlead_bpf_verdicts_total", labels{"verdict": "syn_probe"})
	probe(testnet.KubeletCgroup, 4)
	probe(testnet.KubeletCgroup, 6)
	if n := sum(metrics(t, node), "fairlead_bpf_verdicts_total", labels{"verdict": "syn_probe"}) - seenBefore; n != 2 {
		t.Errorf("%v connections passed as probes, want 2", n)
	}
	// Another program of the node is no kubelet: its requests are counted, and that comes after the probes'.
	probe("another", 4)
	eventually(t, 5*time.Second, "the other program's request is counted", func() error {
		if n := inbound() - before; n != 2 {
			return fmt.Errorf("%v, want its connection and its request", n)
		}
		return nil
	})
}
