package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"fairlead.io/fairlead/test/system/cmd/load/tally"
)

// image is the one that all workloads of the tests are made of: "load", "web", "greeter" and "agent".
const image = "fairlead-e2e:dev"

// namespace makes a namespace for a test, enrolled or not, which goes at the test's end.
func namespace(t testing.TB, name string, enrolled bool) string {
	t.Helper()
	label := ""
	if enrolled {
		label = fmt.Sprintf(", labels: {%s: enabled}", enrolLabel)
	}
	lab.apply(t, fmt.Sprintf("apiVersion: v1\nkind: Namespace\nmetadata: {name: %s%s}\n", name, label))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		if _, err := lab.try(ctx, "delete", "namespace", name, "--timeout=100s"); err != nil {
			t.Error(err)
		}
	})
	return name
}

// server is a Deployment of "load serve" with a Service of the same name before it.
type server struct {
	namespace, name string
	replicas        int
	node            string            // pinned to it if not empty
	annotations     map[string]string // of its pods
	container       string            // more fields of its container, as flow YAML after a comma
	service         string            // more fields of its Service's spec
}

func flow(m map[string]string) string {
	b, err := json.Marshal(m)
	if err != nil || len(m) == 0 {
		return "{}"
	}
	return string(b)
}

func pinned(node string) string {
	if node == "" {
		return "{}"
	}
	return fmt.Sprintf("{kubernetes.io/hostname: %s}", node)
}

func (s server) manifest() string {
	return fmt.Sprintf(`
apiVersion: v1
kind: ServiceAccount
metadata: {name: %[2]s, namespace: %[1]s}
---
apiVersion: v1
kind: Service
metadata: {name: %[2]s, namespace: %[1]s}
spec: {selector: {app: %[2]s}, ports: [{name: web, port: 80, targetPort: 8080}, {name: echo, port: 9000}]%[7]s}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[2]s, namespace: %[1]s}
spec:
  replicas: %[3]d
  selector: {matchLabels: {app: %[2]s}}
  template:
    metadata: {labels: {app: %[2]s}, annotations: %[4]s}
    spec:
      serviceAccountName: %[2]s
      terminationGracePeriodSeconds: 2
      nodeSelector: %[5]s
      containers:
        - {name: serve, image: %[8]q, command: [/load, serve], readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}%[6]s}
`, s.namespace, s.name, s.replicas, flow(s.annotations), pinned(s.node), s.container, s.service, image)
}

// mustServe starts a server and waits until it is ready.
func mustServe(t testing.TB, s server) {
	t.Helper()
	lab.apply(t, s.manifest())
	lab.kubectl(t, "-n", s.namespace, "rollout", "status", "deploy/"+s.name, "--timeout=90s")
	// The pods are ready; that the Service has them comes behind it, on a busy machine seconds later.
	eventually(t, 30*time.Second, "endpoints of "+s.name, func() error {
		ready, err := lab.try(t.Context(), "-n", s.namespace, "get", "endpointslices", "-l", "kubernetes.io/service-name="+s.name,
			"-o", "jsonpath={.items[*].endpoints[?(@.conditions.ready==true)].targetRef.name}")
		if n := len(strings.Fields(ready)); err == nil && n < s.replicas {
			err = fmt.Errorf("%d of %d", n, s.replicas)
		}
		return err
	})
}

// load is a pod that calls something for a while.
type load struct{ namespace, name string }

// startLoad starts "load run" with these arguments, on a node if it is not empty, and waits until it runs.
func startLoad(t testing.TB, ns, name, node string, args ...string) load {
	t.Helper()
	command, err := json.Marshal(append([]string{"/load", "run"}, args...))
	if err != nil {
		t.Fatal(err)
	}
	lab.apply(t, fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %[1]s, namespace: %[2]s, labels: {app: %[1]s}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  nodeSelector: %[3]s
  containers: [{name: load, image: %[4]q, command: %[5]s}]
`, name, ns, pinned(node), image, command))
	l := load{ns, name}
	// Of the container that has begun, its start stays on record in this form or in that.
	lab.kubectl(t, "-n", ns, "wait", "pod", name, "--for=jsonpath={.status.containerStatuses[0].state..startedAt}", "--timeout=60s")
	return l
}

// wait waits for the load's end and tells how it went.
func (l load) wait(t testing.TB, d time.Duration) tally.Report {
	t.Helper()
	for step := patience / 2; ; d -= step { // no call of kubectl may take longer than its patience
		_, err := lab.try(t.Context(), "-n", l.namespace, "wait", "pod", l.name, "--for=jsonpath={.status.containerStatuses[0].state.terminated}", "--timeout="+min(d, step).String())
		if err == nil {
			break
		}
		if d <= step {
			t.Fatal(err)
		}
	}
	out := lab.kubectl(t, "-n", l.namespace, "logs", l.name)
	var r tally.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("parse report of %s: %v: %.500q", l.name, err, out)
	}
	lab.kubectl(t, "-n", l.namespace, "delete", "pod", l.name, "--wait=false")
	t.Logf("%s: %v", l.name, r)
	return r
}

// end has the load end now, and tells how it went.
func (l load) end(t testing.TB) tally.Report {
	t.Helper()
	lab.kubectl(t, "-n", l.namespace, "exec", l.name, "--", "/load", "stop")
	return l.wait(t, 60*time.Second)
}

// call runs a short load to its end.
func call(t testing.TB, ns, name, node, mode, to string, more ...string) tally.Report {
	t.Helper()
	args := append([]string{"-mode=" + mode, "-to=" + to, "-calls=10", "-workers=2", "-rate=50", "-for=10s", "-limit=4s"}, more...)
	return startLoad(t, ns, name, node, args...).wait(t, 40*time.Second)
}

// mustFlawless wants many good answers and no bad one.
func mustFlawless(t testing.TB, what string, r tally.Report, atLeast int) {
	t.Helper()
	if r.OK < atLeast || r.Bad() > 0 {
		t.Errorf("%s: want %d good answers or more and no bad one: %v", what, atLeast, r)
	}
}

// mustFail wants no good answer.
func mustFail(t testing.TB, what string, r tally.Report) {
	t.Helper()
	if r.OK > 0 || r.Bad() == 0 {
		t.Errorf("%s: want nothing but failures: %v", what, r)
	}
}

// podsOf are name, address and node of the pods with that label.
func podsOf(t testing.TB, ns, selector string) (out [][3]string) {
	t.Helper()
	text := lab.kubectl(t, "-n", ns, "get", "pods", "-l", selector, "--field-selector", "status.phase=Running",
		"-o", `jsonpath={range .items[*]}{.metadata.name} {.status.podIP} {.spec.nodeName}{"\n"}{end}`)
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 3 {
			out = append(out, [3]string(f))
		}
	}
	return out
}

// nodeAddress is a node's internal address, the first if it has several.
func nodeAddress(t testing.TB, node string) string {
	t.Helper()
	all := lab.kubectl(t, "get", "node", node, "-o", `jsonpath={.status.addresses[?(@.type=="InternalIP")].address}`)
	first, _, _ := strings.Cut(all, " ")
	return first
}
