package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// once is a pod that calls a server that only the mesh reaches, once and without a second try, from an init container.
func once(ns, name, node, to string) string {
	return fmt.Sprintf(`
---
apiVersion: v1
kind: Pod
metadata: {name: %[2]s, namespace: %[1]s, labels: {app: %[2]s}}
spec:
  nodeName: %[3]s
  terminationGracePeriodSeconds: 1
  initContainers: [{name: first, image: %[5]q, command: [/load, run, -mode=h1new, "-to=%[4]s", -calls=1, -workers=1, -for=10s, -limit=8s]}]
  containers: [{name: main, image: %[5]q, command: [/load, serve]}]
`, ns, name, node, to, image)
}

// mustHaveCalled wants that the pod's first call got through.
func mustHaveCalled(t testing.TB, ns, name string) {
	t.Helper()
	if out := lab.kubectl(t, "-n", ns, "logs", name, "-c", "first"); !strings.Contains(out, `"OK":1`) {
		t.Errorf("the first call of %s did not get through: %s", name, out)
	}
}

// mustWait wants that a pod has not started, and that its events say why.
func mustWait(t testing.TB, ns, name string) {
	t.Helper()
	eventually(t, 30*time.Second, "the event that says why "+name+" waits", func() error {
		events, err := lab.try(t.Context(), "-n", ns, "get", "events", "--field-selector", "involvedObject.name="+name, "-o", "jsonpath={.items[*].message}")
		if err == nil && !strings.Contains(events, "must wait: ") {
			err = fmt.Errorf("events: %s", events)
		}
		return err
	})
	if phase := lab.kubectl(t, "-n", ns, "get", "pod", name, "-o", "jsonpath={.status.phase}"); phase != "Pending" {
		t.Errorf("pod %s is %s", name, phase)
	}
}

// scaleController sets how many controllers there are, and waits until it is so.
func scaleController(t testing.TB, n int) {
	t.Helper()
	lab.kubectl(t, "-n", systemNamespace, "scale", "deploy/fairlead-controller", fmt.Sprintf("--replicas=%d", n))
	if n > 0 {
		lab.kubectl(t, "-n", systemNamespace, "rollout", "status", "deploy/fairlead-controller", "--timeout=90s")
		return
	}
	eventually(t, 60*time.Second, "end of the controller", func() error {
		if left := len(component(t, "controller")); left > 0 {
			return fmt.Errorf("on %d nodes", left)
		}
		return nil
	})
}

// withoutController scales the controller to nothing until the test's end.
func withoutController(t testing.TB) (restore func()) {
	t.Helper()
	scaleController(t, 0)
	restored := false
	restore = func() {
		if !restored {
			restored = true
			scaleController(t, 1)
		}
	}
	t.Cleanup(func() {
		if !restored {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			_, _ = lab.try(ctx, "-n", systemNamespace, "scale", "deploy/fairlead-controller", "--replicas=1")
		}
	})
	return restore
}

