package kube

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"fairlead.io/fairlead/internal/kube/kubetest"
)

// token is what the API server says of a token.
type token struct {
	user, pod, uid, node string
	audience             string
	err                  string
}

func (k token) status() map[string]any {
	if k.err != "" {
		return map[string]any{"error": k.err}
	}
	extra := map[string]any{}
	for name, v := range map[string]string{claimPod: k.pod, claimPodUID: k.uid, claimNode: k.node} {
		if v != "" {
			extra[name] = []string{v}
		}
	}
	return map[string]any{
		"authenticated": true, "audiences": []string{k.audience},
		"user": map[string]any{"username": k.user, "extra": extra},
	}
}

const keeperUser = "system:serviceaccount:fairlead-system:fairlead-node"

func keeperPod(name, uid, node string) string { return pod(ns, name, uid, node, Node, "10.0.0.9") }

func newReviewer(t *testing.T, s *kubetest.Server, cfg ReviewerConfig) *Reviewer {
	t.Helper()
	cfg.Client, cfg.Namespace, cfg.Account, cfg.Audience = client(t, s, "controller"), ns, Node, Audience
	return NewReviewer(cfg)
}

func TestTokens(t *testing.T) {
	good := token{keeperUser, "k-1", "uid-k1", "a", Audience, ""}
	with := func(change func(*token)) token { k := good; change(&k); return k }
	for _, c := range []struct {
		name  string
		token token
		cause Cause
	}{
		{"good", good, ""},
		{"before Kubernetes 1.30", with(func(k *token) { k.node = "" }), ""},
		{"unknown", with(func(k *token) { k.err = "invalid bearer token" }), NotAuthenticated},
		{"nobody's", token{err: " "}, NotAuthenticated},
		{"refused for its audience", with(func(k *token) {
			k.err = "[invalid bearer token, token audiences [x] is invalid for the target audiences [fairlead-controller]]"
		}), WrongAudience},
		{"an API server that knows no audiences", with(func(k *token) { k.audience = "https://kubernetes" }), WrongAudience},
		{"another account", with(func(k *token) { k.user = "system:serviceaccount:fairlead-system:default" }), WrongAccount},
		{"that account elsewhere", with(func(k *token) { k.user = "system:serviceaccount:shop:fairlead-node" }), WrongAccount},
		{"a person", with(func(k *token) { k.user = "fairlead-node" }), WrongAccount},
		{"not bound", with(func(k *token) { k.pod, k.uid = "", "" }), NotBound},
		{"bound by name alone", with(func(k *token) { k.uid = "" }), NotBound},
		{"pod gone", with(func(k *token) { k.pod = "k-0" }), PodGone},
		{"pod is another", with(func(k *token) { k.uid = "uid-k0" }), PodGone},
		{"pod has ended", with(func(k *token) { k.pod, k.uid = "k-ended", "uid-ended" }), PodGone},
		{"pod of another account", with(func(k *token) { k.pod, k.uid = "k-other", "uid-other" }), WrongAccount},
		{"pod on no node", with(func(k *token) { k.pod, k.uid, k.node = "k-pending", "uid-pending", "" }), WrongNode},
		{"claim contradicts", with(func(k *token) { k.node = "b" }), WrongNode},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := kubetest.New(t)
			s.Set(keeperPod("k-1", "uid-k1", "a"), keeperPod("k-pending", "uid-pending", ""), keeperPod("k-ended", "uid-ended", "a"),
				pod(ns, "k-other", "uid-other", "a", "default", "10.0.0.8"))
			s.Merge("pods", ns, "k-ended", `{"status": {"phase": "Failed"}}`)
			s.ReviewTokens(func(text string) map[string]any {
				if text != "the token" {
					t.Errorf("token %q", text)
				}
				return c.token.status()
			})
			r := newReviewer(t, s, ReviewerConfig{})
			node, err := r.Node(t.Context(), "the token")
			cause, refused := CauseOf(err)
			if c.cause == "" && (err != nil || node != "a") || c.cause != "" && (!refused || cause != c.cause || node != "") {
				t.Fatalf("node %q, error %v, cause %q, want %q", node, err, cause, c.cause)
			}
			if c.cause == "" {
				c.cause = "ok"
			}
			if n := testutil.ToFloat64(r.results.WithLabelValues(string(c.cause))); n != 1 {
				t.Errorf("counted %v times", n)
			}
		})
	}
}

func TestTheAPIServerIsAskedWithinBounds(t *testing.T) {
	s := kubetest.New(t)
	s.Set(keeperPod("k-1", "uid-k1", "a"))
	hold := make(chan struct{})
	s.ReviewTokens(func(string) map[string]any {
		<-hold
		return token{keeperUser, "k-1", "uid-k1", "a", Audience, ""}.status()
	})
	r := newReviewer(t, s, ReviewerConfig{Concurrent: 2, Timeout: 300 * time.Millisecond})

	if _, err := r.Node(t.Context(), strings.Repeat("x", maxToken+1)); !isCause(err, TooLong) {
		t.Errorf("a long token: %v", err)
	}
	if n := len(s.Requests()); n != 0 {
		t.Errorf("%d requests for a token that cannot be one", n)
	}
	// Two are looked at, and the API server is silent: they and everybody else are refused in time.
	results := make(chan error, 6)
	begin := time.Now()
	for range cap(results) {
		go func() { _, err := r.Node(context.Background(), "t"); results <- err }()
	}
	causes := map[Cause]int{}
	for range cap(results) {
		c, _ := CauseOf(<-results)
		causes[c]++
	}
	if causes[Unavailable] < 2 || causes[Unavailable]+causes[Busy] != cap(results) {
		t.Errorf("causes: %v", causes)
	}
	if d := time.Since(begin); d > 5*time.Second {
		t.Errorf("refused after %v", d)
	}
	if n := len(s.Requests()); n > 4 {
		t.Errorf("%d requests", n)
	}
	close(hold)
	eventually(t, "believed when the API server answers", func() bool { n, err := r.Node(t.Context(), "t"); return err == nil && n == "a" })

	s.Fail(func(r kubetest.Request) int {
		if r.Resource == "pods" {
			return http.StatusForbidden
		}
		return 0
	})
	if _, err := r.Node(t.Context(), "t"); !isCause(err, Unavailable) {
		t.Errorf("the pod may not be read: %v", err)
	}
	var e *TokenError
	if !errors.As(error(refused(Busy, "x")), &e) || e.Unwrap() == nil {
		t.Error("the error does not unwrap")
	}
}

func isCause(err error, want Cause) bool { c, _ := CauseOf(err); return c == want }
