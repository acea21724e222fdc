package kube

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/identity"
	"fairlead.io/fairlead/internal/kube/kubetest"
)

func trustDomain(t testing.TB) identity.TrustDomain {
	t.Helper()
	td, err := identity.ParseTrustDomain("test.local")
	if err != nil {
		t.Fatal(err)
	}
	return td
}

func newCA(t testing.TB) *identity.CA {
	t.Helper()
	ca, err := identity.NewCA(trustDomain(t))
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func secretOf(t testing.TB, ca *identity.CA, roots []byte) string {
	t.Helper()
	key, err := ca.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf(`{"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": {"namespace": %q, "name": %q},
		"data": {"tls.crt": %q, "tls.key": %q, "ca.crt": %q}}`, ns, IssuerSecret, b64(ca.CertPEM()), b64(key), b64(roots))
}

func rootsOf(label string, cas ...*identity.CA) string {
	var text []byte
	for _, ca := range cas {
		text = append(text, ca.RootPEM()...)
	}
	return fmt.Sprintf(`{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": %q, "name": %q, "labels": {%q: %q}},
		"data": {"ca.crt": %q}}`, ns, RootsConfigMap, generatedLabel, label, text)
}

func authority(t testing.TB, s *kubetest.Server, make bool) *Authority {
	t.Helper()
	source := NewSource(SourceConfig{Client: client(t, s, "controller"), Namespace: ns, IssuerSecret: IssuerSecret, RootsConfigMap: RootsConfigMap})
	background(t, source.Run)
	eventually(t, "the cluster is read", func() bool { return len(source.Pending()) == 0 })
	return NewAuthority(AuthorityConfig{Source: source, TrustDomain: trustDomain(t), Make: make, Every: time.Minute})
}

// good makes sure that the authority has an issuer, and roots that vouch for it.
func good(t testing.TB, a *Authority) (cert, roots []byte) {
	t.Helper()
	cert, key, err := a.Issuer()
	if err != nil {
		t.Fatal(err)
	}
	if roots, err = a.Roots(); err != nil {
		t.Fatal(err)
	}
	b, err := identity.ParseBundle(a.cfg.TrustDomain, roots)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Vouches(cert, key); err != nil {
		t.Fatal(err)
	}
	return cert, roots
}

func TestAnIssuerIsMadeWhereThereIsNone(t *testing.T) {
	s := kubetest.New(t)
	a := authority(t, s, true)
	if err := a.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	cert, roots := good(t, a)
	if s.At("secrets", ns, IssuerSecret, "type") != "kubernetes.io/tls" {
		t.Error("the Secret is of another type")
	}
	for _, what := range []string{s.Text("secrets", ns, IssuerSecret), s.Text("configmaps", ns, RootsConfigMap)} {
		if !strings.Contains(what, `"fairlead.io/generated":"true"`) {
			t.Errorf("not labelled: %.200s", what)
		}
	}
	// The next leader finds it.
	b := authority(t, s, true)
	if err := b.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	if again, r := good(t, b); string(again) != string(cert) || string(r) != string(roots) {
		t.Error("another issuer")
	}
	writes := 0
	for _, r := range s.Requests() {
		if r.Verb == "create" || r.Verb == "update" {
			writes++
		}
	}
	if writes != 2 {
		t.Errorf("%d writes", writes)
	}
	// A ConfigMap that is deleted, or a leader that died between the two, is made up for.
	s.Delete("configmaps", ns, RootsConfigMap)
	eventually(t, "told", func() bool { _, err := b.Roots(); return err != nil })
	if err := b.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, r := good(t, b); string(r) != string(roots) {
		t.Error("other roots")
	}
}

func TestTwoLeadersMakeOneIssuer(t *testing.T) {
	s := kubetest.New(t)
	var all []*Authority
	for range 4 {
		all = append(all, authority(t, s, true))
	}
	var wait sync.WaitGroup
	for _, a := range all {
		wait.Go(func() {
			for a.Prepare(context.Background()) != nil { // somebody else was faster
				<-time.After(time.Millisecond)
			}
		})
	}
	wait.Wait()
	first, roots := good(t, all[0])
	for _, a := range all[1:] {
		if cert, r := good(t, a); string(cert) != string(first) || string(r) != string(roots) {
			t.Error("they differ")
		}
	}
}

func TestRootsOfAnIssuerThatSomebodyElseHasMade(t *testing.T) {
	above := newCA(t)
	for _, c := range []struct {
		name    string
		objects func(t *testing.T) []string
		want    string // of the error; "" if there is none
	}{
		{"self-signed", func(t *testing.T) []string { return []string{secretOf(t, newCA(t), nil)} }, ""},
		{"with its own ca.crt", func(t *testing.T) []string { ca := newCA(t); return []string{secretOf(t, ca, ca.RootPEM())} }, ""},
		{"with a ca.crt of somebody else", func(t *testing.T) []string { return []string{secretOf(t, newCA(t), above.RootPEM())} }, ""},
		{"an intermediate with ca.crt", func(t *testing.T) []string { return []string{intermediate(t, above, true)} }, ""},
		{"an intermediate without a root", func(t *testing.T) []string { return []string{intermediate(t, above, false)} }, "ConfigMap fairlead-roots is needed"},
		{"an intermediate and roots", func(t *testing.T) []string { return []string{intermediate(t, above, false), rootsOf("", above)} }, ""},
		{"roots alone", func(t *testing.T) []string { return []string{rootsOf("", above)} }, "bring both, or neither"},
		{"a broken Secret", func(t *testing.T) []string {
			return []string{`{"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "fairlead-system", "name": "fairlead-issuer"}, "data": {"tls.crt": "eA=="}}`}
		}, "parse issuer"},
		{"our roots without the issuer", func(t *testing.T) []string { return []string{rootsOf("true", above)} }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := kubetest.New(t)
			s.Set(c.objects(t)...)
			a := authority(t, s, true)
			before := s.Text("configmaps", ns, RootsConfigMap)
			err := a.Prepare(t.Context())
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Fatalf("error %v, want %q", err, c.want)
			}
			if c.want == "" {
				good(t, a)
			}
			if strings.Contains(before, `"fairlead.io/generated":""`) && s.Text("configmaps", ns, RootsConfigMap) != before {
				t.Error("somebody else's ConfigMap was changed")
			}
		})
	}
}