// testControllerAway: without a controller traffic goes on, also through a proxy that was started again; pods of other
// namespaces start, those of enrolled ones wait, and start meshed when it is back.
func testControllerAway(t *testing.T) {
	in, out := namespace(t, "e2e-away", true), namespace(t, "e2e-away-out", false)
	mustServe(t, server{namespace: in, name: "strict", replicas: 1, node: lab.nodes[1], annotations: onlyMesh})
	clients := map[string]load{}
	for _, mode := range []string{"h1new", "h2", "tcp"} {
		to := "strict:80"
		if mode == "tcp" {
			to = "strict:9000"
		}
		clients[mode] = startLoad(t, in, "client-"+mode, lab.nodes[0], "-mode="+mode, "-to="+to, "-rate=20", "-for=25s")
	}
	fresh := startLoad(t, in, "idle", lab.nodes[0], "-mode=h1", "-to=strict:80", "-rate=1", "-for=4m")

	restore := withoutController(t)
	away := time.Now()
	lab.apply(t, once(in, "waits", lab.nodes[0], "strict:80"))
	mustServe(t, server{namespace: out, name: "starts", replicas: 2})
	mustWait(t, in, "waits")
	for mode, c := range clients {
		mustFlawless(t, mode+" without a controller", c.wait(t, 120*time.Second), 300)
	}
	// The proxy starts again, from the state that the keeper has kept.
	killProxy(t, lab.nodes[0])
	ask := func(calls int) (string, error) {
		return lab.try(t.Context(), "-n", in, "exec", "idle", "--", "/load", "run", "-mode=h1new", "-to=strict:80",
			fmt.Sprintf("-calls=%d", calls), "-workers=1", "-rate=20", "-for=6s", "-limit=4s")
	}
	took := eventually(t, 60*time.Second, "requests through a proxy that was started without a controller", func() error {
		text, err := ask(1)
		if err == nil && !strings.Contains(text, `"OK":1`) {
			err = errors.New(text)
		}
		return err
	})
	t.Logf("requests through the new proxy after %v", took)
	if text, err := ask(20); err != nil || !strings.Contains(text, `"OK":20`) {
		t.Errorf("calls through the new proxy: %s, %v", text, err)
	}
	awaitDue(t, lab.nodes[0])
	if text, err := ask(20); err != nil || !strings.Contains(text, `"OK":20`) {
		t.Errorf("calls when a certificate could not be renewed: %s, %v", text, err)
	}
	t.Logf("the controller was away for %v", time.Since(away).Round(time.Second))
	restore()
	lab.kubectl(t, "-n", in, "wait", "--for=condition=Ready", "pod/waits", "--timeout=90s")
	mustHaveCalled(t, in, "waits")
	lab.kubectl(t, "-n", in, "delete", "pod", fresh.name, "--wait=false")
}

// awaitDue waits until a certificate should have been renewed: at half of its life, or a little before.
func awaitDue(t testing.TB, node string) {
	t.Helper()
	eventually(t, leafTTL/2, "a certificate that is due", func() error {
		ends, err := metrics(t, component(t, "node")[node][0], 9901, "fairlead_certificate_expiry_timestamp_seconds")
		if err != nil {
			return err
		}
		least := leafTTL
		for _, s := range ends {
			least = min(least, time.Until(time.Unix(int64(s.value), 0)))
		}
		if least > leafTTL*2/5 {
			return fmt.Errorf("the first of %d certificates ends in %v", len(ends), least)
		}
		t.Logf("the first of %d certificates ends in %v", len(ends), least.Round(time.Second))
		return nil
	})
}

// killProxy ends the proxy of a node as a crash does, and waits until the kubelet has started it again.
func killProxy(t testing.TB, node string) {
	t.Helper()
	pod := component(t, "node")[node][0]
	count := func() (string, error) {
		return lab.try(t.Context(), "-n", systemNamespace, "get", "pod", pod, "-o", `jsonpath={.status.containerStatuses[?(@.name=="proxy")].restartCount} {.status.containerStatuses[?(@.name=="proxy")].ready}`)
	}
	before, err := count()
	if err != nil {
		t.Fatal(err)
	}
	killProxies(t, node)
	eventually(t, 60*time.Second, "restart of the proxy", func() error {
		now, err := count()
		if err == nil && (now == before || !strings.HasSuffix(now, "true")) {
			err = fmt.Errorf("restarts and readiness are %q, were %q", now, before)
		}
		return err
	})
}

// killProxies ends what runs of the proxy on a node.
func killProxies(t testing.TB, node string) {
	t.Helper()
	kill(t, node, "/nodeproxy proxy ")
}

// kill ends, as a crash does, what runs on a node with a command line that begins like this.
func kill(t testing.TB, node, begins string) {
	t.Helper()
	lab.node(t, node, `for p in /proc/[0-9]*; do a=$(tr '\0' ' ' <$p/cmdline 2>/dev/null) || continue; case $a in "`+begins+`"*) kill -9 ${p#/proc/};; esac; done`)
}

// testKeeperAway: without a node proxy on a node, pods of enrolled namespaces wait there and all others start.
func testKeeperAway(t *testing.T) {
	in, out := namespace(t, "e2e-keeper", true), namespace(t, "e2e-keeper-out", false)
	n1, n2 := lab.nodes[0], lab.nodes[1]
	mustServe(t, server{namespace: in, name: "strict", replicas: 1, node: n1, annotations: onlyMesh})
	back := withoutNodeProxy(t, n2)
	lab.apply(t, once(in, "waits", n2, "strict:80"))
	mustServe(t, server{namespace: out, name: "starts", replicas: 2, node: n2})
	mustWait(t, in, "waits")
	back()
	lab.kubectl(t, "-n", in, "wait", "--for=condition=Ready", "pod/waits", "--timeout=90s")
	mustHaveCalled(t, in, "waits")
}

