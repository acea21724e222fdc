package e2e

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fairlead.io/fairlead/test/system/cmd/load/tally"
)

// TestRoutes sends traffic where routes say, and refuses what policies refuse.
func TestRoutes(t *testing.T) {
	live(t, nil, []step{
		{"without-definitions", testWithoutDefinitions},
		{"routed", testRouted},
		{"uninstalled", testUninstalled},
	})
}

// testRouted are namespaces that have nothing to do with each other.
func testRouted(t *testing.T) {
	together(t, []step{
		{"canary", testCanary},
		{"progressive", testProgressive},
		{"status", testRouteStatus},
		{"faults-and-limits", testFaultsAndLimits},
		{"authorization", testAuthorization},
		{"denied-by-default", testDeniedByDefault},
		{"examples", testExamples},
	})
}

// testWithoutDefinitions: the mesh was installed into a cluster that did not have the Gateway API; it finds it when it comes.
func testWithoutDefinitions(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/gateway-api")
	cmd.Dir = "../.."
	dir, err := cmd.Output()
	if err != nil {
		t.Fatalf("find the Gateway API's definitions: %v", err)
	}
	lab.kubectl(t, "apply", "--server-side", "-f", filepath.Join(strings.TrimSpace(string(dir)), "config/crd/standard"))
	lab.kubectl(t, "wait", "--for=condition=Established", "--timeout=60s", "crd/httproutes.gateway.networking.k8s.io", "crd/grpcroutes.gateway.networking.k8s.io")
}

// split is a route of the Service app to two versions.
func split(ns string, v1, v2 int) string {
	return fmt.Sprintf(`
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: app, namespace: %s}
spec:
  parentRefs: [{group: "", kind: Service, name: app, port: 80}]
  rules:
  - backendRefs: [{name: app-v1, port: 80, weight: %d}, {name: app-v2, port: 80, weight: %d}]
`, ns, v1, v2)
}

