package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"fairlead.io/fairlead/internal/control"
	"fairlead.io/fairlead/internal/identity"
	"fairlead.io/fairlead/internal/mesh"
)

const objects = `apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {fairlead.io/mesh: enabled}}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, uid: u-web}
spec: {nodeName: a, containers: [{name: c, image: i}]}
status: {podIP: 10.1.0.1}
---
apiVersion: v1
kind: Pod
metadata: {name: bad, namespace: shop, uid: u-bad}
spec: {nodeName: a, serviceAccountName: ghost, containers: [{name: c, image: i}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: d}
`

// started is a whole controller.
type started struct {
	t           *testing.T
	home        string
	nodes, http string
	log         *syncBuffer
	stop        func()
}

type syncBuffer struct {
	sync.Mutex
	b bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.Lock()
	defer s.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.Lock()
	defer s.Unlock()
	return s.b.String()
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func start(t *testing.T, home string, more ...string) *started {
	t.Helper()
	s := &started{t: t, home: home, nodes: freePort(t), http: freePort(t), log: &syncBuffer{}}
	if err := os.MkdirAll(filepath.Join(home, "objects"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(home, "tokens"), "a secret-of-a\n")
	args := append([]string{
		"--source=dir:" + filepath.Join(home, "objects"), "--trust-domain=test.local", "--ca-dir=" + filepath.Join(home, "ca"),
		"--tokens=" + filepath.Join(home, "tokens"), "--listen=" + s.nodes, "--admin=" + s.http,
	}, more...)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx, args, s.log) }()
	stopped := false
	s.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("controller: %v\n%s", err, s.log)
		}
	}
	t.Cleanup(s.stop)
	eventually(t, "ready", func() bool { code, _ := s.get("/readyz"); return code == http.StatusOK })
	return s
}

func (s *started) get(path string) (int, string) {
	r, err := http.Get("http://" + s.http + path)
	if err != nil {
		return 0, ""
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return r.StatusCode, string(body)
}

func (s *started) bundle() *identity.Bundle {
	s.t.Helper()
	td, err := identity.ParseTrustDomain("test.local")
	if err != nil {
		s.t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(s.home, "ca", "ca.crt"))
	if err != nil {
		s.t.Fatal(err)
	}
	b, err := identity.ParseBundle(td, text)
	if err != nil {
		s.t.Fatal(err)
	}
	return b
}

// bootstrap gets a certificate by token.
func (s *started) bootstrap(b *identity.Bundle, token string) (*identity.Static, []byte, error) {
	s.t.Helper()
	return bootstrap(s.t, s.nodes, "a", b, token)
}

func bootstrap(t testing.TB, addr, node string, b *identity.Bundle, token string) (*identity.Static, []byte, error) {
	t.Helper()
	id, err := identity.ControllerID(b.TrustDomain())
	if err != nil {
		t.Fatal(err)
	}
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := identity.NewCSR(key)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	target := control.Target{Addr: addr, Node: node, TLS: identity.ClientTLS(nil, b, identity.OnlyID(id))}
	issued, roots, err := control.Issue(ctx, target, token, []control.CertificateRequest{{CSR: csr}})
	if err != nil {
		return nil, nil, err
	}
	cert, err := identity.NewCertificate(issued[0].Chain, key)
	if err != nil {
		t.Fatal(err)
	}
	return &identity.Static{Cert: cert}, roots, nil
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline); {
		if ok() {
			return
		}
		<-time.After(5 * time.Millisecond)
	}
	t.Fatalf("not in time: %s", what)
}

func TestAControllerFromNothing(t *testing.T) {
	s := start(t, t.TempDir())
	write(t, filepath.Join(s.home, "objects", "all.yaml"), objects)
	b := s.bundle()
	src, roots, err := s.bootstrap(b, "secret-of-a")
	if err != nil {
		t.Fatal(err)
	}
	if string(roots) != string(b.PEM()) {
		t.Error("other roots")
	}
	if _, _, err := s.bootstrap(b, "secret-of-b"); err == nil {
		t.Error("a wrong token was taken")
	}

	id, err := identity.ControllerID(b.TrustDomain())
	if err != nil {
		t.Fatal(err)
	}
	keeper := control.NewPodsClient(control.Target{Addr: s.nodes, Node: "a", TLS: identity.ClientTLS(src, b, identity.OnlyID(id))}, nil)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- keeper.Run(ctx) }()
	defer func() { cancel(); <-done }()
	eventually(t, "the pod is to be enrolled", func() bool {
		a := keeper.Assignment()
		return a != nil && len(a.Pods) == 1 && a.Pods[0].Enrolled && a.Pods[0].Account == mesh.Account{Namespace: "shop", Name: "default"}
	})

	_, problems := s.get("/problems")
	if !strings.Contains(problems, `all.yaml:11: Pod shop/bad: unknown service account "ghost"`) || !strings.Contains(problems, "note: ") {
		t.Errorf("problems: %s", problems)
	}
	_, text := s.get("/metrics")
	for _, want := range []string{
		"fairlead_controller_pods 1\n", "fairlead_controller_problems 1\n", `fairlead_controller_certificate_requests_total{result="signed"} 1` + "\n",
		`fairlead_controller_certificate_requests_total{result="unauthenticated"} 1` + "\n", `fairlead_controller_streams{stream="pods"} 1` + "\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	lint(t, text)
}

