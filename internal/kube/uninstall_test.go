package kube

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/kube/kubetest"
)

const cleanupManifest = `
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: fairlead-cleanup, labels: {app.kubernetes.io/name: fairlead}}
spec:
  selector: {matchLabels: {app.kubernetes.io/component: cleanup}}
  template:
    metadata: {labels: {app.kubernetes.io/component: cleanup}}
    spec: {containers: [{name: cleanup, image: node}]}
`

// installed is a cluster with Fairlead, as far as the uninstaller sees it: a controller that answers, and what a
// kubelet and the DaemonSet's controller would do.
type installed struct {
	*kubetest.Server
	answer atomic.Value // of the leader
	log    *syncBuffer
	cfg    UninstallConfig
}

func install(t *testing.T) *installed {
	t.Helper()
	i := &installed{Server: kubetest.New(t)}
	i.answer.Store(`{"closed": true, "inMesh": 0, "captured": {"a": 0}}`)
	leader := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/uninstall-state" {
			http.NotFound(w, r)
			return
		}
		fmt.Fprint(w, i.answer.Load())
	}))
	t.Cleanup(leader.Close)
	i.Set(node("a", "172.16.0.1"),
		fmt.Sprintf(`{"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"namespace": %q, "name": "fairlead-node"},
			"spec": {"selector": {"matchLabels": {"app.kubernetes.io/component": "node"}}}, "status": {"numberReady": 1}}`, ns),
		fmt.Sprintf(`{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": %q, "name": "fairlead-controller"},
			"spec": {"selector": {"matchLabels": {"app.kubernetes.io/component": "controller"}}}}`, ns),
		fmt.Sprintf(`{"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"namespace": %q, "name": "fairlead-controller"}}`, ns))
	for kind, name := range map[string]string{"Secret": IssuerSecret, "ConfigMap": RootsConfigMap} {
		i.Set(fmt.Sprintf(`{"apiVersion": "v1", "kind": %q, "metadata": {"namespace": %q, "name": %q, "labels": {"fairlead.io/generated": "true"}}}`, kind, ns, name))
	}
	at, err := url.Parse(leader.URL)
	if err != nil {
		t.Fatal(err)
	}
	i.Set(fmt.Sprintf(`{"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
		"metadata": {"namespace": %q, "name": "fairlead-controller"}, "endpoints": [{"addresses": [%q]}],
		"ports": [{"name": "nodes", "port": 1}, {"name": "admin", "port": %s}]}`, ns, at.Hostname(), at.Port()))
	log, buffer := newLog()
	i.log = buffer
	i.cfg = UninstallConfig{
		Client: client(t, i.Server, "uninstall"), Namespace: ns, IssuerSecret: IssuerSecret, RootsConfigMap: RootsConfigMap,
		Manifest: []byte(cleanupManifest), Timeout: 10 * time.Second, Silence: 100 * time.Millisecond, Every: 2 * time.Millisecond, Log: log,
	}
	return i
}

func (i *installed) begin(t *testing.T) (done chan error) {
	t.Helper()
	done = make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	finished := make(chan struct{})
	go func() { defer close(finished); done <- NewUninstaller(i.cfg).Run(ctx) }()
	t.Cleanup(func() { cancel(); <-finished })
	return done
}