func TestGeneratedRootsFollowTheIssuer(t *testing.T) {
	s := kubetest.New(t)
	first, second := newCA(t), newCA(t)
	s.Set(secretOf(t, first, nil))
	a := authority(t, s, true)
	if err := a.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Set(secretOf(t, second, nil))
	eventually(t, "told", func() bool { cert, _, err := a.Issuer(); return err == nil && string(cert) == string(second.CertPEM()) })
	if err := a.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, roots := good(t, a); string(roots) != string(first.RootPEM())+string(second.RootPEM()) {
		t.Errorf("roots:\n%s", roots)
	}
}

func TestWithoutMakingSomebodyElseIsWaitedFor(t *testing.T) {
	s := kubetest.New(t)
	a := authority(t, s, false)
	if err := a.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := a.Issuer(); err == nil || !strings.Contains(err.Error(), "no Secret fairlead-issuer") {
		t.Errorf("issuer: %v", err)
	}
	if s.Text("secrets", ns, IssuerSecret) != "" {
		t.Error("an issuer was made")
	}
	for drained := false; !drained; { // what was told so far
		select {
		case <-a.source.trust:
		default:
			drained = true
		}
	}
	s.Set(secretOf(t, newCA(t), nil))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if !a.Next(ctx) {
		t.Fatal("not told of the Secret")
	}
	if err := a.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	good(t, a)
}

func TestAnAuthorityThatMayNotWrite(t *testing.T) {
	s := kubetest.New(t)
	s.Allow(func(r kubetest.Request) bool { return r.Verb != "create" })
	a := authority(t, s, true)
	if err := a.Prepare(t.Context()); err == nil || !strings.Contains(err.Error(), "make Secret fairlead-issuer") {
		t.Errorf("error %v", err)
	}
}