// versions starts two versions of an app, and the Service that callers know, whose endpoints are the first.
func versions(t *testing.T, ns string) {
	t.Helper()
	for i, v := range []string{"app-v1", "app-v2"} {
		mustServe(t, server{namespace: ns, name: v, replicas: 2, node: lab.nodes[i]})
	}
	lab.apply(t, fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: app, namespace: %s}
spec: {selector: {app: app-v1}, ports: [{name: web, port: 80, targetPort: 8080}, {name: echo, port: 9000}]}
`, ns))
}

// conditions of our entry in a route's status, as Type=Status/Reason@generation, and the object's generation.
func conditions(t testing.TB, kind, ns, name string) (string, error) {
	t.Helper()
	type condition struct {
		Type, Status, Reason string
		ObservedGeneration   int64
	}
	var o struct {
		Metadata struct{ Generation int64 }
		Status   struct {
			Conditions []condition
			Parents    []struct {
				ControllerName string
				Conditions     []condition
			}
		}
	}
	text, err := lab.try(t.Context(), "-n", ns, "get", kind, name, "-o", "json")
	if err != nil {
		return "", err
	}
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return "", err
	}
	all := o.Status.Conditions
	for _, p := range o.Status.Parents {
		if p.ControllerName == "fairlead.io/controller" {
			all = append(all, p.Conditions...)
		}
	}
	var out []string
	for _, c := range all {
		line := c.Type + "=" + c.Status + "/" + c.Reason
		if c.ObservedGeneration != o.Metadata.Generation {
			line += " of an older version"
		}
		out = append(out, line)
	}
	return strings.Join(out, " "), nil
}

// mustSay waits until an object's status is that.
func mustSay(t testing.TB, kind, ns, name, want string) {
	t.Helper()
	eventually(t, 30*time.Second, "status of "+kind+" "+name, func() error {
		got, err := conditions(t, kind, ns, name)
		if err == nil && got != want {
			err = fmt.Errorf("%q, want %q", got, want)
		}
		return err
	})
}

const accepted = "Accepted=True/Accepted ResolvedRefs=True/ResolvedRefs"

// testCanary: one of ten requests goes to the new version, of 20,000 at 200 a second, and none fails.
func testCanary(t *testing.T) {
	ns := namespace(t, "e2e-canary", true)
	versions(t, ns)
	lab.apply(t, split(ns, 90, 10))
	mustSay(t, "httproute", ns, "app", accepted)
	r := startLoad(t, ns, "caller", lab.nodes[0], "-mode=h1", "-to=app:80", "-workers=8", "-rate=200", "-calls=2500", "-for=150s").wait(t, 4*time.Minute)
	mustFlawless(t, "the canary", r, 20000)
	v1, v2 := ofVersion(r.Servers, "app-v1"), ofVersion(r.Servers, "app-v2")
	if share := 100 * float64(v2) / float64(v1+v2); share < 8.5 || share > 11.5 {
		t.Errorf("%.2f %% of %d requests went to the new version, want 10 ± 1.5", share, v1+v2)
	} else {
		t.Logf("%.2f %% of %d requests went to the new version", share, v1+v2)
	}
}

func ofVersion(servers map[string]int, name string) (n int) {
	for pod, calls := range servers {
		if strings.HasPrefix(pod, name+"-") {
			n += calls
		}
	}
	return n
}

// testProgressive moves the traffic step by step as Flagger does (the route is applied again with other weights) and as Argo Rollouts
// does (weights are patched where they stand, a rule of its own is put before), back and forth again, and takes the old version away:
// no request fails.
func testProgressive(t *testing.T) {
	ns := namespace(t, "e2e-progressive", true)
	versions(t, ns)
	lab.apply(t, split(ns, 100, 0))
	mustSay(t, "httproute", ns, "app", accepted)
	caller := startLoad(t, ns, "caller", lab.nodes[0], "-mode=h1", "-to=app:80", "-workers=8", "-rate=200", "-for=4m")
	framed := startLoad(t, ns, "framed", lab.nodes[0], "-mode=h2", "-to=app:80", "-workers=4", "-rate=50", "-for=4m")
	patch := func(v1, v2 int) {
		lab.kubectl(t, "-n", ns, "patch", "httproute", "app", "--type=json", "-p", fmt.Sprintf(
			`[{"op": "replace", "path": "/spec/rules/0/backendRefs/0/weight", "value": %d}, {"op": "replace", "path": "/spec/rules/0/backendRefs/1/weight", "value": %d}]`, v1, v2))
	}
	for _, change := range []func(){
		func() { lab.apply(t, split(ns, 90, 10)) },
		func() { lab.apply(t, split(ns, 50, 50)) },
		func() { patch(20, 80) },
		func() { patch(100, 0) },
		func() {
			lab.kubectl(t, "-n", ns, "patch", "httproute", "app", "--type=json", "-p", `[{"op": "add", "path": "/spec/rules/-", "value": {"name": "managed",
				"matches": [{"headers": [{"name": "x-canary", "value": "yes"}]}], "backendRefs": [{"name": "app-v2", "port": 80}]}}]`)
		},
		func() { patch(0, 100) },
		func() { lab.kubectl(t, "-n", ns, "scale", "deploy/app-v1", "--replicas=0") },
		func() { lab.kubectl(t, "-n", ns, "delete", "service", "app-v1") },
		func() {
			lab.kubectl(t, "-n", ns, "patch", "httproute", "app", "--type=merge", "-p", `{"spec": {"rules": [{"backendRefs": [{"name": "app-v2", "port": 80}]}]}}`)
		},
	} {
		change()
		pauseFor(t, 4*time.Second)
	}
	mustSay(t, "httproute", ns, "app", accepted)
	for name, l := range map[string]load{"caller": caller, "framed": framed} {
		r := l.end(t)
		mustFlawless(t, name+" of what moves", r, 500)
		if ofVersion(r.Servers, "app-v1") == 0 || ofVersion(r.Servers, "app-v2") == 0 {
			t.Errorf("%s: want both versions to have been called: %v", name, r.Servers)
		}
	}
}

// pauseFor lets something go on for a while.
func pauseFor(t testing.TB, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
		t.Fatal(t.Context().Err())
	}
}

// testRouteStatus: what leads nowhere is said, and mended; what is not taken leaves the last version in force.
func testRouteStatus(t *testing.T) {
	ns := namespace(t, "e2e-status", true)
	versions(t, ns)
	lab.apply(t, split(ns, 0, 1))
	mustSay(t, "httproute", ns, "app", accepted)
	lab.kubectl(t, "-n", ns, "patch", "httproute", "app", "--type=merge", "-p", `{"spec": {"rules": [{"backendRefs": [{"name": "none", "port": 80}]}]}}`)
	mustSay(t, "httproute", ns, "app", "Accepted=True/Accepted ResolvedRefs=False/BackendNotFound")
	r := call(t, ns, "to-nowhere", lab.nodes[0], "h1", "app:80")
	if r.OK > 0 || r.Status[500] == 0 {
		t.Errorf("a backend that is not there: want 500, got %v", r)
	}
	lab.apply(t, strings.ReplaceAll(`
apiVersion: v1
kind: Service
metadata: {name: none, namespace: NS}
spec: {selector: {app: app-v2}, ports: [{port: 80, targetPort: 8080}]}
`, "NS", ns))
	mustSay(t, "httproute", ns, "app", accepted)
	mustFlawless(t, "the backend that has come", call(t, ns, "to-it", lab.nodes[0], "h1", "app:80"), 20)

	lab.kubectl(t, "-n", ns, "patch", "httproute", "app", "--type=merge", "-p", `{"spec": {"rules": [{"filters": [{"type": "ExtensionRef", "extensionRef": {"group": "example.com", "kind": "X", "name": "x"}}], "backendRefs": [{"name": "app-v1", "port": 80}]}]}}`)
	eventually(t, 30*time.Second, "the route is not accepted", func() error {
		got, err := conditions(t, "httproute", ns, "app")
		if err == nil && !strings.HasPrefix(got, "Accepted=False/") {
			err = fmt.Errorf("%q", got)
		}
		return err
	})
	r = call(t, ns, "still", lab.nodes[0], "h1", "app:80")
	mustFlawless(t, "the last version that was valid", r, 20)
	if ofVersion(r.Servers, "app-v1") > 0 {
		t.Errorf("what was not accepted is in force: %v", r.Servers)
	}
}

// testFaultsAndLimits: a policy of a Service disturbs a share of its requests, and refuses those above a rate.
func testFaultsAndLimits(t *testing.T) {
	ns := namespace(t, "e2e-policy", true)
	versions(t, ns)
	policy := func(spec string) {
		lab.apply(t, fmt.Sprintf(`
apiVersion: fairlead.io/v1alpha1
kind: TrafficPolicy
metadata: {name: app, namespace: %s}
spec:
  targetRefs: [{kind: Service, name: app}]
%s`, ns, spec))
	}
	policy("  faults: [{percent: 25, abort: {httpStatus: 418}}]\n")
	probes := 0
	probe := func(more ...string) tally.Report {
		probes++
		return call(t, ns, fmt.Sprint("probe-", probes), lab.nodes[0], "h1", "app:80", more...)
	}
	eventually(t, 30*time.Second, "faults", func() error {
		r := probe("-calls=50")
		if r.Status[418] == 0 {
			return fmt.Errorf("no fault in %v", r)
		}
		return nil
	})
	r := startLoad(t, ns, "faulty", lab.nodes[0], "-mode=h1", "-to=app:80", "-workers=4", "-rate=200", "-calls=500", "-for=40s").wait(t, 90*time.Second)
	if share := 100 * float64(r.Status[418]) / float64(r.OK+r.Bad()); share < 21 || share > 29 || r.Bad() != r.Status[418] {
		t.Errorf("%.1f %% of the requests were aborted, want 25 and nothing else: %v", share, r)
	}
	policy("  rateLimit: {total: {requests: 20}}\n")
	eventually(t, 30*time.Second, "limits", func() error {
		r := probe("-calls=100", "-rate=100")
		if r.Status[429] == 0 {
			return fmt.Errorf("nothing was refused: %v", r)
		}
		return nil
	})
	lab.kubectl(t, "-n", ns, "delete", "trafficpolicy", "app")
	eventually(t, 30*time.Second, "no policy any more", func() error {
		if r := probe("-calls=50"); r.Bad() > 0 {
			return fmt.Errorf("%v", r)
		}
		return nil
	})
}

// testDeniedByDefault: where everything is denied, the kubelet's probes pass, and what a policy allows.
func testDeniedByDefault(t *testing.T) {
	ns := namespace(t, "e2e-denied", true)
	lab.kubectl(t, "annotate", "namespace", ns, "fairlead.io/default-policy=deny")
	mustServe(t, server{namespace: ns, name: "closed", replicas: 1, node: lab.nodes[1]}) // ready is who has answered a probe
	r := call(t, ns, "denied", lab.nodes[0], "h1new", "closed:80")
	if r.OK > 0 || r.Status[403] == 0 {
		t.Errorf("want 403, got %v", r)
	}
	lab.apply(t, fmt.Sprintf(`
apiVersion: fairlead.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: closed, namespace: %s}
spec:
  target: {kind: Service, name: closed, ports: [80]}
  action: ALLOW
  rules: [{from: [{serviceAccounts: [{name: default}]}], to: [{methods: [GET], paths: [{value: /open}]}]}]
