package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/control"
	"fairlead.io/fairlead/internal/identity"
	"fairlead.io/fairlead/internal/kube/kubetest"
	"fairlead.io/fairlead/internal/mesh"
)

const ns = "fairlead-system"

// cluster is an API server, with a node "a", its keeper's pod, and an application on it.
type cluster struct {
	*kubetest.Server
	t testing.TB
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{Server: kubetest.New(t), t: t}
	c.ReviewTokens(func(token string) map[string]any {
		if token != "token-of-a" {
			return nil
		}
		return map[string]any{"authenticated": true, "audiences": []string{"fairlead-controller"}, "user": map[string]any{
			"username": "system:serviceaccount:fairlead-system:fairlead-node",
			"extra": map[string]any{
				"authentication.kubernetes.io/pod-name": []string{"fairlead-node-a"}, "authentication.kubernetes.io/pod-uid": []string{"u-keeper"},
				"authentication.kubernetes.io/node-name": []string{"a"},
			},
		}}
	})
	c.Set(
		`{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "fairlead-system"}}`,
		`{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}`,
		`{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"namespace": "fairlead-system", "name": "fairlead-node"}}`,
		`{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "a"},
			"spec": {"taints": [{"key": "fairlead.io/not-ready", "effect": "NoSchedule"}, {"key": "gpu", "effect": "NoSchedule"}]},
			"status": {"addresses": [{"type": "InternalIP", "address": "172.16.0.1"}], "conditions": [{"type": "Ready", "status": "True"}]}}`,
		`{"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "fairlead-system", "name": "fairlead-node-a", "uid": "u-keeper"},
			"spec": {"nodeName": "a", "serviceAccountName": "fairlead-node", "containers": [{"name": "c"}]}, "status": {"phase": "Running", "podIP": "10.0.0.2"}}`,
		`{"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "shop", "name": "web", "uid": "u-web"},
			"spec": {"nodeName": "a", "containers": [{"name": "c"}]}, "status": {"phase": "Running", "podIP": "10.0.0.1"}}`,
	)
	return c
}

// runs is a controller of the cluster.
type runs struct {
	t    testing.TB
	http string
	log  *syncBuffer
	done chan error
	stop func()
}

func (c *cluster) start(t *testing.T, name string, more ...string) *runs {
	t.Helper()
	r := &runs{t: t, http: freePort(t), log: &syncBuffer{}, done: make(chan error, 1)}
	args := append([]string{
		"--source=kubernetes", "--kubeconfig=" + c.KubeconfigOf("controller"), "--namespace=" + ns, "--pod-name=" + name, "--pod-ip=127.0.0.1",
		"--trust-domain=test.local", "--listen=127.0.0.1:0", "--admin=" + r.http,
		"--lease-duration=3s", "--lease-renew=2s", "--lease-retry=100ms", "--issuer-wait=200ms", "--leave=1s",
	}, more...)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { r.done <- run(ctx, args, r.log) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-r.done; err != nil {
			t.Errorf("%s: %v\n%s", name, err, r.log)
		}
	})
	t.Cleanup(r.stop)
	return r
}

func (r *runs) get(path string) string {
	answer, err := http.Get("http://" + r.http + path)
	if err != nil {
		return ""
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return ""
	}
	return string(body)
}

func (r *runs) says(path, want string) func() bool {
	return func() bool { return strings.Contains(r.get(path), want) }
}

// nodes is where the leader is found, as its EndpointSlice says.
func (c *cluster) nodes() string {
	var slice struct {
		Endpoints []struct{ Addresses []string }
		Ports     []struct {
			Name string
			Port int
		}
	}
	if json.Unmarshal([]byte(c.Text("endpointslices.discovery.k8s.io", ns, "fairlead-controller")), &slice) != nil || len(slice.Ports) == 0 {
		return ""
	}
	return net.JoinHostPort(slice.Endpoints[0].Addresses[0], fmt.Sprint(slice.Ports[0].Port))
}

func (c *cluster) bundle() *identity.Bundle {
	td, err := identity.ParseTrustDomain("test.local")
	if err != nil {
		c.t.Fatal(err)
	}
	var roots struct{ Data map[string]string }
	if err := json.Unmarshal([]byte(c.Text("configmaps", ns, "fairlead-roots")), &roots); err != nil {
		return nil
	}
	b, err := identity.ParseBundle(td, []byte(roots.Data["ca.crt"]))
	if err != nil {
		c.t.Fatal(err)
	}
	return b
}

