package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// testKinds: everything that runs in an enrolled namespace is in the mesh from its first connection. Each of these calls
// a server that refuses whoever is not.
func testKinds(t *testing.T) {
	ns := namespace(t, "e2e-kinds", true)
	mustServe(t, server{namespace: ns, name: "strict", replicas: 1, node: lab.nodes[1], annotations: onlyMesh})
	// One call, at once, and no second try.
	once := `[/load, run, -mode=h1new, -to=strict:80, -calls=1, -workers=1, -for=8s, -limit=5s]`
	lab.apply(t, fmt.Sprintf(`
apiVersion: batch/v1
kind: Job
metadata: {name: job, namespace: %[1]s}
spec:
  backoffLimit: 0
  completions: 6
  parallelism: 3
  template:
    metadata: {labels: {app: job}}
    spec:
      restartPolicy: Never
      containers: [{name: main, image: %[2]q, command: %[3]s}]
---
apiVersion: v1
kind: Pod
metadata: {name: init, namespace: %[1]s}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  initContainers: [{name: first, image: %[2]q, command: %[3]s}]
  containers: [{name: main, image: %[2]q, command: %[3]s}]
---
apiVersion: batch/v1
kind: Job
metadata: {name: sidecar, namespace: %[1]s}
spec:
  backoffLimit: 0
  template:
    metadata: {labels: {app: sidecar}}
    spec:
      restartPolicy: Never
      terminationGracePeriodSeconds: 1
      initContainers: [{name: helper, restartPolicy: Always, image: %[2]q, command: [/load, run, -mode=h1new, -to=strict:80, -workers=1, -rate=5, -for=60s]}]
      containers: [{name: main, image: %[2]q, command: %[3]s}]
---
apiVersion: v1
kind: Pod
metadata: {name: host-network, namespace: %[1]s}
spec:
  hostNetwork: true
  nodeName: %[4]s
  terminationGracePeriodSeconds: 1
  containers: [{name: main, image: %[2]q, command: [/load, serve, "-http=:18181", "-tcp=:18182"]}]
---
apiVersion: v1
kind: Pod
metadata: {name: opted-out, namespace: %[1]s, labels: {%[5]s: disabled}}
spec:
  restartPolicy: Never
  containers: [{name: main, image: %[2]q, command: %[3]s}]
`, ns, image, once, lab.nodes[0], enrolLabel))
	lab.kubectl(t, "-n", ns, "wait", "--for=condition=Complete", "job/job", "job/sidecar", "--timeout=90s")
	eventually(t, 60*time.Second, "end of the pods", func() error {
		phases, err := lab.try(t.Context(), "-n", ns, "get", "pods", "init", "opted-out", "-o", "jsonpath={.items[*].status.phase}")
		if err == nil && (strings.Contains(phases, "Pending") || strings.Contains(phases, "Running")) {
			err = fmt.Errorf("they are %s", phases)
		}
		return err
	})
	for _, c := range []struct {
		what string
		args []string
		good bool
	}{
		{"a Job's pods", []string{"-l", "app=job"}, true},
		{"a pod beside a native sidecar", []string{"-l", "app=sidecar", "-c", "main"}, true},
		{"an init container", []string{"init", "-c", "first"}, true},
		{"a container behind an init container", []string{"init", "-c", "main"}, true},
		{"a pod that has opted out", []string{"opted-out"}, false},
	} {
		out := lab.kubectl(t, append([]string{"-n", ns, "logs"}, c.args...)...)
		if good := strings.Contains(out, `"OK":1`) && !strings.Contains(out, `"OK":0`); good != c.good {
			t.Errorf("%s: got through: %t, want %t: %s", c.what, good, c.good, out)
		}
	}
	out, _ := lab.tryFairlead(t.Context(), "check", "--proxy", "-n", ns)
	if !strings.Contains(out, "host-network") {
		t.Errorf("check does not say that a pod of the host's network is not in the mesh:\n%s", out)
	}
}

// testProbes: every kind of probe reaches its pod, which refuses everybody else outside the mesh.
func testProbes(t *testing.T) {
	ns := namespace(t, "e2e-probes", true)
	pod := func(name, image, command, probe string) string {
		return fmt.Sprintf(`
---
apiVersion: v1
kind: Pod
metadata: {name: %[2]s, namespace: %[1]s, labels: {app: %[2]s}, annotations: %[6]s}
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - name: main
      image: %[3]q
      command: %[4]s
      startupProbe: {%[5]s, periodSeconds: 1, failureThreshold: 20}
      readinessProbe: {%[5]s, periodSeconds: 1, failureThreshold: 1}
      livenessProbe: {%[5]s, periodSeconds: 1, failureThreshold: 2}
`, ns, name, image, command, probe, flow(onlyMesh))
	}
	lab.apply(t, pod("http", image, "[/load, serve]", "httpGet: {port: 8080, path: /}")+
		pod("tcp", image, "[/load, serve]", "tcpSocket: {port: 9000}")+
		pod("grpc", "fairlead-example-vote:dev", "[/catalog]", "grpc: {port: 8081}")+
		pod("exec", image, "[/load, serve]", "exec: {command: [/load, run, -mode=tcp, '-to=127.0.0.1:9000', -calls=1, -workers=1, -for=1s]}"))
	lab.kubectl(t, "-n", ns, "wait", "--for=condition=Ready", "pod", "--all", "--timeout=60s")
	if n, err := inMesh(t); err != nil || n < 4 {
		t.Errorf("%d pods in the mesh (%v)", n, err)
	}
	// Now some 15 probes each, in which nothing may fail.
	out := namespace(t, "e2e-probes-out", false)
	addr := lab.kubectl(t, "-n", ns, "get", "pod", "http", "-o", "jsonpath={.status.podIP}")
	r := startLoad(t, out, "stranger", lab.nodes[0], "-mode=h1new", "-to="+addr+":8080", "-rate=5", "-for=12s", "-limit=3s").wait(t, 60*time.Second)
	mustFail(t, "everybody else", r)
	for name, restarts := range uids(t, ns) {
		if restarts > 0 {
			t.Errorf("pod %s was started again %d times: its probes do not get through", name, restarts)
		}
	}
	ready := lab.kubectl(t, "-n", ns, "get", "pods", "-o", `jsonpath={range .items[*]}{.metadata.name}={.status.conditions[?(@.type=="Ready")].status} {end}`)
	if strings.Contains(ready, "False") || strings.Count(ready, "True") != 4 {
		t.Errorf("ready: %s", ready)
	}
	// A startup probe may come before its program listens; and on a machine that is busy one probe may time out.
	events := lab.kubectl(t, "-n", ns, "get", "events", "--field-selector", "reason=Unhealthy", "-o", `jsonpath={range .items[*]}{.count} {.message}{"\n"}{end}`)
	failed := 0
	for line := range strings.Lines(events) {
		var n int
		if _, err := fmt.Sscan(line, &n); err == nil && !strings.Contains(line, "Startup probe") {
			failed += n
		}
	}
	if failed > 2 {
		t.Errorf("%d probes failed: %s", failed, events)
	}
}