`, ns))
	lab.kubectl(t, "-n", ns, "wait", "--for=condition=Accepted", "authorizationpolicy/closed", "--timeout=30s")
	pauseFor(t, 2*time.Second)
	mustFlawless(t, "what is allowed", call(t, ns, "allowed", lab.nodes[0], "h1", "closed:80", "-path=/open/door"), 20)
	if r := call(t, ns, "elsewhere", lab.nodes[0], "h1", "closed:80", "-path=/shut"); r.OK > 0 || r.Status[403] == 0 {
		t.Errorf("another path: want 403, got %v", r)
	}
	mustFail(t, "another port", call(t, ns, "opaque", lab.nodes[0], "tcp", "closed:9000"))
}

// testExamples applies the manifests of the tasks as they are to the vote application, and takes them back. The application goes on
// under all that is meant to let it.
func testExamples(t *testing.T) {
	const dir = "../../examples/tasks/"
	for _, task := range []struct {
		files      []string
		kind, name string
		disturbs   bool
	}{
		{files: []string{"versions", "canary"}, kind: "grpcroute", name: "catalog"},
		{files: []string{"versions", "ab-by-header"}, kind: "grpcroute", name: "catalog"},
		{files: []string{"retries"}, kind: "trafficpolicy", name: "catalog-retries"},
		{files: []string{"timeouts"}, kind: "httproute", name: "front"},
		{files: []string{"circuit-breaking"}, kind: "trafficpolicy", name: "catalog-breaker"},
		{files: []string{"fault-injection"}, kind: "trafficpolicy", name: "catalog-faults", disturbs: true},
		{files: []string{"rate-limit"}, kind: "trafficpolicy", name: "front-limit"},
		{files: []string{"allow-one-caller", "deny-by-default"}, kind: "authorizationpolicy", name: "deny-by-default"},
	} {
		before := bot(t)
		var args []string
		for _, f := range task.files {
			lab.kubectl(t, "apply", "-f", dir+f+".yaml")
			args = append([]string{"-f", dir + f + ".yaml"}, args...) // what leads somewhere goes before where it leads
			if f == "versions" {
				lab.kubectl(t, "-n", voteNamespace, "rollout", "status", "deploy/catalog-v2", "--timeout=60s")
				pauseFor(t, 2*time.Second) // until its endpoints are known
			}
		}
		eventually(t, 30*time.Second, task.kind+" "+task.name+" is accepted", func() error {
			got, err := conditions(t, task.kind, voteNamespace, task.name)
			if err == nil && (!strings.Contains(got, "Accepted=True/Accepted") || strings.Contains(got, "older version")) {
				err = fmt.Errorf("%q", got)
			}
			return err
		})
		pauseFor(t, 4*time.Second)
		if now := bot(t); now.Unexpected != before.Unexpected && !task.disturbs {
			t.Errorf("%v: the bot lost %d requests: %s %v", task.files, now.Unexpected-before.Unexpected, now.LastError, now.Other)
		}
		lab.kubectl(t, append([]string{"delete", "--timeout=60s"}, args...)...)
		pauseFor(t, 2*time.Second) // the bot tells every second how it went
	}
}

// testAuthorization: who is not allowed is refused, on new connections and on those that live, within two seconds.
func testAuthorization(t *testing.T) {
	ns, other := namespace(t, "e2e-authz", true), namespace(t, "e2e-authz-other", true)
	versions(t, ns)
	live := map[string]load{}
	for _, mode := range []string{"stream", "h1", "h2"} {
		to := "app." + ns + ":80"
		if mode == "stream" {
			to = "app." + ns + ":9000"
		}
		live["mine-"+mode] = startLoad(t, ns, "mine-"+mode, lab.nodes[0], "-mode="+mode, "-to="+to, "-workers=1", "-rate=10", "-for=3m")
		live["theirs-"+mode] = startLoad(t, other, "theirs-"+mode, lab.nodes[0], "-mode="+mode, "-to="+to, "-workers=1", "-rate=10", "-for=3m")
	}
	pauseFor(t, 3*time.Second)
	lab.apply(t, fmt.Sprintf(`