// join asks for a keeper's certificate by token.
func (c *cluster) join(b *identity.Bundle, node, token string) (*identity.Static, error) {
	if b == nil || c.nodes() == "" {
		return nil, errors.New("nobody serves yet")
	}
	cert, _, err := bootstrap(c.t, c.nodes(), node, b, token)
	return cert, err
}

// keeper is the stream of node a.
func (c *cluster) keeper(t *testing.T) *control.PodsClient {
	t.Helper()
	var cert *identity.Static
	eventually(t, "a certificate by token", func() (ok bool) {
		var err error
		cert, err = c.join(c.bundle(), "a", "token-of-a")
		return err == nil
	})
	id, err := identity.ControllerID(c.bundle().TrustDomain())
	if err != nil {
		t.Fatal(err)
	}
	k := control.NewPodsClient(control.Target{Addr: c.nodes(), Node: "a", TLS: identity.ClientTLS(cert, c.bundle(), identity.OnlyID(id))}, nil)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return k
}

// obey puts in force what the controller wants until the test ends, as a keeper does.
func obey(t *testing.T, k *control.PodsClient) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			if a := k.Assignment(); a != nil {
				captured := map[string][]netip.Addr{}
				for _, p := range a.Pods {
					if p.Enrolled {
						captured[p.UID] = []netip.Addr{netip.MustParseAddr("10.0.0.1")}
					}
				}
				k.SetCaptured(a.Version, captured)
			}
			select {
			case <-ctx.Done():
				return
			case <-k.Changed():
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
}

func enrolled(k *control.PodsClient, uid string) bool {
	a := k.Assignment()
	if a == nil {
		return false
	}
	for _, p := range a.Pods {
		if p.UID == uid && p.Enrolled {
			return p.Account == mesh.Account{Namespace: "shop", Name: "default"}
		}
	}
	return false
}

func (c *cluster) setIssuer(t *testing.T, ca *identity.CA) {
	t.Helper()
	key, err := ca.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.StdEncoding.EncodeToString
	c.Set(fmt.Sprintf(`{"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
		"metadata": {"namespace": %q, "name": "fairlead-issuer"}, "data": {"tls.crt": %q, "tls.key": %q}}`, ns, b64(ca.CertPEM()), b64(key)))
}

func newIssuer(t *testing.T) (*identity.CA, *identity.Bundle) {
	t.Helper()
	td, err := identity.ParseTrustDomain("test.local")
	if err != nil {
		t.Fatal(err)
	}
	ca, err := identity.NewCA(td)
	if err != nil {
		t.Fatal(err)
	}
	b, err := identity.ParseBundle(td, ca.RootPEM())
	if err != nil {
		t.Fatal(err)
	}
	return ca, b
}