func lint(t *testing.T, metrics string) {
	t.Helper()
	problems, err := promlint.New(strings.NewReader(metrics)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "fairlead_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

func TestTheCAOfADirectoryStays(t *testing.T) {
	home := t.TempDir()
	s := start(t, home)
	first := string(s.bundle().PEM())
	s.stop()
	info, err := os.Stat(filepath.Join(home, "ca", "tls.key"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key file: %v %v", info, err)
	}
	again := start(t, home)
	if string(again.bundle().PEM()) != first {
		t.Error("another CA after a restart")
	}
}

func TestIssuerRootsAndTokensChangeUnderWay(t *testing.T) {
	home := t.TempDir()
	s := start(t, home)
	old := s.bundle()
	next, err := identity.NewCA(old.TrustDomain())
	if err != nil {
		t.Fatal(err)
	}
	key, err := next.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	file := func(name string) string { return filepath.Join(home, "ca", name) }
	write(t, file("ca.crt"), string(old.PEM())+string(next.RootPEM()))
	eventually(t, "both roots", func() bool {
		_, roots, err := s.bootstrap(old, "secret-of-a")
		return err == nil && len(roots) > len(old.PEM())
	})
	both := s.bundle()
	// Half a change is not taken: key and certificate do not belong together.
	write(t, file("tls.key"), string(key))
	eventually(t, "half a change is reported", func() bool { return strings.Contains(s.log.String(), "trust not taken") })
	if _, _, err := s.bootstrap(both, "secret-of-a"); err != nil {
		t.Fatal(err)
	}
	write(t, file("tls.crt"), string(next.CertPEM()))
	alone, err := identity.ParseBundle(old.TrustDomain(), next.RootPEM())
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "signed by the new issuer, the controller too", func() bool {
		_, _, err := s.bootstrap(alone, "secret-of-a")
		return err == nil
	})
	write(t, filepath.Join(home, "tokens"), "a another-secret\n")
	eventually(t, "new token", func() bool { _, _, err := s.bootstrap(both, "another-secret"); return err == nil })
	if _, _, err := s.bootstrap(both, "secret-of-a"); err == nil {
		t.Error("the old token is still good")
	}
}

const kubernetesArgs = "--source=kubernetes --namespace=x --pod-name=x --pod-ip=10.0.0.1"

func TestBadCommandLines(t *testing.T) {
	for _, args := range []string{
		"", "--source=kube --ca-dir=x", "--source=dir:x", "--source=dir:x --ca-cert=c", "--source=dir:x --ca-dir=x --ca-key=k",
		"--source=kubernetes --pod-name=x --pod-ip=10.0.0.1", "--source=kubernetes --namespace=x --pod-ip=10.0.0.1",
		"--source=kubernetes --namespace=x --pod-name=x", "--source=kubernetes --namespace=x --pod-name=x --pod-ip=host",
		kubernetesArgs + " --ca-dir=x", kubernetesArgs + " --tokens=x", kubernetesArgs + " --lease-renew=15s", kubernetesArgs + " --lease-retry=10s",
		kubernetesArgs + " --issuer-wait=-1s", kubernetesArgs + " --kubeconfig=/no", kubernetesArgs + " --log-level=loud",
		"--source=dir:x --ca-dir=x extra", "--source=dir:x --ca-dir=x --leaf-ttl=1ms", "--nonsense",
	} {
		if err := run(t.Context(), strings.Fields(args), io.Discard); err == nil {
			t.Errorf("%q was taken", args)
		}
	}
	home := t.TempDir()
	write(t, filepath.Join(home, "tokens"), "a b c\n")
	for _, more := range []string{"--tokens=" + home + "/tokens", "--tokens=" + home + "/none", "--roots=" + home + "/tokens", "--trust-domain=A/B"} {
		err := run(t.Context(), []string{"--source=dir:" + home, fmt.Sprintf("--ca-dir=%s/ca", home), "--listen=127.0.0.1:0", "--admin=127.0.0.1:0", more}, io.Discard)
		if err == nil {
			t.Errorf("%q was taken", more)
		}
	}
}