apiVersion: fairlead.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: own, namespace: %s}
spec:
  target: {kind: Namespace}
  action: ALLOW
  rules: [{from: [{namespaces: [%[1]s]}]}]
`, ns))
	lab.kubectl(t, "-n", ns, "wait", "--for=condition=Accepted", "authorizationpolicy/own", "--timeout=30s")
	pauseFor(t, 3*time.Second)
	mustFlawless(t, "who is allowed", call(t, ns, "mine", lab.nodes[0], "h1new", "app:80"), 20)
	for _, mode := range []string{"h1new", "h2"} {
		r := call(t, other, "theirs-"+mode+"-new", lab.nodes[0], mode, "app."+ns+":80")
		if r.OK > 0 || r.Status[403] == 0 {
			t.Errorf("%s of who is not allowed: want 403, got %v", mode, r)
		}
	}
	mustFail(t, "opaque bytes of who is not allowed", call(t, other, "theirs-tcp", lab.nodes[0], "tcp", "app."+ns+":9000"))
	for name, l := range live {
		var r tally.Report
		if name == "theirs-stream" { // which has ended by itself
			r = l.wait(t, 30*time.Second)
		} else {
			r = l.end(t)
		}
		switch {
		case strings.HasPrefix(name, "mine"):
			mustFlawless(t, name, r, 20)
		case r.OK == 0 || r.Bad() == 0:
			t.Errorf("%s: want good answers at first, and then none: %v", name, r)
		}
	}
}
