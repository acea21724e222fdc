package check

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"fairlead.io/fairlead/internal/fleet/fleettest"
	"fairlead.io/fairlead/internal/kube/remote/remotetest"
)

// breakage is one thing that is wrong with a cluster.
type breakage struct {
	id, what string
	do       func(*fleettest.Cluster, *Options)
	want     Status
	says     []string
}

const (
	home       = "/api/v1/namespaces/fairlead-system/"
	apps       = "/apis/apps/v1/namespaces/fairlead-system/"
	deployment = apps + "deployments/fairlead-controller"
	daemonSet  = apps + "daemonsets/fairlead-node"
	lease      = "/apis/coordination.k8s.io/v1/namespaces/fairlead-system/leases/fairlead-controller"
	node1      = home + "pods/" + fleettest.Node1
	front      = "/api/v1/namespaces/vote/pods/front-5d8f7c9b6-qw8rt"
)

// set changes a field of an object, by its path; a number in the path is a place in a list.
func set(object, path string, value any) func(*fleettest.Cluster, *Options) {
	return func(c *fleettest.Cluster, _ *Options) {
		var at any = c.Object(object)
		parts := strings.Split(path, " ")
		for _, part := range parts[:len(parts)-1] {
			at = step(at, part)
		}
		at.(map[string]any)[parts[len(parts)-1]] = value
	}
}

func step(at any, part string) any {
	if list, ok := at.([]any); ok {
		i := 0
		if _, err := fmt.Sscan(part, &i); err != nil {
			panic(err)
		}
		return list[i]
	}
	m := at.(map[string]any)
	if m[part] == nil {
		m[part] = map[string]any{}
	}
	return m[part]
}

func remove(path string) func(*fleettest.Cluster, *Options) {
	return func(c *fleettest.Cluster, _ *Options) {
		if !c.Remove(path) {
			panic("there is no " + path)
		}
	}
}

func denied(user, resource string) func(*fleettest.Cluster, *Options) {
	return func(c *fleettest.Cluster, _ *Options) {
		c.Denied = func(a remotetest.Access) bool { return a.Resource == resource && (user == "") == (a.User == "") }
	}
}

func instead(pod, path, text string) func(*fleettest.Cluster, *Options) {
	return func(c *fleettest.Cluster, _ *Options) { c.Instead[pod+" "+path] = text }
}

func signed(issuer, root, leaf fleettest.Kind) func(*fleettest.Cluster, *Options) {
	return func(c *fleettest.Cluster, _ *Options) {
		c.IssuerKind, c.RootKind, c.LeafKind = issuer, root, leaf
		if err := c.Sign(); err != nil {
			panic(err)
		}
	}
}

func yamlOf(text string) func(*fleettest.Cluster, *Options) {
	return func(c *fleettest.Cluster, _ *Options) { add(c, text) }
}

// waiting is the state of a container that does not run.
func waiting(reason, message string) map[string]any {
	return map[string]any{"waiting": map[string]any{"reason": reason, "message": message}}
}

func ended(status int, ago time.Duration, message string) map[string]any {
	return map[string]any{"terminated": map[string]any{"exitCode": status, "finishedAt": later(-ago), "message": message}}
}

func killed(reason, message string) map[string]any {
	return map[string]any{"terminated": map[string]any{"exitCode": 137, "reason": reason, "finishedAt": later(-time.Minute), "message": message}}
}

// container puts a container of the first node's pod into a state.
func container(i int, ready bool, state, last map[string]any) func(*fleettest.Cluster, *Options) {
	return func(c *fleettest.Cluster, _ *Options) {
		at := step(step(step(c.Object(node1), "status"), "containerStatuses"), fmt.Sprint(i)).(map[string]any)
		at["ready"], at["restartCount"] = ready, 3
		if state != nil {
			at["state"] = state
		}
		if last != nil {
			at["lastState"] = last
		}
	}
}

func breakages() []breakage {
	return slices.Concat(clusterBreakages(), controllerBreakages(), routeBreakages(), trustBreakages(), nodeBreakages(), meshBreakages())
}

