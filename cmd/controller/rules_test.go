package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/kube"
	"fairlead.io/fairlead/internal/kube/kubetest"
)

// roles judges requests by the rules of a role, and remembers which parts of which rules were needed.
type roles struct {
	mu      sync.Mutex
	of      map[string]kube.Roles // by user
	needed  map[string]bool
	refused []string
}

// part is the smallest thing that a rule allows.
func part(user, scope, verb, group, resource, name string) string {
	return fmt.Sprintf("%s may, in the %s, %s %q %s %s", user, scope, verb, group, resource, name)
}

func parts(user, scope string, rules []kube.Rule) (out []string) {
	for _, r := range rules {
		names := r.ResourceNames
		if len(names) == 0 {
			names = []string{""}
		}
		for _, verb := range r.Verbs {
			for _, resource := range r.Resources {
				for _, name := range names {
					out = append(out, part(user, scope, verb, r.APIGroups[0], resource, name))
				}
			}
		}
	}
	return out
}

func (r *roles) allow(q kubetest.Request) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	of, known := r.of[q.User]
	if !known {
		return true // the tests themselves
	}
	allowed := parts(q.User, "cluster", of.Cluster)
	if q.Namespace == ns {
		allowed = append(allowed, parts(q.User, "namespace", of.Namespace)...)
	}
	name := q.Name
	if q.Verb == "create" {
		name = "" // a name cannot be demanded of what is not there yet
	}
	ok := false
	for _, p := range []string{
		part(q.User, "cluster", q.Verb, q.Group, q.Of(), ""), part(q.User, "namespace", q.Verb, q.Group, q.Of(), ""),
		part(q.User, "namespace", q.Verb, q.Group, q.Of(), name),
	} {
		if slices.Contains(allowed, p) {
			r.needed[p] = true
			ok = true
		}
	}
	if !ok {
		r.refused = append(r.refused, q.String())
	}
	return ok
}

const manifest = `
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: fairlead-cleanup}
spec:
  selector: {matchLabels: {app: cleanup}}
  template: {metadata: {labels: {app: cleanup}}, spec: {containers: [{name: c, image: i}]}}
`

// TestEveryRuleIsNeededAndSuffices has a controller live from the beginning to the end of an installation, and holds
// each of its requests, and of the uninstaller's, against the roles that the chart gives them.
func TestEveryRuleIsNeededAndSuffices(t *testing.T) {
	r := &roles{needed: map[string]bool{}, of: map[string]kube.Roles{
		"controller": kube.ControllerRoles(kube.IssuerSecret, kube.RootsConfigMap),
		"uninstall":  kube.UninstallRoles(kube.IssuerSecret, kube.RootsConfigMap),
	}}
	taints := r.of["controller"]
	taints.Cluster = append(taints.Cluster, kube.TaintRule())
	r.of["controller"] = taints
	for _, lists := range []bool{false, true} { // newer API servers stream what older ones list
		t.Run(fmt.Sprintf("onlyLists=%v", lists), func(t *testing.T) { live(t, r, lists) })
	}
	for _, q := range r.refused {
		t.Errorf("not allowed: %s", q)
	}
	for user, of := range r.of {
		for _, p := range slices.Concat(parts(user, "cluster", of.Cluster), parts(user, "namespace", of.Namespace)) {
			if !r.needed[p] {
				t.Errorf("not needed: %s", p)
			}
		}
		for _, rule := range slices.Concat(of.Cluster, of.Namespace) {
			if rule.Why == "" || len(rule.APIGroups) != 1 {
				t.Errorf("rule without a reason, or of several groups: %+v", rule)
			}
		}
	}
}

