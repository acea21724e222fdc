package compile

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWhoIsEnrolled(t *testing.T) {
	for _, c := range []struct {
		name, ns, labels, spec, status string
		want                           bool
	}{
		{"namespace", "{name: shop, labels: {fairlead.io/mesh: enabled}}", "", "", "", true},
		{"no label", "{name: shop}", "", "", "", false},
		{"namespace disabled", "{name: shop, labels: {fairlead.io/mesh: disabled}}", "", "", "", false},
		{"pod against namespace", "{name: shop, labels: {fairlead.io/mesh: enabled}}", "fairlead.io/mesh: disabled", "", "", false},
		{"pod alone", "{name: shop}", "fairlead.io/mesh: enabled", "", "", true},
		{"host network", "{name: shop, labels: {fairlead.io/mesh: enabled}}", "fairlead.io/mesh: enabled", "hostNetwork: true, ", "", false},
		{"finished", "{name: shop, labels: {fairlead.io/mesh: enabled}}", "", "", "phase: Succeeded, ", false},
		{"failed", "{name: shop, labels: {fairlead.io/mesh: enabled}}", "", "", "phase: Failed, ", false},
		{"pending", "{name: shop, labels: {fairlead.io/mesh: enabled}}", "", "", "phase: Pending, ", true},
	} {
		w := load(t, "apiVersion: v1\nkind: Namespace\nmetadata: "+c.ns,
			"apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: shop, uid: u, labels: {"+c.labels+"}}\nspec: {"+c.spec+
				"nodeName: a, containers: [{name: c, image: i}]}\nstatus: {"+c.status+"podIP: 10.0.0.1}")
		if len(w.Problems()) > 0 {
			t.Errorf("%s: %v", c.name, w.Problems())
		}
		if got := enrolledUID(w, "a", "u"); got != c.want {
			t.Errorf("%s: enrolled %v", c.name, got)
		}
	}
}

func TestSystemNamespacesAreNeverEnrolled(t *testing.T) {
	w := load(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: kube-system, labels: {fairlead.io/mesh: enabled}}",
		"apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: kube-system, uid: u, labels: {fairlead.io/mesh: enabled}}\nspec: {nodeName: a}\nstatus: {podIP: 10.0.0.1}")
	if names, _ := w.Namespaces(); enrolledUID(w, "a", "u") || names["kube-system"] {
		t.Error("a system pod is enrolled")
	}
}

func TestAPodsFacts(t *testing.T) {
	w := load(t, nsShop, saWeb, `apiVersion: v1
kind: Pod
metadata:
  name: web-5d8f7b9c4d-abcde
  namespace: shop
  labels: {pod-template-hash: 5d8f7b9c4d, app: other}
  ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: web-5d8f7b9c4d, uid: x, controller: true}]
spec:
  nodeName: a
  serviceAccountName: web
  terminationGracePeriodSeconds: 7
  containers:
  - name: c
    image: i
    ports: [{name: health, containerPort: 8081}]
    readinessProbe: {httpGet: {port: health}}
    livenessProbe: {tcpSocket: {port: 9000}}
    startupProbe: {grpc: {port: 9000}}
  - name: d
    image: i
    livenessProbe: {exec: {command: [x]}}
status: {podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}, {ip: "fd00::1"}]}`)
	pods, _ := w.Enrolments("a")
	if len(pods) != 1 || len(w.Problems()) > 0 {
		t.Fatalf("%v %v", pods, w.Problems())
	}
	p := pods[0]
	if p.Workload != "web" || p.Drain.Seconds() != 7 || !slices.Equal(p.ProbePorts, []uint16{8081, 9000}) || p.Account.Name != "web" {
		t.Errorf("%+v", p)
	}
	if !uidForm.MatchString(p.UID) || len(p.UID) != 36 {
		t.Errorf("made uid %q", p.UID)
	}
	if diff := cmp.Diff(addrs("10.0.0.1", "fd00::1"), pod(t, w, p.UID).Addrs, cmp.Comparer(sameAddr)); diff != "" {
		t.Error(diff)
	}
}