func (i *installed) end(t *testing.T, done chan error) {
	t.Helper()
	select {
	case err := <-done:
		if err != nil {
			t.Fatalf("%v\n%s", err, i.log)
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("it does not end:\n%s", i.log)
	}
}

func (i *installed) there(resource, name string) bool { return i.Text(resource, ns, name) != "" }

func (i *installed) clean(t *testing.T) {
	t.Helper()
	eventually(t, "the clean-up begins", func() bool { return i.there("daemonsets.apps", Cleanup) })
	i.Merge("daemonsets.apps", ns, Cleanup, `{"status": {"observedGeneration": 1, "desiredNumberScheduled": 1, "numberReady": 1}}`)
}

func (i *installed) left() (out []string) {
	for resource, name := range map[string]string{
		"daemonsets.apps": Node, "deployments.apps": Controller, "leases.coordination.k8s.io": Controller,
		"endpointslices.discovery.k8s.io": Controller, "secrets": IssuerSecret,
	} {
		if i.there(resource, name) {
			out = append(out, name)
		}
	}
	for _, name := range []string{RootsConfigMap, LeaveConfigMap} {
		if i.there("configmaps", name) {
			out = append(out, name)
		}
	}
	if i.there("daemonsets.apps", Cleanup) {
		out = append(out, Cleanup)
	}
	return out
}

func TestUninstall(t *testing.T) {
	i := install(t)
	i.answer.Store(`{"closed": false, "inMesh": 3, "captured": {"a": 3}}`)
	done := i.begin(t)
	eventually(t, "the sign to leave", func() bool { return i.there("configmaps", LeaveConfigMap) })
	for _, state := range []string{
		`{"closed": true, "inMesh": 1, "captured": {"a": 3}}`, `{"closed": true, "inMesh": 0, "captured": {"a": 1}}`,
	} {
		i.answer.Store(state)
		asked := len(i.Requests())
		eventually(t, "asked again", func() bool { return len(i.Requests()) > asked+6 })
		if !i.there("daemonsets.apps", Node) {
			t.Fatalf("the nodes' programs are stopped in state %s", state)
		}
	}
	i.answer.Store(`{"closed": true, "inMesh": 0, "captured": {"a": 0}}`)
	eventually(t, "the nodes' programs are stopped", func() bool { return !i.there("daemonsets.apps", Node) })
	eventually(t, "the controller, too", func() bool { return !i.there("deployments.apps", Controller) })
	eventually(t, "the clean-up begins", func() bool { return i.there("daemonsets.apps", Cleanup) })
	if !strings.Contains(i.Text("daemonsets.apps", ns, Cleanup), `"image":"node"`) {
		t.Error("another clean-up than the manifest's")
	}
	for _, status := range []string{`{}`, `{"observedGeneration": 1, "desiredNumberScheduled": 2, "numberReady": 1}`} {
		i.Merge("daemonsets.apps", ns, Cleanup, `{"status": `+status+`}`)
		asked := len(i.Requests())
		eventually(t, "looked at again", func() bool { return len(i.Requests()) > asked+6 })
		if !i.there("daemonsets.apps", Cleanup) || !i.there("secrets", IssuerSecret) {
			t.Fatalf("it has gone on with status %s", status)
		}
	}
	i.Merge("daemonsets.apps", ns, Cleanup, `{"status": {"numberReady": 2}}`)
	i.end(t, done)
	if left := i.left(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	// Again, with nothing there but the nodes.
	done = i.begin(t)
	i.clean(t)
	i.end(t, done)
	if left := i.left(); len(left) > 0 {
		t.Errorf("left the second time: %v", left)
	}
}

func TestUninstallLeavesWhatIsNotOurs(t *testing.T) {
	i := install(t)
	i.Merge("secrets", ns, IssuerSecret, `{"metadata": {"labels": null}}`)
	i.Merge("configmaps", ns, RootsConfigMap, `{"metadata": {"labels": {"fairlead.io/generated": "false"}}}`)
	done := i.begin(t)
	i.clean(t)
	i.end(t, done)
	if !i.there("secrets", IssuerSecret) || !i.there("configmaps", RootsConfigMap) {
		t.Error("what others have made is deleted")
	}
}

func TestUninstallWithoutAController(t *testing.T) {
	for name, broken := range map[string]func(*installed){
		"gone": func(i *installed) { i.Delete("endpointslices.discovery.k8s.io", ns, Controller) },
		"silent": func(i *installed) {
			i.Merge("endpointslices.discovery.k8s.io", ns, Controller, `{"ports": [{"name": "admin", "port": 1}]}`)
		},
		"mad": func(i *installed) { i.answer.Store("<html>") },
	} {
		t.Run(name, func(t *testing.T) {
			i := install(t)
			broken(i)
			done := i.begin(t)
			i.clean(t)
			i.end(t, done)
			if left := i.left(); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
			if !strings.Contains(i.log.String(), "going on without it") {
				t.Errorf("it does not say so:\n%s", i.log)
			}
		})
	}
}

// TestUninstallOfPodsThatDoNotLeave: who does not leave in time is cut off.
func TestUninstallOfPodsThatDoNotLeave(t *testing.T) {
	i := install(t)
	i.cfg.Timeout = 3 * time.Second
	i.answer.Store(`{"closed": true, "inMesh": 0, "captured": {"a": 1}}`)
	done := i.begin(t)
	eventually(t, "the clean-up begins", func() bool { return i.there("daemonsets.apps", Cleanup) })
	i.Merge("daemonsets.apps", ns, Cleanup, `{"status": {"observedGeneration": 1, "desiredNumberScheduled": 1, "numberReady": 1}}`)
	i.end(t, done)
	if !strings.Contains(i.log.String(), "not everybody has left the mesh in order") {
		t.Errorf("it does not say so:\n%s", i.log)
	}
}

func cleanupPod(name, node, ready string) string {
	return fmt.Sprintf(`{"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": %q, "name": %q, "labels": {"app.kubernetes.io/component": "cleanup"}},
		"spec": {"nodeName": %q}, "status": {"conditions": [{"type": "Ready", "status": %q}],
		"containerStatuses": [{"name": "c", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}]}}`, ns, name, node, ready)
}

// TestUninstallOfANodeThatIsAway: it is named, and not waited for; one that is there is waited for, and named if it
// does not come to an end.
func TestUninstallOfANodeThatIsAway(t *testing.T) {
	i := install(t)
	i.Set(node("b", "172.16.0.2"))
	i.Merge("nodes", "", "b", `{"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}`)
	done := i.begin(t)
	eventually(t, "the clean-up begins", func() bool { return i.there("daemonsets.apps", Cleanup) })
	i.Set(cleanupPod("x", "a", "True"), cleanupPod("y", "b", "False"))
	i.Merge("daemonsets.apps", ns, Cleanup, `{"status": {"observedGeneration": 1, "desiredNumberScheduled": 2, "numberReady": 1}}`)
	i.end(t, done)
	if !strings.Contains(i.log.String(), "nodes are away, and were not cleaned") {
		t.Errorf("it does not say so:\n%s", i.log)
	}
}

func TestUninstallOfANodeThatIsNotClean(t *testing.T) {
	i := install(t)
	i.cfg.Timeout = time.Second
	done := i.begin(t)
	eventually(t, "the clean-up begins", func() bool { return i.there("daemonsets.apps", Cleanup) })
	i.Set(cleanupPod("x", "a", "False"))
	i.Merge("daemonsets.apps", ns, Cleanup, `{"status": {"observedGeneration": 1, "desiredNumberScheduled": 1, "numberReady": 0}}`)
	err := <-done
	if err == nil || !strings.Contains(err.Error(), "clean the nodes") || !strings.Contains(err.Error(), "a (ImagePullBackOff: no such image)") {
		t.Errorf("error %v", err)
	}
	if !i.there("configmaps", LeaveConfigMap) || !i.there("secrets", IssuerSecret) {
		t.Error("it has gone on")
	}
}

func TestManifestsOfAnotherKind(t *testing.T) {
	i := install(t)
	for _, text := range []string{"", "kind: [", "kind: Deployment", strings.Replace(cleanupManifest, "fairlead-cleanup", "fairlead-node", 1), cleanupManifest + "unknown: 1"} {
		i.cfg.Manifest = []byte(text)
		if err := NewUninstaller(i.cfg).Run(t.Context()); err == nil || !strings.Contains(err.Error(), "manifest") {
			t.Errorf("%q: %v", text, err)
		}
	}
	if i.there("configmaps", LeaveConfigMap) {
		t.Error("something was begun")
	}
}