func clusterBreakages() []breakage {
	kubectl := func(v string) func(*fleettest.Cluster, *Options) {
		return func(_ *fleettest.Cluster, o *Options) { o.Kubectl = func(context.Context) string { return v } }
	}
	ahead := func(d time.Duration) func(*fleettest.Cluster, *Options) {
		return func(c *fleettest.Cluster, _ *Options) { c.Date = func() time.Time { return fleettest.Noon.Add(d) } }
	}
	node := func(field, value string) func(*fleettest.Cluster, *Options) {
		return set("/api/v1/nodes/n1", "status nodeInfo "+field, value)
	}
	nodeLease := func(d time.Duration) func(*fleettest.Cluster, *Options) {
		return set("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1", "spec renewTime", later(d))
	}
	return []breakage{
		{"api", "gone", func(c *fleettest.Cluster, _ *Options) { c.Close() }, Failure, []string{"does not answer"}},
		{"kubernetes-version", "too old", func(c *fleettest.Cluster, _ *Options) { c.Version = "v1.29.4" }, Failure, []string{"v1.29.4"}},
		{"kubernetes-version", "a distribution's", func(c *fleettest.Cluster, _ *Options) { c.Version = "v1.30.2+k3s1" }, OK, nil},
		{"kubectl-version", "too old", kubectl("v1.32.0"), Warning, []string{"v1.32.0", "v1.37.2"}},
		{"kubectl-version", "none", kubectl(""), Skipped, []string{"no kubectl"}},
		{"before-namespace", "installed", func(*fleettest.Cluster, *Options) {}, Failure, []string{"of version devel"}},
		{"before-create", "no kinds of object", denied("", "customresourcedefinitions"), Failure, []string{"you may not create customresourcedefinitions"}},
		{"before-create", "not allowed", denied("", "daemonsets"), Failure, []string{"you may not create daemonsets in namespace fairlead-system"}},
		{"before-roles", "refused", denied("", "clusterroles"), Failure, []string{"create ClusterRole fairlead-controller"}},
		{"before-platform", "another system", node("operatingSystem", "windows"), Warning, []string{"node n1 runs windows"}},
		{"before-platform", "another machine", node("architecture", "s390x"), Failure, []string{"node n1 is s390x"}},
		{"before-kernel", "old", node("kernelVersion", "5.15.0-1051-aws"), Failure, []string{"node n1 has Linux 5.15.0-1051-aws"}},
		{"before-kernel", "the oldest", node("kernelVersion", "6.1.0"), OK, nil},
		{"before-kernel", "strange", node("kernelVersion", "unknown"), Warning, []string{`"unknown"`}},
		{"before-runtime", "another", node("containerRuntimeVersion", "docker://27.1.1"), Warning, []string{"docker://27.1.1"}},
		{"clock-here", "behind", ahead(5 * time.Minute), Warning, []string{"this machine's clock is 5m1s behind the API server's"}},
		{"clock-here", "nearly right", ahead(10 * time.Second), OK, nil},
		{"clock-nodes", "ahead", nodeLease(3 * time.Minute), Failure, []string{"the clock of node n1 is 3m0s ahead of the API server's"}},
		{"clock-nodes", "behind", nodeLease(-10 * time.Minute), Failure, []string{"the clock of node n1 is 10m1s behind"}},
		{"clock-nodes", "a lease that was not renewed for a while", nodeLease(-35 * time.Second), OK, nil},
		{"clock-nodes", "not to be seen", denied("", "leases"), Skipped, []string{"you may not see it"}},
		{"clock-programs", "a node", func(c *fleettest.Cluster, _ *Options) { c.Dates[fleettest.Node2] = fleettest.Noon.Add(-2 * time.Hour) }, Failure, []string{"the clock of the node n2 is 2h0m0s behind"}},
		{"clock-programs", "the controller", func(c *fleettest.Cluster, _ *Options) {
			c.Dates[fleettest.Controller] = fleettest.Noon.Add(45 * time.Second)
		}, Warning, []string{"the clock of the controller " + fleettest.Controller + " is 45s ahead"}},
	}
}

