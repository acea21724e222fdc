package control_test

import (
	"context"
	"crypto/x509"
	"errors"
	"net/netip"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"fairlead.io/fairlead/internal/control"
	"fairlead.io/fairlead/internal/control/controlpb"
	"fairlead.io/fairlead/internal/identity"
	"fairlead.io/fairlead/internal/mesh"
)

func csr(t testing.TB) []byte {
	t.Helper()
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return must[[]byte](t)(identity.NewCSR(key))
}

func issue(t *testing.T, target control.Target, token string, subjects ...control.Subject) ([]control.Issued, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var reqs []control.CertificateRequest
	for _, s := range subjects {
		reqs = append(reqs, control.CertificateRequest{Subject: s, CSR: csr(t)})
	}
	issued, roots, err := control.Issue(ctx, target, token, reqs)
	if err == nil && len(roots) == 0 {
		t.Error("no roots")
	}
	return issued, err
}

func peerOf(t *testing.T, p *plane, chain [][]byte) identity.Peer {
	t.Helper()
	var certs []*x509.Certificate
	for _, der := range chain {
		certs = append(certs, must[*x509.Certificate](t)(x509.ParseCertificate(der)))
	}
	return must[identity.Peer](t)(p.bundle.Verify(certs))
}

func TestIssueByTokenThenByCertificate(t *testing.T) {
	p := newPlane(t, nil)
	p.write("all.yaml", namespaceYAML("shop", "enabled"), accountYAML("shop", "web"), accountYAML("shop", "db"),
		podYAML("shop", "web", "web", "a", "10.1.0.1"), podYAML("shop", "db", "db", "b", "10.1.1.1"))
	p.serve()
	issued, err := issue(t, p.target("a", nil), "token-of-a", control.Subject{}, control.Subject{Proxy: true})
	if err != nil {
		t.Fatal(err)
	}
	if got := peerOf(t, p, issued[0].Chain); got.Node != "a" || got.ID.String() != "spiffe://test.local/fairlead/keeper/a" {
		t.Errorf("keeper is %v", got)
	}
	if got := peerOf(t, p, issued[1].Chain); got.Node != "a" || got.ID.String() != "spiffe://test.local/fairlead/proxy/a" {
		t.Errorf("proxy is %v", got)
	}

	web, db := mesh.Account{Namespace: "shop", Name: "web"}, mesh.Account{Namespace: "shop", Name: "db"}
	issued, err = issue(t, p.keeperTarget("a"), "", control.Subject{Account: web}, control.Subject{Account: db})
	if err != nil {
		t.Fatal(err)
	}
	if got := peerOf(t, p, issued[0].Chain); got.Node != "a" || got.ID.String() != "spiffe://test.local/ns/shop/sa/web" {
		t.Errorf("account is %v", got)
	}
	if !errors.Is(issued[1].Refused, control.ErrRefused) || issued[1].Chain != nil {
		t.Errorf("an account of another node's pod was signed: %v", issued[1])
	}
}

func TestIssueIsRefused(t *testing.T) {
	p := newPlane(t, nil)
	p.serve()
	web := must[identity.ID](t)(identity.AccountID(td, mesh.Account{Namespace: "shop", Name: "web"}))
	keeperA := must[identity.ID](t)(identity.KeeperID(td, "a"))
	other := must[*identity.CA](t)(identity.NewCA(td))
	forged := must2(t)(other.Issue(identity.Request{ID: keeperA, Node: "a", TTL: time.Hour}))
	for _, c := range []struct {
		name   string
		target control.Target
		token  string
		want   codes.Code
	}{
		{"no proof", p.target("a", nil), "", codes.Unauthenticated},
		{"unknown token", p.target("a", nil), "token-of-x", codes.Unauthenticated},
		{"token's prefix", p.target("a", nil), "token-of-", codes.Unauthenticated},
		{"another node's token", p.target("a", nil), "token-of-b", codes.PermissionDenied},
		{"another node's certificate", withNode(p.keeperTarget("b"), "a"), "", codes.PermissionDenied},
		{"proxy's certificate", p.proxyTarget("a"), "", codes.PermissionDenied},
		{"proxy's certificate beside a token", p.proxyTarget("a"), "token-of-a", codes.PermissionDenied},
		{"account's certificate", p.target("a", p.issue(web, "a")), "", codes.PermissionDenied},
		{"keeper's name, other node's extension", p.target("a", p.issue(keeperA, "b")), "", codes.PermissionDenied},
		{"keeper's name, no node", p.target("a", p.issue(keeperA, "")), "", codes.PermissionDenied},
		{"other CA", p.target("a", forged), "token-of-a", codes.Unavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := issue(t, c.target, c.token, control.Subject{})
			if got := status.Code(errors.Unwrap(err)); got != c.want {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}

func must2(t testing.TB) func(c *certificate, err error) *certificate { return must[*certificate](t) }

func withNode(t control.Target, node string) control.Target {
	t.Node = node
	return t
}

func TestStreamsAreForTheirOwnComponentAndNode(t *testing.T) {
	p := newPlane(t, nil)
	p.serve()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	proxy := controlpb.NewControllerClient(p.conn("a"))

	pods, err := proxy.Pods(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pods.Recv(); status.Code(err) != codes.PermissionDenied {
		t.Errorf("a proxy had the keeper's stream: %v", err)
	}
	discover, err := proxy.Discover(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := discover.Send(&controlpb.DiscoverUp{Node: "b"}); err != nil {
		t.Fatal(err)
	}
	if _, err := discover.Recv(); status.Code(err) != codes.PermissionDenied {
		t.Errorf("node a's proxy had node b's stream: %v", err)
	}
	ahead, err := proxy.Discover(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := ahead.Send(&controlpb.DiscoverUp{Node: "a", Acked: p.world.Version() + 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := ahead.Recv(); status.Code(err) != codes.InvalidArgument {
		t.Errorf("acknowledged what was never sent: %v", err)
	}
}

func TestAKeeperCapturesOnlyItsOwnPods(t *testing.T) {
	p := newPlane(t, nil)
	p.write("all.yaml", namespaceYAML("shop", "enabled"), podYAML("shop", "web", "default", "a", "10.1.0.1"),
		podYAML("shop", "db", "default", "b", "10.1.1.1"))
	p.serve()
	a, b := p.keeper("a"), p.loyal("b", map[string]string{"uid-db": "10.1.1.1"})
	eventually(t, "both told", func() bool { return isEnrolled(a, "uid-web") && isEnrolled(b, "uid-db") })
	if _, known := enrolment(a, "uid-db"); known {
		t.Error("node a is told node b's pod")
	}
	// Node a claims b's pod, and b's pod's address for its own.
	addr := netip.MustParseAddr("10.1.1.1")
	a.SetCaptured(a.Assignment().Version, map[string][]netip.Addr{"uid-db": {addr}, "uid-web": {addr, netip.MustParseAddr("10.1.0.1")}})
	proxy := p.proxy("a")
	eventually(t, "both in the mesh", func() bool { return inMesh(proxy, "uid-web") && inMesh(proxy, "uid-db") })
	if got := proxy.Snapshot().PodByAddr(addr); got == nil || got.UID != "uid-db" {
		t.Errorf("the stolen address belongs to %v", got)
	}
	if len(p.world.Problems()) != 1 {
		t.Errorf("problems: %v", p.world.Problems())
	}
}