// withoutNodeProxy takes the product's pod from a node, until back is called. Helm's values are as they were then.
func withoutNodeProxy(t testing.TB, node string) (back func()) {
	t.Helper()
	const label = "fairlead-e2e/proxy"
	for _, n := range lab.nodes {
		if n != node {
			lab.kubectl(t, "label", "node", n, label+"=here", "--overwrite")
		}
	}
	lab.kubectl(t, "-n", systemNamespace, "patch", "daemonset", "fairlead-node", "-p", `{"spec":{"template":{"spec":{"nodeSelector":{"`+label+`":"here"}}}}}`)
	eventually(t, 90*time.Second, "end of the node proxy on "+node, func() error {
		if left := component(t, "node")[node]; len(left) > 0 {
			return fmt.Errorf("there are %v", left)
		}
		return nil
	})
	done := false
	back = func() {
		if done {
			return
		}
		done = true
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_, err := lab.try(ctx, "-n", systemNamespace, "patch", "daemonset", "fairlead-node", "--type=json", "-p", `[{"op":"remove","path":"/spec/template/spec/nodeSelector/fairlead-e2e~1proxy"}]`)
		if err == nil {
			_, err = lab.try(ctx, "-n", systemNamespace, "rollout", "status", "daemonset/fairlead-node", "--timeout=110s")
		}
		if err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(back)
	return back
}

// testNodeBoots: a node that is started while the controller is away lets other pods start and holds enrolled ones
// back; then all is well. And a node that has gone for good can come back.
func testNodeBoots(t *testing.T) {
	if !lab.own {
		t.Skip("the nodes of KUBECONFIG's cluster are not ours to stop")
	}
	in, out := namespace(t, "e2e-boot", true), namespace(t, "e2e-boot-out", false)
	n1, n2 := lab.nodes[0], lab.nodes[1]
	mustServe(t, server{namespace: in, name: "strict", replicas: 1, node: n1, annotations: onlyMesh})
	restore := withoutController(t)
	mustLaunch(t, "stop", n2)
	mustLaunch(t, "start", n2)
	lab.kubectl(t, "wait", "--for=condition=Ready", "node/"+n2, "--timeout=120s")
	lab.apply(t, once(in, "waits", n2, "strict:80"))
	mustServe(t, server{namespace: out, name: "starts", replicas: 2, node: n2})
	mustWait(t, in, "waits")
	restore()
	lab.kubectl(t, "-n", systemNamespace, "rollout", "status", "daemonset/fairlead-node", "--timeout=120s")
	lab.kubectl(t, "-n", in, "wait", "--for=condition=Ready", "pod/waits", "--timeout=90s")
	mustHaveCalled(t, in, "waits")

	// Deleted and back: the object goes, its pods with it.
	mustLaunch(t, "stop", n2)
	lab.kubectl(t, "delete", "node", n2, "--wait=false")
	eventually(t, 90*time.Second, "end of the pods of a node that has gone", func() error {
		left, err := lab.try(t.Context(), "get", "pods", "-A", "--field-selector", "spec.nodeName="+n2, "-o", "name")
		if err == nil && left != "" {
			err = fmt.Errorf("there are %s", left)
		}
		return err
	})
	mustFlawless(t, "the other node meanwhile", call(t, in, "meanwhile", n1, "h1new", "strict:80"), 20)
	mustLaunch(t, "start", n2)
	lab.kubectl(t, "wait", "--for=condition=Ready", "node/"+n2, "--timeout=120s")
	lab.kubectl(t, "-n", systemNamespace, "rollout", "status", "daemonset/fairlead-node", "--timeout=120s")
	if err := lab.startAgents(t.Context()); err != nil {
		t.Fatal(err)
	}
	lab.apply(t, once(in, "again", n2, "strict:80"))
	lab.kubectl(t, "-n", in, "wait", "--for=condition=Ready", "pod/again", "--timeout=90s")
	mustHaveCalled(t, in, "again")
}

// mustLaunch runs the program that has started the cluster.
func mustLaunch(t testing.TB, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if out, err := launch(ctx, args...); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}