func controllerBreakages() []breakage {
	controller := home + "pods/" + fleettest.Controller
	return []breakage{
		{"namespace", "none", remove("/api/v1/namespaces/fairlead-system"), Failure, []string{"there is no namespace fairlead-system"}},
		{"uninstall", "under way", yamlOf("apiVersion: v1\nkind: ConfigMap\nmetadata: {namespace: fairlead-system, name: fairlead-leave}"), Warning, []string{"fairlead-leave"}},
		{"controller-deployed", "scaled to 0", set(deployment, "spec replicas", 0), Failure, []string{"scaled to 0"}},
		{"controller-deployed", "none", remove(deployment), Failure, []string{"there is no Deployment fairlead-controller"}},
		{"controller-deployed", "refused", set(deployment, "status conditions", []any{map[string]any{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}}), Failure, []string{"exceeded quota"}},
		{"controller-deployed", "nobody acts", set(deployment, "metadata generation", 2), Warning, []string{"nobody has acted"}},
		{"controller-pods", "not available", set(deployment, "status availableReplicas", 0), Failure, []string{"0 of 1 pods"}},
		{"controller-pods", "no node", set(controller, "status conditions", []any{map[string]any{"type": "PodScheduled", "status": "False", "message": "0/2 nodes are available"}}), Failure, []string{"finds no node: 0/2"}},
		{"controller-pods", "no deployment", remove(deployment), Skipped, []string{"there is no Deployment"}},
		{"controller-leader", "no lease", remove(lease), Failure, []string{"no controller has ever served"}},
		{"controller-leader", "nobody", set(lease, "spec holderIdentity", ""), Failure, []string{"nobody holds the Lease"}},
		{"controller-leader", "gone", set(lease, "spec holderIdentity", "fairlead-controller-old"), Failure, []string{"is held by fairlead-controller-old, which is gone"}},
		{"controller-leader", "stuck", set(lease, "spec renewTime", later(-5*time.Minute)), Failure, []string{"has not renewed it for 5m"}},
		{"controller-answers", "not ready", instead(fleettest.Controller, "/readyz", "503 waiting for: issuer (no root vouches for it)"), Failure, []string{"waiting for: issuer"}},
		{"controller-answers", "none", remove(controller), Skipped, []string{"no controller runs"}},
		{"controller-warm", "waits", func(c *fleettest.Cluster, _ *Options) {
			c.Instead[fleettest.Controller+" /metrics"] = c.ControllerMetrics(0, c.Issuer.NotAfter)
		}, Warning, []string{"waits for the nodes"}},
		{"rbac", "no role", denied("controller", "pods"), Failure, []string{"the account fairlead-controller may not: list pods; watch pods"}},
		{"rbac", "a name", denied("controller", "leases"), Failure, []string{"update leases fairlead-controller in namespace fairlead-system"}},
		{"rbac", "not known", func(_ *fleettest.Cluster, o *Options) { o.Chart = nil }, Skipped, []string{"not known"}},
		{"crds", "none", remove("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/policies.fairlead.io"), Failure, []string{"policies.fairlead.io"}},
		{"crds", "not one of ours", func(_ *fleettest.Cluster, o *Options) { o.Chart = installs(nil) }, Skipped, []string{"this version has none"}},
		{"controller-problems", "some", instead(fleettest.Controller, "/problems", "Pod vote/x: unknown service account \"y\"\nnote: z\n"), Warning, []string{"unknown service account"}},
		{"controller-problems", "only those of routes", instead(fleettest.Controller, "/problems", "HTTPRoute vote/x: y\nTrafficPolicy vote/x: y\n"), OK, nil},
		{"controller-problems", "many", instead(fleettest.Controller, "/problems", strings.Repeat("Pod x: y\n", 100)), Warning, []string{"and more"}},
		{"controller-version", "another", func(_ *fleettest.Cluster, o *Options) { o.Version = "v9" }, Warning, []string{"the controller is devel, this tool is v9"}},
		{"controller-version", "no leader", remove(lease), Skipped, []string{"no controller serves"}},
	}
}