func live(t *testing.T, r *roles, lists bool) {
	c := newCluster(t)
	if lists {
		c.OnlyLists()
	}
	c.Allow(r.allow)
	c.Set(fmt.Sprintf(`{"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv6", "endpoints": [],
		"metadata": {"namespace": %q, "name": "fairlead-controller"}}`, ns), // of another life, with another family
		fmt.Sprintf(`{"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"namespace": %q, "name": "fairlead-node"},
			"spec": {"selector": {"matchLabels": {"app": "node"}}}, "status": {"numberReady": 1}}`, ns),
		fmt.Sprintf(`{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": %q, "name": "fairlead-controller"},
			"spec": {"selector": {"matchLabels": {"app": "controller"}}}}`, ns))
	c.Merge("namespaces", "", "shop", `{"metadata": {"labels": {"fairlead.io/mesh": "enabled"}}}`)

	// Start: issuer and roots are made, a keeper joins, the start-up taint goes and other taints stay.
	first := c.start(t, "c1", "--startup-taint")
	k := c.keeper(t)
	obey(t, k)
	eventually(t, "the pod is announced", first.says("/metrics", "fairlead_controller_pods_in_mesh 1\n"))
	eventually(t, "the start-up taint is taken off", func() bool { return c.At("nodes", "", "a", "spec.taints") == "[map[effect:NoSchedule key:gpu]]" })
	for _, resource := range routed(c) {
		eventually(t, "the status of "+resource, func() bool { return c.At(resource, "shop", "r", "status") != "" })
	}

	// The issuer is exchanged, and the next replica takes over.
	ca, alone := newIssuer(t)
	c.setIssuer(t, ca)
	eventually(t, "signed by the new issuer", func() bool { _, err := c.join(alone, "a", "token-of-a"); return err == nil })
	next := c.start(t, "c2", "--startup-taint")
	eventually(t, "the standby is ready", next.says("/readyz", "standby"))
	first.stop()
	eventually(t, "the standby leads", next.says("/readyz", "this replica leads"))
	eventually(t, "nodes find it", func() bool { _, err := c.join(alone, "a", "token-of-a"); return err == nil })
	again := c.keeper(t)
	obey(t, again)
	eventually(t, "the pod is announced", next.says("/metrics", "fairlead_controller_pods_in_mesh 1\n"))

	// The end.
	c.Merge("secrets", ns, "fairlead-issuer", `{"metadata": {"labels": {"fairlead.io/generated": "true"}}}`)
	file := filepath.Join(t.TempDir(), "cleanup.yaml")
	if err := os.WriteFile(file, []byte(manifest), 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	log := &syncBuffer{}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	go func() {
		done <- run(ctx, []string{"uninstall", "--kubeconfig=" + c.KubeconfigOf("uninstall"), "--namespace=" + ns, "--cleanup-manifest=" + file,
			"--timeout=20s", "--silence=2s"}, log)
	}()
	there := func(resource, name string) bool { return c.Text(resource, ns, name) != "" }
	eventually(t, "the pod has left", func() bool { return !enrolled(again, "u-web") })
	eventually(t, "the nodes' programs are stopped", func() bool { return !there("daemonsets.apps", "fairlead-node") })
	eventually(t, "the controller is stopped", func() bool { return !there("deployments.apps", "fairlead-controller") })
	next.stop() // as Kubernetes does with the Deployment
	eventually(t, "the clean-up begins", func() bool { return there("daemonsets.apps", "fairlead-cleanup") })
	c.Merge("daemonsets.apps", ns, "fairlead-cleanup", `{"status": {"observedGeneration": 1, "desiredNumberScheduled": 1, "numberReady": 0}}`)
	eventually(t, "which node is not clean", func() bool { return listed(c, "uninstall", "nodes") })
	c.Merge("daemonsets.apps", ns, "fairlead-cleanup", `{"status": {"numberReady": 1}}`)
	if err := <-done; err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	for resource, name := range map[string]string{
		"leases.coordination.k8s.io": "fairlead-controller", "endpointslices.discovery.k8s.io": "fairlead-controller",
		"secrets": "fairlead-issuer", "configmaps": "fairlead-roots", "daemonsets.apps": "fairlead-cleanup",
	} {
		if there(resource, name) {
			t.Errorf("%s %s is left", resource, name)
		}
	}
	if there("configmaps", "fairlead-leave") {
		t.Error("the sign to leave is left")
	}
}

// routed sets a route and a policy of each kind, and returns the resources that get a status.
func routed(c *cluster) (resources []string) {
	const parent = `"parentRefs": [{"group": "", "kind": "Service", "name": "web"}], "rules": [{"backendRefs": [{"name": "web", "port": 80}]}]`
	set := func(group, version, kind, resource, spec string) {
		c.Set(fmt.Sprintf(`{"apiVersion": "%s/%s", "kind": %q, "metadata": {"namespace": "shop", "name": "r"}, "spec": {%s}}`, group, version, kind, spec))
		resources = append(resources, resource+"."+group)
	}
	c.Define("gateway.networking.k8s.io", "v1")
	c.Define("fairlead.io", "v1alpha1")
	for kind, resource := range map[string]string{"HTTPRoute": "httproutes", "GRPCRoute": "grpcroutes", "TLSRoute": "tlsroutes", "TCPRoute": "tcproutes"} {
		spec := parent
		if kind == "TLSRoute" {
			spec += `, "hostnames": ["a.test"]`
		}
		set("gateway.networking.k8s.io", "v1", kind, resource, spec)
	}
	set("fairlead.io", "v1alpha1", "TrafficPolicy", "trafficpolicies", `"targetRefs": [{"kind": "Service", "name": "web"}], "timeouts": {"request": "1s"}`)
	set("fairlead.io", "v1alpha1", "AuthorizationPolicy", "authorizationpolicies", `"action": "DENY", "rules": [{}]`)
	return resources
}

func listed(c *cluster, user, resource string) bool {
	return slices.ContainsFunc(c.Requests(), func(q kubetest.Request) bool {
		return q.User == user && q.Resource == resource && q.Verb == "list"
	})
}

func TestBadUninstalls(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cleanup.yaml")
	if err := os.WriteFile(file, []byte("kind: Deployment"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := newCluster(t)
	for args, want := range map[string]string{
		"":                                     "--namespace",
		"--namespace=x":                        "--cleanup-manifest",
		"--namespace=x --cleanup-manifest=/no": "read --cleanup-manifest",
		"--namespace=x --cleanup-manifest=" + file + " extra":                                        "unknown argument",
		"--namespace=x --cleanup-manifest=" + file + " --timeout=0s":                                 "positive",
		"--namespace=x --cleanup-manifest=" + file + " --kubeconfig=/no":                             "read kubeconfig",
		"--namespace=x --cleanup-manifest=" + file + " --kubeconfig=" + c.Kubeconfig:                 "want the DaemonSet",
		"--namespace=x --cleanup-manifest=" + file + " --kubeconfig=" + c.Kubeconfig + " --nonsense": "nonsense",
	} {
		err := run(t.Context(), append([]string{"uninstall"}, strings.Fields(args)...), &syncBuffer{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", args, err, want)
		}
	}
}
