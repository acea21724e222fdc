package system

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"

	"fairlead.io/fairlead/internal/control/controlpb"
	"fairlead.io/fairlead/internal/testnet"
)

const policyAnnotation = "fairlead.io/default-policy"

// statePolicy sets what the pod says itself.
func statePolicy(t testing.TB, p *testnet.Pod, policy string) {
	t.Helper()
	if err := p.Edit(func(o *corev1.Pod) { o.Annotations = map[string]string{policyAnnotation: policy} }); err != nil {
		t.Fatal(err)
	}
}

// live is a connection that says something and gets an answer, again and again.
type live struct {
	net.Conn
	say string
}

func newLive(t testing.TB, from dialer, addr, say string) *live {
	t.Helper()
	c, err := from.Dial(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	l := &live{c, say}
	if err := l.ping(); err != nil {
		t.Fatalf("%s: %v", addr, err)
	}
	return l
}

func (l *live) ping() error {
	_ = l.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(l, l.say); err != nil {
		return err
	}
	n, err := l.Read(make([]byte, 64<<10))
	if n > 0 {
		return nil
	}
	return err
}

// wantReset waits for a reset.
func (l *live) wantReset(limit time.Duration) error {
	_ = l.SetDeadline(time.Now().Add(limit))
	for {
		if _, err := l.Read(make([]byte, 64<<10)); errors.Is(err, syscall.ECONNRESET) {
			return nil
		} else if err != nil {
			return fmt.Errorf("%w, want a reset", err)
		}
	}
}

// guards is what a pod with the policy "authenticated" does to those who come.
type guards struct {
	m     *testnet.Mesh
	p     pair
	plain *testnet.Pod
}

// closed asserts that the pod takes nothing in plaintext, of whatever protocol, and that the refusals are counted.
func (g *guards) closed(t *testing.T) {
	t.Helper()
	node := g.m.Nodes[1]
	refused := func() float64 {
		return metric(t, node, "fairlead_tcp_connections_closed_total", `direction="inbound"`, `reason="refused"`, `dst_workload="server"`)
	}
	before := refused()
	for name, from := range map[string]dialer{"a pod outside the mesh": g.plain, "a program outside the cluster": g.m.Lab.Outside(), "a program of the node": g.m.Nodes[1]} {
		for what, say := range map[string]string{"bytes": "\x00hello\n", "nothing": "", "its own TLS": "\x16\x03\x01\x00\x05\x01\x00\x00\x01\x09more"} {
			c, err := from.Dial(t.Context(), "tcp", echoAddr(g.p.server))
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.WriteString(c, say)
			if err := (&live{Conn: c}).wantReset(10 * time.Second); err != nil {
				t.Errorf("%s says %s: %v", name, what, err)
			}
			c.Close()
		}
	}
	if r := ask(t, g.plain, webAddr(g.p.server)); r.Status[403] != 1 {
		t.Errorf("HTTP: %v, want it answered with 403", r)
	}
	if r := askMode(t, g.plain, "tcp", echoAddr(g.p.server)); r.OK > 0 || r.Bad() != 1 || r.Hung > 0 {
		t.Errorf("TCP: %v", r)
	}
	eventually(t, 5*time.Second, "refusals are counted", func() error {
		if n := refused() - before; n < 11 {
			return fmt.Errorf("%v", n)
		}
		return nil
	})
}

// meshed asserts that whoever proves to be of the mesh is let in, and so are the pod itself and the kubelet.
func (g *guards) meshed(t *testing.T) {
	t.Helper()
	for _, addr := range []string{g.p.web, webAddr(g.p.server)} {
		mustFlawless(t, &load{name: "from the mesh to " + addr}, ask(t, g.p.client, addr), 1)
		mustFlawless(t, &load{name: "from itself to " + addr}, ask(t, g.p.server, addr), 1)
	}
	for _, addr := range []string{g.p.echo, echoAddr(g.p.server)} {
		mustFlawless(t, &load{name: "from the mesh to " + addr}, askMode(t, g.p.client, "tcp", addr), 1)
	}
	out, err := g.m.Nodes[1].Run(t.Context(), testnet.Command{Path: "curl", Cgroup: testnet.KubeletCgroup, Args: []string{"-sS", "--noproxy", "*", "--fail",
		"--max-time", "10", "http://" + webAddr(g.p.server) + "/"}})
	if err != nil {
		t.Errorf("a probe: %s, %v", out, err)
	}
}

// open asserts that plaintext is let in.
func (g *guards) open(t *testing.T) {
	t.Helper()
	eventually(t, 5*time.Second, "plaintext is let in", func() error {
		for _, mode := range []string{"h1new", "tcp"} {
			addr := map[string]string{"h1new": webAddr(g.p.server), "tcp": echoAddr(g.p.server)}[mode]
			if r := askMode(t, g.plain, mode, addr); r.OK != 1 {
				return fmt.Errorf("%s: %v", mode, r)
			}
		}
		return nil
	})
}

// TestDefaultPolicy closes a pod to plaintext while connections live, with and without the controller, after a restart of
// everything on its node, and opens it again.
func TestDefaultPolicy(t *testing.T) {
	t.Parallel()
	needs(t, "curl")
	m := newMesh(t, testnet.MeshConfig{KubeletCgroup: true})
	g := &guards{m: m, p: newPair(t, m), plain: mustAddPod(t, m.Nodes[0].Node, testnet.PodSpec{Namespace: "plain", Name: "plain"})}
	g.open(t)
	get := "GET / HTTP/1.1\r\nHost: server\r\n\r\n"
	doomed := map[string]*live{"tcp of a pod": newLive(t, g.plain, echoAddr(g.p.server), "x\n"), "http of a pod": newLive(t, g.plain, webAddr(g.p.server), get),
		"tcp from outside": newLive(t, m.Lab.Outside(), echoAddr(g.p.server), "x\n")}
	rightful := map[string]*live{"tcp of the mesh": newLive(t, g.p.client, echoAddr(g.p.server), "x\n"), "http of the mesh": newLive(t, g.p.client, g.p.web, get)}
	forbidden := metric(t, m.Nodes[1], "fairlead_proxy_events_total", `direction="inbound"`, `event="forbidden"`)
	eventually(t, 10*time.Second, "no other connection in plaintext is left", func() error {
		if n := metric(t, m.Nodes[1], "fairlead_tcp_connections_open", `direction="inbound"`, `tls="not_in_mesh"`); n != float64(len(doomed)) {
			return fmt.Errorf("%v are open", n)
		}
		return nil
	})

	statePolicy(t, g.p.server, "authenticated")
	deadline := time.Now().Add(2 * time.Second)
	for name, c := range doomed {
		if err := c.wantReset(time.Until(deadline)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, c := range rightful {
		if err := c.ping(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := metric(t, m.Nodes[1], "fairlead_proxy_events_total", `direction="inbound"`, `event="forbidden"`) - forbidden; n != float64(len(doomed)) {
		t.Errorf("%v connections counted as forbidden", n)
	}
	g.closed(t)
	g.meshed(t)

	eventually(t, 10*time.Second, "the policy, and the service that the pod has used, are on disk",
		func() error { return stateCloses(m.Nodes[1], g.p.server.UID, "server") })
	if err := m.Controller.Kill(); err != nil {
		t.Fatal(err)
	}
	restartAll(t, m.Nodes[1])
	g.closed(t)
	g.meshed(t)

	// Nothing is known of any pod now: not even the policy.
	if err := errors.Join(m.Nodes[1].Proxy.Kill(), os.Remove(filepath.Join(m.Nodes[1].StateDir(), "state")), m.Nodes[1].Keeper.Kill(),
		m.Nodes[1].StartKeeper(t.Context()), m.Nodes[1].StartProxy()); err != nil {
		t.Fatal(err)
	}
	eventually(t, 15*time.Second, "the mesh is let in without a table", func() error {
		if r := askMode(t, g.p.client, "tcp", echoAddr(g.p.server)); r.OK != 1 {
			return fmt.Errorf("%v", r)
		}
		return nil
	})
	for _, mode := range []string{"h1new", "tcp"} {
		addr := map[string]string{"h1new": webAddr(g.p.server), "tcp": echoAddr(g.p.server)}[mode]
		if r := askMode(t, g.plain, mode, addr); r.OK > 0 || r.Bad() != 1 || r.Hung > 0 {
			t.Errorf("plaintext without a table, %s: %v", mode, r)
		}
	}

	if err := m.StartController(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), waitLong)
	defer cancel()
	if err := m.Nodes[1].WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	g.closed(t)
	statePolicy(t, g.p.server, "allow")
	g.open(t)
}

// stateCloses looks for the pod's policy, and for the endpoints of a service, in the state that the node has on disk.
func stateCloses(n *testnet.MeshNode, uid, service string) error {
	raw, err := os.ReadFile(filepath.Join(n.StateDir(), "state"))
	if err != nil {
		return err
	}
	var signed controlpb.SignedState
	var state controlpb.State
	if err := errors.Join(proto.Unmarshal(raw, &signed), proto.Unmarshal(signed.GetState(), &state)); err != nil {
		return err
	}
	closed := slices.ContainsFunc(state.GetDelta().GetPods(), func(p *controlpb.Pod) bool {
		return p.GetUid() == uid && p.GetDefaultPolicy() == controlpb.DefaultPolicy_DEFAULT_POLICY_AUTHENTICATED
	})
	known := slices.ContainsFunc(state.GetDelta().GetEndpoints(), func(e *controlpb.Endpoints) bool { return e.GetService().GetName() == service })
	if !closed || !known {
		return fmt.Errorf("closed %v, endpoints %v", closed, known)
	}
	return nil
}

// TestDefaultPolicyOfNamespaceAndMesh has the namespace say it, the pod contradict it, a slip change nothing, and the mesh
// say it for all.
func TestDefaultPolicyOfNamespaceAndMesh(t *testing.T) {
	t.Parallel()
	needs(t, "curl")
	m := newMesh(t, testnet.MeshConfig{ControllerArgs: []string{"--default-policy=authenticated"}, KubeletCgroup: true})
	g := &guards{m: m, p: newPair(t, m), plain: mustAddPod(t, m.Nodes[0].Node, testnet.PodSpec{Namespace: "plain", Name: "plain"})}
	say := func(policy string) {
		t.Helper()
		if err := m.Lab.AnnotateNamespace("app", map[string]string{policyAnnotation: policy}); err != nil {
			t.Fatal(err)
		}
	}
	g.closed(t)
	say("allow")
	g.open(t)
	statePolicy(t, g.p.server, "authenticated")
	eventually(t, 5*time.Second, "the pod's own word counts", func() error {
		if r := ask(t, g.plain, webAddr(g.p.server)); r.Status[403] != 1 {
			return fmt.Errorf("%v", r)
		}
		return nil
	})
	g.closed(t)
	g.meshed(t)
	statePolicy(t, g.p.server, "authentcated")
	eventually(t, 5*time.Second, "the slip is a problem", func() error {
		text, err := problems(t, m)
		if err == nil && !strings.Contains(text, policyAnnotation) {
			err = fmt.Errorf("%q", text)
		}
		return err
	})
	g.closed(t)
}

// problems is what the controller does not understand.
func problems(t testing.TB, m *testnet.Mesh) (string, error) {
	t.Helper()
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return m.Lab.Control().Dial(ctx, "tcp", "127.0.0.1:9903")
		}}}
	resp, err := client.Get("http://controller/problems")
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return string(text), err
}