func routeBreakages() []breakage {
	const crd = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/"
	const grpc = crd + "grpcroutes.gateway.networking.k8s.io"
	bundle := func(version string) func(*fleettest.Cluster, *Options) {
		return set(grpc, "metadata annotations gateway.networking.k8s.io/bundle-version", version)
	}
	none := func(c *fleettest.Cluster, _ *Options) {
		for _, kind := range gatewayKinds {
			c.Remove(crd + kind + ".gateway.networking.k8s.io")
		}
	}
	return []breakage{
		{"gateway-api", "one is missing", remove(grpc), Warning, []string{"does not know: grpcroutes\n"}},
		{"gateway-api", "none", none, Warning, []string{"httproutes, grpcroutes, referencegrants"}},
		{"gateway-api-version", "none", none, Skipped, []string{"not installed"}},
		{"gateway-api-version", "old", bundle("v1.1.0"), Warning, []string{"grpcroutes.gateway.networking.k8s.io is of version v1.1.0"}},
		{"gateway-api-version", "no number", bundle("main"), Warning, []string{`says that its version is "main"`}},
		{"gateway-api-version", "none said", bundle(""), Warning, []string{"does not say"}},
		{"gateway-api-version", "another channel", set(grpc, "metadata annotations gateway.networking.k8s.io/channel", "x"), Warning, []string{`channel "x"`}},
		{"routes", "one is not accepted", instead(fleettest.Controller, "/problems", "HTTPRoute vote/x: Shadowed: y\nPod vote/x: z\n"), Warning, []string{"HTTPRoute vote/x: Shadowed"}},
		{"routes", "no leader", remove(lease), Skipped, []string{"no controller serves"}},
		{"policies", "one is about nothing", instead(fleettest.Controller, "/problems", "AuthorizationPolicy vote/x: NothingMatched: y\n"), Warning, []string{"NothingMatched"}},
		{"policies", "no leader", remove(lease), Skipped, []string{"no controller serves"}},
		{"crds", "older", func(c *fleettest.Cluster, o *Options) {
			set(crd+"policies.fairlead.io", "metadata labels app.kubernetes.io/version", "v1")(c, o)
			all, _ := o.Chart("", "")
			for _, x := range all {
				x.SetLabels(map[string]string{"app.kubernetes.io/version": "v2"})
			}
		}, Warning, []string{"policies.fairlead.io is of version v1, this tool has that of v2"}},
	}
}

func trustBreakages() []breakage {
	const issuer, roots = home + "secrets/fairlead-issuer", home + "configmaps/fairlead-roots"
	return []breakage{
		{"issuer", "none", remove(issuer), Failure, []string{"there is no Secret fairlead-issuer"}},
		{"issuer", "another's key", signed(fleettest.Mixed, "", ""), Failure, []string{"do not belong together"}},
		{"issuer", "rubbish", set(issuer, "data tls.crt", "cnViYmlzaA=="), Failure, []string{"there is no certificate in it"}},
		{"issuer", "not to be seen", denied("", "secrets"), Skipped, []string{"you may not see it"}},
		{"issuer", "of another name", set(deployment, "spec template spec containers", []any{map[string]any{"name": "controller", "args": []any{"--issuer-secret=mine"}}}), Failure, []string{"there is no Secret mine"}},
		{"roots", "none", remove(roots), Failure, []string{"there is no ConfigMap fairlead-roots"}},
		{"roots", "empty", set(roots, "data", map[string]any{}), Failure, []string{"there is no certificate in it"}},
		{"issuer-chain", "wrong CA", signed(fleettest.Foreign, "", ""), Failure, []string{"no root in the ConfigMap fairlead-roots vouches for the issuer"}},
		{"issuer-chain", "expired, but theirs", signed(fleettest.Expired, "", ""), OK, nil},
		{"issuer-chain", "not valid yet, but theirs", signed(fleettest.Future, fleettest.Future, ""), OK, nil},
		{"issuer-chain", "no roots", remove(roots), Skipped, []string{"cannot be read"}},
		{"certificates-valid", "issuer expired", signed(fleettest.Expired, "", ""), Failure, []string{`the issuer "CN=Test issuer" has expired at 2026-11-25T11:00:00Z`}},
		{"certificates-valid", "issuer in the future", signed(fleettest.Future, "", ""), Failure, []string{"begins in the future"}},
		{"certificates-valid", "root expired", signed("", fleettest.Expired, ""), Failure, []string{`the root "CN=Test root" has expired`}},
		{"certificates-60-days", "issuer", signed(fleettest.Soon, "", ""), Warning, []string{"expires in 19 days"}},
		{"certificates-60-days", "root", signed("", fleettest.Soon, ""), Warning, []string{"the root"}},
		{"certificates-algorithms", "a weak root", set(roots, "data ca.crt", weakRoot), Failure, []string{"an ECDSA key of 224 bits"}},
		{"issuer-in-use", "another", func(c *fleettest.Cluster, _ *Options) {
			c.Instead[fleettest.Controller+" /metrics"] = c.ControllerMetrics(1, c.Issuer.NotAfter.Add(time.Hour))
		}, Failure, []string{"the controller signs with an issuer that ends at"}},
		{"leaves", "expired", signed("", "", fleettest.Expired), Failure, []string{"node n1: the certificate has expired (the proxy itself, vote/bot, vote/catalog, vote/front)", "node n2"}},
		{"leaves", "in the future", signed("", "", fleettest.Future), Failure, []string{"begins in the future", "clocks differ"}},
		{"leaves", "of another CA", signed("", "", fleettest.Foreign), Failure, []string{"no root vouches for the certificate"}},
		{"leaves", "late", signed("", "", fleettest.Late), Warning, []string{"was to be renewed"}},
		{"leaves", "other roots", func(c *fleettest.Cluster, _ *Options) {
			c.Instead[fleettest.Node1+" /debug/identities"] = `{"roots":` + fmt.Sprintf("%q", weakRoot) + `}`
		}, Warning, []string{"node n1: the proxy does not trust the root"}},
		{"leaves", "nobody", instead(fleettest.Node1, "/debug/identities", `{}`), Failure, []string{"has no roots"}},
	}
}