func TestWorkloadNames(t *testing.T) {
	owner := func(kind, name string) string {
		return "ownerReferences: [{apiVersion: v1, kind: " + kind + ", name: " + name + ", uid: x, controller: true}]"
	}
	for _, c := range []struct{ meta, want string }{
		{owner("StatefulSet", "db"), "db"},
		{owner("ReplicaSet", "web-6c5d7f8b9d"), "web"},
		{owner("ReplicaSet", "by-hand"), "by-hand"},
		{owner("Job", "backup-29384756"), "backup"},
		{owner("Job", "once"), "once"},
		{owner("DaemonSet", "agent-5d8f7b9c4d"), "agent-5d8f7b9c4d"},
		{"labels: {app.kubernetes.io/name: shop, app: x}", "shop"},
		{"labels: {app: x}", "x"},
		{"labels: {}", "p"},
		{"ownerReferences: [{apiVersion: v1, kind: Thing, name: t, uid: x}]", "p"},
	} {
		w := load(t, nsPlain, "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: shop, uid: u, "+c.meta+"}\nspec: {nodeName: a}")
		if got := pod(t, w, "u"); got == nil || got.Workload != c.want {
			t.Errorf("%s: %+v %v", c.meta, got, w.Problems())
		}
	}
}

func TestNamespaceTurnsItsPods(t *testing.T) {
	w, f := NewWorld(Config{}), newFiles()
	apply(t, w, f, "p.yaml", podDoc("p", "10.0.0.1", ""))
	if pod(t, w, "u-p") != nil || len(w.Problems()) != 1 {
		t.Fatal("served without its namespace")
	}
	apply(t, w, f, "ns.yaml", nsShop)
	if !enrolledUID(w, "a", "u-p") || len(w.Problems()) != 0 {
		t.Fatalf("not enrolled: %v", w.Problems())
	}
	apply(t, w, f, "ns.yaml", nsPlain)
	if enrolledUID(w, "a", "u-p") {
		t.Fatal("still enrolled")
	}
	apply(t, w, f, "ns.yaml", nsShop)
	w.Update(f.drop("ns.yaml"))
	if !enrolledUID(w, "a", "u-p") || len(w.Problems()) != 1 {
		t.Fatalf("the last good state is not in force: %v", w.Problems())
	}
}

// TestANamespaceWithASlipInItsLabelIsKnown: its pods start, outside the mesh, and one that was enrolled stays so.
func TestANamespaceWithASlipInItsLabelIsKnown(t *testing.T) {
	const slip = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {fairlead.io/mesh: 'true'}}"
	w, f := load(t), newFiles()
	apply(t, w, f, "f.yaml", slip, podDoc("p", "10.0.0.1", ""))
	if ns, _ := w.Namespaces(); len(ns) != 1 || ns["shop"] {
		t.Errorf("namespaces: %v", ns)
	}
	if pod(t, w, "u-p") == nil || enrolledUID(w, "a", "u-p") || len(w.Problems()) != 1 {
		t.Errorf("row %v, problems %v", pod(t, w, "u-p"), w.Problems())
	}
	apply(t, w, f, "f.yaml", nsShop, podDoc("p", "10.0.0.1", ""))
	if !enrolledUID(w, "a", "u-p") || len(w.Problems()) != 0 {
		t.Errorf("not enrolled when mended: %v", w.Problems())
	}
	apply(t, w, f, "f.yaml", slip, podDoc("p", "10.0.0.1", ""))
	if ns, _ := w.Namespaces(); !ns["shop"] || !enrolledUID(w, "a", "u-p") || len(w.Problems()) != 1 {
		t.Errorf("a slip has changed something: %v, %v", ns, w.Problems())
	}
}
