package remote_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"fairlead.io/fairlead/internal/kube/remote"
	"fairlead.io/fairlead/internal/kube/remote/remotetest"
)

func connect(t *testing.T, s *remotetest.Server) *remote.Client {
	t.Helper()
	config, err := s.Kubeconfig(t.TempDir(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	c, err := remote.Connect(remote.Options{Kubeconfig: config, Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestListsComePageByPage(t *testing.T) {
	s := remotetest.New(t)
	s.Page = 3
	for i := range 10 {
		if err := s.Add(fmt.Appendf(nil, "apiVersion: v1\nkind: Pod\nmetadata: {namespace: shop, name: p%d, labels: {odd: %q}}\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: n%d}", i, fmt.Sprint(i%2 == 1), i)); err != nil {
			t.Fatal(err)
		}
	}
	c := connect(t, s)
	if c.Namespace() != "shop" {
		t.Errorf("namespace %q", c.Namespace())
	}
	for what, want := range map[remote.Query]int{{}: 10, {Namespace: "shop"}: 10, {Namespace: "other"}: 0, {Labels: "odd=true"}: 5, {Fields: "metadata.name=p3"}: 1} {
		pods, err := remote.List[corev1.Pod](t.Context(), c, what)
		if err != nil || len(pods) != want {
			t.Errorf("%+v: %d pods, want %d: %v", what, len(pods), want, err)
		}
	}
	if all, err := remote.List[corev1.Namespace](t.Context(), c, remote.Query{}); err != nil || len(all) != 10 {
		t.Errorf("%d namespaces: %v", len(all), err)
	}
}

func TestErrorsSayWhatWasAskedFor(t *testing.T) {
	s := remotetest.New(t)
	s.Denied = func(a remotetest.Access) bool { return a.Resource == "secrets" }
	c := connect(t, s)
	_, err := remote.Get[corev1.Pod](t.Context(), c, "shop", "web")
	if !remote.IsNotFound(err) || !strings.HasPrefix(err.Error(), "get pods shop/web: ") {
		t.Errorf("no pod: %v", err)
	}
	_, err = remote.Get[corev1.Secret](t.Context(), c, "shop", "web")
	if !remote.IsForbidden(err) || !strings.Contains(err.Error(), "cannot get") {
		t.Errorf("forbidden: %v", err)
	}
	s.Close()
	if _, _, err = c.Version(t.Context()); err == nil || !strings.Contains(err.Error(), "connection refused") || strings.Contains(err.Error(), "/version") {
		t.Errorf("no server: %v", err)
	}
}

func TestPodsAreAskedThroughTheServer(t *testing.T) {
	s := remotetest.New(t)
	s.Pod("home", "proxy", 9901, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/metrics":
			fmt.Fprintf(w, "%s %s", r.URL.Path, r.FormValue("q"))
		case "/slow":
			<-r.Context().Done()
		case "/endless":
			_, _ = io.Copy(w, endless{})
		default:
			http.Error(w, "waiting for "+strings.Repeat("x", 1000), http.StatusServiceUnavailable)
		}
	}))
	c := connect(t, s)
	p := remote.Pod{Namespace: "home", Name: "proxy", Port: 9901}
	a, err := c.Ask(t.Context(), p, "/metrics", url.Values{"q": {"a/b c"}})
	if err != nil || string(a.Body) != "/metrics a/b c" || a.Date.IsZero() {
		t.Errorf("%+v, %v", a, err)
	}
	var he *remote.HTTPError
	if _, err = c.Ask(t.Context(), p, "/readyz", nil); !errors.As(err, &he) || he.Status != 503 || len(he.Text) > 310 || !strings.HasPrefix(err.Error(), "ask pod proxy for /readyz: 503: waiting for x") {
		t.Errorf("not ready: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err = c.Ask(ctx, p, "/slow", nil); err == nil || !strings.Contains(err.Error(), "no answer in time") {
		t.Errorf("slow: %v", err)
	}
	if _, err = c.Ask(t.Context(), p, "/endless", nil); err == nil || !strings.Contains(err.Error(), "longer than 64 MiB") {
		t.Errorf("endless: %v", err)
	}
	if _, err = c.Ask(t.Context(), remote.Pod{Namespace: "home", Name: "nobody", Port: 1}, "/", nil); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("nobody: %v", err)
	}
}

// TestManyAreAskedInTurn asks three times as many as may be asked at a time. The pod answers when its turn is full.
func TestManyAreAskedInTurn(t *testing.T) {
	const atOnce = 16
	var mu sync.Mutex
	var inside int
	turn := make(chan struct{})
	s := remotetest.New(t)
	s.Pod("home", "proxy", 9901, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		inside++
		mine := turn
		switch {
		case inside > atOnce:
			t.Errorf("%d at a time", inside)
		case inside == atOnce:
			close(turn)
			turn, inside = make(chan struct{}), 0
		}
		mu.Unlock()
		select {
		case <-mine:
		case <-r.Context().Done():
		}
	}))
	c := connect(t, s)
	var all sync.WaitGroup
	for range 3 * atOnce {
		all.Go(func() {
			if _, err := c.Ask(t.Context(), remote.Pod{Namespace: "home", Name: "proxy", Port: 9901}, "/", nil); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }

func TestReviews(t *testing.T) {
	s := remotetest.New(t)
	s.Denied = func(a remotetest.Access) bool { return a.User != "" && a.Verb == "list" }
	c := connect(t, s)
	if ok, err := c.CanI(t.Context(), remote.Access{Verb: "list", Resource: "pods"}); err != nil || !ok {
		t.Errorf("I: %t, %v", ok, err)
	}
	for verb, want := range map[string]bool{"list": false, "get": true} {
		if ok, err := c.CanAccount(t.Context(), "home", "controller", remote.Access{Verb: verb, Resource: "pods"}); err != nil || ok != want {
			t.Errorf("account, %s: %t, %v", verb, ok, err)
		}
	}
}

func TestWrites(t *testing.T) {
	s := remotetest.New(t)
	if err := s.Add([]byte("apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {a: b}}")); err != nil {
		t.Fatal(err)
	}
	c := connect(t, s)
	if err := c.LabelNamespace(t.Context(), "shop", "x/y", "z"); err != nil {
		t.Fatal(err)
	}
	ns, err := remote.Get[corev1.Namespace](t.Context(), c, "", "shop")
	if err != nil || ns.Labels["x/y"] != "z" || ns.Labels["a"] != "b" {
		t.Errorf("%v, %v", ns.Labels, err)
	}
	if err := c.LabelNamespace(t.Context(), "shop", "x/y", ""); err != nil {
		t.Fatal(err)
	}
	if ns, err = remote.Get[corev1.Namespace](t.Context(), c, "", "shop"); err != nil || len(ns.Labels) != 1 {
		t.Errorf("%v, %v", ns.Labels, err)
	}
	role := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": map[string]any{"name": "r"}}}
	exists := func(want bool) {
		t.Helper()
		if there, err := c.Exists(t.Context(), role); err != nil || there != want {
			t.Errorf("exists: %t, %v", there, err)
		}
	}
	if err := c.DryRun(t.Context(), role); err != nil {
		t.Error(err)
	}
	exists(false)
	if err := c.Create(t.Context(), role); err != nil {
		t.Error(err)
	}
	exists(true)
	if err := c.Create(t.Context(), role); !remote.IsAlreadyExists(err) {
		t.Errorf("a second time: %v", err)
	}
	for range 2 { // the second time there is nothing, and that is no error
		if err := c.Delete(t.Context(), role); err != nil {
			t.Error(err)
		}
	}
	exists(false)
}

func TestConfiguration(t *testing.T) {
	t.Setenv("KUBECONFIG", "")
	t.Setenv("HOME", t.TempDir())
	if _, err := remote.Connect(remote.Options{}); !errors.Is(err, remote.ErrNoCluster) {
		t.Errorf("no configuration: %v", err)
	}
	s := remotetest.New(t)
	config, err := s.Kubeconfig(t.TempDir(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := remote.Connect(remote.Options{Kubeconfig: config, Context: "another"}); err == nil || !strings.Contains(err.Error(), "context: another") {
		t.Errorf("a context that is not there: %v", err)
	}
	c, err := remote.Connect(remote.Options{Kubeconfig: config, Namespace: "mine"})
	if err != nil || c.Namespace() != "mine" {
		t.Errorf("a namespace of my own: %v", err)
	}
	broken := filepath.Join(t.TempDir(), "broken")
	if err := os.WriteFile(broken, []byte("clusters: ["), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := remote.Connect(remote.Options{Kubeconfig: broken}); err == nil || !strings.Contains(err.Error(), "read kubeconfig") {
		t.Errorf("a broken file: %v", err)
	}
	if all, err := remote.Contexts(remote.Options{Kubeconfig: config}); err != nil || len(all) != 1 || all[0] != "test" {
		t.Errorf("contexts: %v, %v", all, err)
	}
}