func nodeBreakages() []breakage {
	metrics := func(line string) func(*fleettest.Cluster, *Options) {
		return instead(fleettest.Node1, "/metrics", "# TYPE "+strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '{' })[0]+" gauge\n"+line+"\n")
	}
	state := func(text string) func(*fleettest.Cluster, *Options) {
		return instead(fleettest.Node1, "/debug/node", text)
	}
	event := yamlOf("apiVersion: v1\nkind: Event\nmetadata: {namespace: fairlead-system, name: e}\ninvolvedObject: {name: fairlead-node}\ntype: Warning\n" +
		"message: 'Error creating: pods \"fairlead-node-\" is forbidden: violates PodSecurity \"baseline\"'\nlastTimestamp: 2026-11-25T11:59:00Z")
	both := func(all ...func(*fleettest.Cluster, *Options)) func(*fleettest.Cluster, *Options) {
		return func(c *fleettest.Cluster, o *Options) {
			for _, f := range all {
				f(c, o)
			}
		}
	}
	return []breakage{
		{"node-daemonset", "none", remove(daemonSet), Failure, []string{"there is no DaemonSet fairlead-node"}},
		{"node-daemonset", "forbidden", both(event, set(daemonSet, "status currentNumberScheduled", 0)), Failure, []string{"0 of 2 pods", "violates PodSecurity"}},
		{"node-daemonset", "for no node", set(daemonSet, "status", map[string]any{}), Failure, []string{"meant for no node"}},
		{"node-pods", "bad image", container(1, false, waiting("ImagePullBackOff", "manifest unknown"), nil), Failure, []string{"container proxy of pod fairlead-node-h7wq2 on node n1 has no image", "manifest unknown"}},
		{"node-pods", "crash loop", container(1, false, waiting("CrashLoopBackOff", "back-off"), ended(1, time.Minute, "listen: address in use")), Failure, []string{"has ended 3 times, last with status 1: listen: address in use"}},
		{"node-pods", "the end of a log", container(1, false, waiting("CrashLoopBackOff", "back-off"), ended(137, time.Minute, "cut here"+strings.Repeat(" and on", 60)+"\nthe last but one\nthe last\n")), Failure,
			[]string{"last with status 137: the last but one; the last"}},
		{"node-pods", "out of memory", container(1, false, waiting("CrashLoopBackOff", "back-off"), killed("OOMKilled", "the last")), Failure, []string{"last with status 137 (OOMKilled): the last"}},
		{"node-pods", "kernel", container(0, false, waiting("CrashLoopBackOff", "back-off"), ended(1, time.Minute, "nodeproxy: preflight: this kernel lacks:\nBPF LSM (Linux 5.7)\nsk_lookup (Linux 5.9)")), Failure,
			[]string{"node n1: the kernel lacks what the keeper needs: BPF LSM (Linux 5.7); sk_lookup (Linux 5.9)"}},
		{"node-pods", "cannot be started", container(0, false, waiting("CreateContainerError", "no such mount"), nil), Failure, []string{"no such mount"}},
		{"node-pods", "not ready", container(0, false, nil, nil), Failure, []string{"pod fairlead-node-h7wq2 on node n1 is not ready: keeper"}},
		{"node-pods", "an update", set(daemonSet, "status updatedNumberScheduled", 1), Warning, []string{"an update is under way: 1 of 2"}},
		{"node-pods", "killed just now", container(1, true, nil, ended(137, time.Minute, "")), Warning, []string{"container proxy of pod fairlead-node-h7wq2 on node n1 runs again, but has ended 3 times, last 1m0s ago with status 137"}},
		{"node-pods", "killed long ago", container(1, true, nil, ended(137, time.Hour, "")), OK, nil},
		{"node-coverage", "a node without", remove(node1), Failure, []string{"node n1 has no pod"}},
		{"node-coverage", "a node without its label", both(remove(node1), set("/api/v1/nodes/n1", "metadata labels", map[string]any{})), Warning, []string{"it lacks the labels kubernetes.io/os=linux"}},
		{"node-proxies", "does not run", container(1, false, waiting("CrashLoopBackOff", ""), nil), Failure, []string{"node n1: the proxy of pod fairlead-node-h7wq2 does not run"}},
		{"node-proxies", "does not answer", func(c *fleettest.Cluster, _ *Options) { c.Pod("fairlead-system", fleettest.Node2, 9901, nil) }, Failure, []string{"node n2: ask pod"}},
		{"node-proxies", "a node that is lost", both(set("/api/v1/nodes/n2", "status conditions", []any{}), func(c *fleettest.Cluster, _ *Options) { c.Pod("fairlead-system", fleettest.Node2, 9901, nil) }),
			Warning, []string{"node n2 is not ready, as Kubernetes says"}},
		{"node-proxies", "one that is on its way out", both(set(node1, "metadata deletionTimestamp", later(0)), container(1, false, waiting("x", ""), nil)), OK, nil},
		{"node-proxies", "not ready", state(`{"pending":["address table"]}`), Failure, []string{"node n1: the proxy waits for: address table"}},
		{"node-keepers", "away", metrics("fairlead_keeper_up 0"), Failure, []string{"node n1: the keeper does not answer"}},
		{"node-controller", "no stream", state(`{"node":"n1","controller":false}`), Failure, []string{"node n1: the proxy has no stream"}},
		{"node-cni", "taken out", metrics("fairlead_keeper_cni_chained 0"), Failure, []string{"node n1: our plugin is not in the CNI configuration"}},
		{"node-version", "old", metrics(`fairlead_build_info{version="v0"} 1`), Warning, []string{"node n1: the proxy is v0, the controller is devel"}},
	}
}