func TestAClusterFromNothing(t *testing.T) {
	c := newCluster(t)
	r := c.start(t, "c1")
	eventually(t, "it leads", r.says("/readyz", "this replica leads"))
	k := c.keeper(t)
	if _, err := c.join(c.bundle(), "a", "token-of-nobody"); err == nil || !strings.Contains(err.Error(), "not_authenticated") {
		t.Errorf("a token of nobody: %v", err)
	}
	if _, err := c.join(c.bundle(), "b", "token-of-a"); err == nil {
		t.Error("a's token is good for b")
	}
	obey(t, k)
	eventually(t, "the keeper is told the pod", func() bool { a := k.Assignment(); return a != nil && len(a.Pods) == 2 })
	begin := time.Now()
	c.Merge("namespaces", "", "shop", `{"metadata": {"labels": {"fairlead.io/mesh": "enabled"}}}`)
	eventually(t, "the pod is enrolled", func() bool { return enrolled(k, "u-web") })
	if d := time.Since(begin); d > 2*time.Second {
		t.Errorf("a running pod is told to its keeper after %v", d)
	}
	eventually(t, "the pod is announced", r.says("/metrics", "fairlead_controller_pods_in_mesh 1\n"))
	for _, want := range []string{
		"fairlead_controller_leader 1\n", `fairlead_controller_token_reviews_total{result="ok"} 2` + "\n", "fairlead_controller_trust_problems 0\n",
		`fairlead_controller_token_reviews_total{result="not_authenticated"} 1` + "\n", `fairlead_controller_source_up{what="Pod"} 1` + "\n",
	} {
		if !strings.Contains(r.get("/metrics"), want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	lint(t, r.get("/metrics"))
	if a := r.get("/leader"); a != `{"leader":"c1","leads":true}`+"\n" {
		t.Errorf("leader: %s", a)
	}
	if a := r.get("/uninstall-state"); a != `{"closed":false,"inMesh":1,"captured":{"a":1}}`+"\n" {
		t.Errorf("state: %s", a)
	}
	c.Set(`{"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "shop", "name": "bad", "uid": "u-bad"},
		"spec": {"nodeName": "a", "serviceAccountName": "ghost", "containers": [{"name": "c"}]}}`)
	eventually(t, "the problem", r.says("/problems", `Pod shop/bad: unknown service account "ghost"`))
}

func TestALeaderGoes(t *testing.T) {
	c := newCluster(t)
	c.Merge("namespaces", "", "shop", `{"metadata": {"labels": {"fairlead.io/mesh": "enabled"}}}`)
	first := c.start(t, "c1")
	eventually(t, "it leads", first.says("/readyz", "this replica leads"))
	k := c.keeper(t)
	obey(t, k)
	eventually(t, "the pod is announced", first.says("/metrics", "fairlead_controller_pods_in_mesh 1\n"))

	next := c.start(t, "c2")
	eventually(t, "the standby is ready", next.says("/readyz", "standby; the leader is c1"))
	if a := next.get("/problems"); !strings.Contains(a, `does not lead, and knows of no object's problems; the leader is "c1"`) {
		t.Errorf("problems: %s", a)
	}
	text := next.get("/metrics")
	lint(t, text)
	if !strings.Contains(text, "fairlead_controller_leader 0\n") || strings.Contains(text, "fairlead_controller_pods ") {
		t.Errorf("metrics of a standby: %s", text)
	}
	if a := next.get("/uninstall-state"); !strings.Contains(a, "does not lead") {
		t.Errorf("state: %s", a)
	}

	before := c.nodes()
	first.stop()
	eventually(t, "the standby leads", next.says("/readyz", "this replica leads"))
	eventually(t, "nodes find it", func() bool { return c.nodes() != before })
	again := c.keeper(t)
	eventually(t, "the pod is still enrolled", func() bool { return enrolled(again, "u-web") })
	if again.Assignment().Version <= k.Assignment().Version {
		t.Error("the version went back")
	}
	if n := strings.Contains(next.get("/metrics"), "fairlead_controller_warm 0\n"); !n {
		t.Error("proxies are told a world before the keeper has reported")
	}
	obey(t, again)
	eventually(t, "the pod is announced", next.says("/metrics", "fairlead_controller_pods_in_mesh 1\n"))
	eventually(t, "proxies are told", next.says("/metrics", "fairlead_controller_warm 1\n"))
}

func TestALeaderThatLosesItsLease(t *testing.T) {
	c := newCluster(t)
	r := c.start(t, "c1")
	eventually(t, "it leads", r.says("/readyz", "this replica leads"))
	c.Fail(func(r kubetest.Request) int {
		if r.Resource == "leases" {
			return http.StatusServiceUnavailable
		}
		return 0
	})
	select {
	case err := <-r.done:
		if err == nil || !strings.Contains(err.Error(), "lease fairlead-controller: the lease is lost") {
			t.Errorf("it ends with %v", err)
		}
		r.done <- nil
	case <-time.After(15 * time.Second):
		t.Fatal("it leads on")
	}
}

func TestTheIssuerOfAClusterIsRotated(t *testing.T) {
	c := newCluster(t)
	r := c.start(t, "c1")
	eventually(t, "it leads", r.says("/readyz", "this replica leads"))
	old := c.bundle()
	// Half a change: the Secret's certificate and key do not belong together.
	c.Merge("secrets", ns, "fairlead-issuer", `{"data": {"tls.key": "`+base64.StdEncoding.EncodeToString([]byte("broken"))+`"}}`)
	eventually(t, "the step is named", r.says("/problems", "take issuer: parse issuer's key"))
	eventually(t, "and counted", func() bool { return !strings.Contains(r.get("/metrics"), "fairlead_controller_trust_problems 0\n") })
	if _, err := c.join(old, "a", "token-of-a"); err != nil {
		t.Fatalf("the last good issuer is not in force: %v", err)
	}
	// A new issuer, whose roots nobody else publishes: both roots are told, and then it is taken.
	ca, alone := newIssuer(t)
	c.setIssuer(t, ca)
	eventually(t, "both roots", func() bool { return c.bundle().Len() == 2 })
	eventually(t, "signed by the new issuer", func() bool { _, err := c.join(alone, "a", "token-of-a"); return err == nil })
	eventually(t, "no problem is left", func() bool { return !strings.Contains(r.get("/problems"), "issuer") })
	// The Secret is deleted: another issuer is made, and taken over in the same way.
	c.Delete("secrets", ns, "fairlead-issuer")
	eventually(t, "a third root", func() bool { return c.bundle().Len() == 3 })
	eventually(t, "signed by the third issuer", func() bool {
		_, err := c.join(alone, "a", "token-of-a")
		_, all := c.join(c.bundle(), "a", "token-of-a")
		return err != nil && all == nil
	})
	c.setIssuer(t, ca)
	eventually(t, "signed by the second issuer again", func() bool { _, err := c.join(alone, "a", "token-of-a"); return err == nil })
	// Roots that somebody else publishes, and an issuer that they do not vouch for.
	other, _ := newIssuer(t)
	text, err := json.Marshal(string(ca.RootPEM()))
	if err != nil {
		t.Fatal(err)
	}
	c.Merge("configmaps", ns, "fairlead-roots", `{"metadata": {"labels": {"fairlead.io/generated": null}}, "data": {"ca.crt": `+string(text)+`}}`)
	c.setIssuer(t, other)
	eventually(t, "the refusal is named", r.says("/problems", "take issuer: try issuer by the roots"))
	if _, err := c.join(alone, "a", "token-of-a"); err != nil {
		t.Errorf("the last good issuer is not in force: %v", err)
	}
}

// TestAnIssuerWaitsForItsRoots: nodes are told new roots some time before anybody shows a certificate under them.
func TestAnIssuerWaitsForItsRoots(t *testing.T) {
	c := newCluster(t)
	r := c.start(t, "c1", "--issuer-wait=1h")
	eventually(t, "it leads", r.says("/readyz", "this replica leads"))
	old := c.bundle()
	k := c.keeper(t)
	ca, alone := newIssuer(t)
	c.setIssuer(t, ca)
	eventually(t, "the keeper is told both roots", func() bool {
		a := k.Assignment()
		return a != nil && strings.Count(string(a.Roots), "BEGIN CERTIFICATE") == 2
	})
	if _, err := c.join(alone, "a", "token-of-a"); err == nil {
		t.Error("the issuer is taken at once")
	}
	if _, err := c.join(old, "a", "token-of-a"); err != nil {
		t.Errorf("the old issuer is not in force: %v", err)
	}
	if p := r.get("/problems"); strings.Contains(p, "issuer") {
		t.Errorf("waiting is a problem: %s", p)
	}
}

func TestAnIssuerThatSomebodyElseIsGoingToMake(t *testing.T) {
	c := newCluster(t)
	r := c.start(t, "c1", "--make-issuer=false")
	eventually(t, "it says what is missing", r.says("/readyz", "waiting for: issuer (there is no Secret fairlead-issuer)"))
	eventually(t, "as a problem", r.says("/problems", "issuer and roots: there is no Secret fairlead-issuer"))
	eventually(t, "counted", r.says("/metrics", "fairlead_controller_trust_problems 1\n"))
	ca, alone := newIssuer(t)
	c.setIssuer(t, ca)
	eventually(t, "it serves", r.says("/readyz", "this replica leads"))
	eventually(t, "signed by it", func() bool { _, err := c.join(alone, "a", "token-of-a"); return err == nil })
}

func TestAReplicaThatMayNotRead(t *testing.T) {
	c := newCluster(t)
	c.Allow(func(r kubetest.Request) bool { return r.Resource != "services" })
	r := c.start(t, "c1")
	eventually(t, "it says what is missing", r.says("/readyz", "waiting for: Service ("))
	if c.Text("leases.coordination.k8s.io", ns, "fairlead-controller") != "" {
		t.Error("it stands for election without knowing the cluster")
	}
	c.Allow(nil)
	eventually(t, "it leads", r.says("/readyz", "this replica leads"))
}