func meshBreakages() []breakage {
	in := func(namespace string) func(*fleettest.Cluster, *Options) {
		return func(_ *fleettest.Cluster, o *Options) { o.Namespace = namespace }
	}
	both := func(a, b func(*fleettest.Cluster, *Options)) func(*fleettest.Cluster, *Options) {
		return func(c *fleettest.Cluster, o *Options) { a(c, o); b(c, o) }
	}
	earlier := func(fields string) func(*fleettest.Cluster, *Options) {
		return instead(fleettest.Node1, "/debug/pods", `[{"uid":"uid-front","inMesh":true,`+fields+`}]`)
	}
	vote := "/api/v1/namespaces/vote"
	return []breakage{
		{"mesh-namespace", "no label", in("tools"), Failure, []string{"namespace tools does not bear the label fairlead.io/mesh=enabled"}},
		{"mesh-namespace", "not there", in("toolz"), Failure, []string{"there is no namespace toolz"}},
		{"mesh-namespace", "the system's", both(in("kube-system"), set("/api/v1/namespaces/kube-system", "metadata labels", map[string]any{"fairlead.io/mesh": "enabled"})), Failure, []string{"one of the system's"}},
		{"mesh-namespace", "nobody", set(vote, "metadata labels", map[string]any{}), Warning, []string{"no namespace is in the mesh"}},
		{"mesh-labels", "a value", set(front, "metadata labels fairlead.io/mesh", "true"), Failure, []string{"pod vote/front-5d8f7c9b6-qw8rt", `"true"`}},
		{"mesh-labels", "an annotation", set("/api/v1/namespaces/tools", "metadata annotations fairlead.io/mesh", "enabled"), Warning, []string{"namespace tools", "is an annotation"}},
		{"mesh-labels", "a policy", set(vote, "metadata annotations fairlead.io/default-policy", "none"), Failure, []string{`"none"`}},
		{"mesh-labels", "a policy as label", set(vote, "metadata labels fairlead.io/default-policy", "allow"), Warning, []string{"is a label"}},
		{"mesh-pods", "not captured", set(front, "metadata uid", "another"), Failure, []string{"pod vote/front-5d8f7c9b6-qw8rt on node n1 is not in the mesh (yet)"}},
		{"mesh-pods", "not announced", instead(fleettest.Node2, "/debug/pods", `[{"uid":"uid-ballot","inMesh":false},{"uid":"uid-catalog-2","inMesh":true}]`), Failure, []string{"captured, but not announced"}},
		{"mesh-pods", "no proxy", func(c *fleettest.Cluster, _ *Options) { c.Pod("fairlead-system", fleettest.Node2, 9901, nil) }, Failure, []string{"the proxy of node n2 does not answer"}},
		{"mesh-pods", "nobody", in("tools"), Skipped, []string{"no pod is to be"}},
		{"mesh-connections", "one", earlier(`"earlier":1`), Warning, []string{"pod vote/front-5d8f7c9b6-qw8rt has 1 connection from before it joined"}},
		{"mesh-connections", "too many to count", earlier(`"earlier":1000,"earlierMore":true`), Warning, []string{"has at least 1000 connections"}},
		{"mesh-connections", "none", earlier(`"earlier":0`), OK, nil},
		{"mesh-connections", "nobody", in("tools"), Skipped, []string{"no pod is in the mesh"}},
		{"mesh-starting", "held back", both(set(front, "status", map[string]any{"phase": "Pending"}),
			yamlOf("apiVersion: v1\nkind: Event\nmetadata: {namespace: vote, name: e}\ninvolvedObject: {name: front-5d8f7c9b6-qw8rt}\nreason: FailedCreatePodSandBox\nmessage: 'fairlead: the keeper is away'\nlastTimestamp: 2026-11-25T11:59:00Z")),
			Failure, []string{"does not start: fairlead: the keeper is away"}},
		{"mesh-host-network", "one", set(front, "spec hostNetwork", true), Warning, []string{"pod vote/front-5d8f7c9b6-qw8rt has its node's network"}},
		{"mesh-certificates", "none", instead(fleettest.Node1, "/debug/identities", `{"identities":[{"namespace":"vote","account":"bot"}]}`), Failure, []string{"node n1 has no certificate of its account front"}},
		{"mesh-protocols", "strange", set("/api/v1/namespaces/vote/services/front", "spec ports", []any{map[string]any{"port": 80, "appProtocol": "example.com/mine"}}), Warning, []string{`appProtocol "example.com/mine" of port 80`}},
	}
}

// weakRoot is a root with a key of P-224.
const weakRoot = `-----BEGIN CERTIFICATE-----
MIIBRDCB9KADAgECAgEBMAoGCCqGSM49BAMCMBQxEjAQBgNVBAMTCVdlYWsgcm9v
dDAeFw0yNjAxMDEwMDAwMDBaFw0zNjAxMDEwMDAwMDBaMBQxEjAQBgNVBAMTCVdl
YWsgcm9vdDBOMBAGByqGSM49AgEGBSuBBAAhAzoABH7LGwfF28FK1+gUqcLfx4Ri
hy9mnf5bWrAVHGnvj/+eqjno7Mi5DlZw+7SazYlTegPtbaUMxVgAo0IwQDAOBgNV
HQ8BAf8EBAMCAgQwDwYDVR0TAQH/BAUwAwEB/zAdBgNVHQ4EFgQUeBaV0qHTj0ft
9LmKrzGrykEvbR0wCgYIKoZIzj0EAwIDPwAwPAIcNwEVRhSYE9UX0dblGSm7ix1b
6q7AZz7OAsRgQgIcLH9b/72qmQmYBEczDti7v9bTey9d9560c5HAqQ==
-----END CERTIFICATE-----
`
