package deploy

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

// as converts an object to its type, and refuses fields that the type does not have.
func as[T any](t *testing.T, o *unstructured.Unstructured) *T {
	t.Helper()
	if o == nil {
		t.Fatal("not rendered")
	}
	var typed T
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(o.Object, &typed, true); err != nil {
		t.Fatalf("%s %s: %v", o.GetKind(), o.GetName(), err)
	}
	return &typed
}

// pods are the three kinds of pods, and the one that the Job makes.
type pods struct{ node, cleanup, controller, uninstall corev1.PodSpec }

func podsOf(t *testing.T, r *Rendered) pods {
	t.Helper()
	hooks := hookObjects(r)
	text := field(t, find(t, hooks, "ConfigMap", "fairlead-cleanup"), "data", "daemonset.yaml").(string)
	cleanup, err := parse("daemonset.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	return pods{
		node:       as[appsv1.DaemonSet](t, find(t, r.Objects, "DaemonSet", "fairlead-node")).Spec.Template.Spec,
		cleanup:    as[appsv1.DaemonSet](t, cleanup).Spec.Template.Spec,
		controller: as[appsv1.Deployment](t, find(t, r.Objects, "Deployment", "fairlead-controller")).Spec.Template.Spec,
		uninstall:  as[batchv1.Job](t, find(t, hooks, "Job", "fairlead-uninstall")).Spec.Template.Spec,
	}
}

func hookObjects(r *Rendered) (objects []*unstructured.Unstructured) {
	for _, h := range r.Hooks {
		objects = append(objects, h.Object)
	}
	return objects
}

func container(t *testing.T, pod corev1.PodSpec, name string) corev1.Container {
	t.Helper()
	i := slices.IndexFunc(pod.Containers, func(c corev1.Container) bool { return c.Name == name })
	if i < 0 {
		t.Fatalf("no container %s", name)
	}
	return pod.Containers[i]
}

func inEachCase(t *testing.T, check func(t *testing.T, o Options, p pods)) {
	for name, o := range cases {
		t.Run(name, func(t *testing.T) { check(t, o, podsOf(t, render(t, o))) })
	}
}

// TestFieldsAreThoseOfTheirKinds: no field that the API server would drop, or warn of.
func TestFieldsAreThoseOfTheirKinds(t *testing.T) {
	for name, o := range cases {
		r := render(t, o)
		for _, object := range slices.Concat(r.Objects, hookObjects(r)) {
			switch object.GetKind() {
			case "Namespace":
				as[corev1.Namespace](t, object)
			case "ResourceQuota":
				as[corev1.ResourceQuota](t, object)
			case "ServiceAccount":
				as[corev1.ServiceAccount](t, object)
			case "Secret":
				as[corev1.Secret](t, object)
			case "ConfigMap":
				as[corev1.ConfigMap](t, object)
			case "Service":
				as[corev1.Service](t, object)
			case "ClusterRole":
				as[rbacv1.ClusterRole](t, object)
			case "Role":
				as[rbacv1.Role](t, object)
			case "ClusterRoleBinding":
				as[rbacv1.ClusterRoleBinding](t, object)
			case "RoleBinding":
				as[rbacv1.RoleBinding](t, object)
			case "DaemonSet":
				as[appsv1.DaemonSet](t, object)
			case "Deployment":
				as[appsv1.Deployment](t, object)
			case "Job":
				as[batchv1.Job](t, object)
			case "PodDisruptionBudget":
				as[policyv1.PodDisruptionBudget](t, object)
			case "CustomResourceDefinition": // test/crds links their type
			case "PodMonitor", "PrometheusRule": // the operator's: its types are not linked
			default:
				t.Errorf("%s: nothing is known of the kind %s", name, object.GetKind())
			}
		}
	}
}

// TestTheCleanUpRunsWhereTheKeeperRan, and with what it has run with.
func TestTheCleanUpRunsWhereTheKeeperRan(t *testing.T) {
	inEachCase(t, func(t *testing.T, _ Options, p pods) {
		type placement struct {
			Priority    string
			Selector    map[string]string
			Tolerations []corev1.Toleration
			Affinity    *corev1.Affinity
			Secrets     []corev1.LocalObjectReference
			Image       string
		}
		of := func(pod corev1.PodSpec) placement {
			return placement{pod.PriorityClassName, pod.NodeSelector, pod.Tolerations, pod.Affinity, pod.ImagePullSecrets, pod.Containers[0].Image}
		}
		if diff := cmp.Diff(of(p.node), of(p.cleanup)); diff != "" {
			t.Error(diff)
		}
		keeper, cleanup := container(t, p.node, "keeper").Args, container(t, p.cleanup, "cleanup").Args
		for _, flag := range []string{"--proc=", "--cgroup=", "--bpffs=", "--netns-dir=", "--cni-bin-dir=", "--cni-conf-dir="} {
			one := func(args []string) string {
				return args[slices.IndexFunc(args, func(a string) bool { return strings.HasPrefix(a, flag) })]
			}
			if one(keeper) != one(cleanup) {
				t.Errorf("%s and %s", one(keeper), one(cleanup))
			}
		}
	})
}

// TestUpdatesSurge: a node is never without a proxy, and the old pod has the time to drain.
func TestUpdatesSurge(t *testing.T) {
	ds := as[appsv1.DaemonSet](t, find(t, render(t, Options{}).Objects, "DaemonSet", "fairlead-node"))
	if u := ds.Spec.UpdateStrategy.RollingUpdate; u.MaxSurge.String() != "1" || u.MaxUnavailable.String() != "0" {
		t.Errorf("updates: %+v", u)
	}
	for drain, want := range map[string]int64{"30s": 50, "1m30s": 110, "1500ms": 22, "1h": 3620} {
		p := podsOf(t, render(t, Options{Values: map[string]any{"drain": drain}}))
		if got := *p.node.TerminationGracePeriodSeconds; got != want {
			t.Errorf("drain %s: %d seconds to end, want %d", drain, got, want)
		}
	}
}

// TestServiceHasNoSelector: the replica that leads says where it is. A selector would lead nodes to standbys.
func TestServiceHasNoSelector(t *testing.T) {
	s := as[corev1.Service](t, find(t, render(t, Options{}).Objects, "Service", "fairlead-controller"))
	if len(s.Spec.Selector) > 0 || len(s.Spec.Ports) != 2 {
		t.Errorf("%+v", s.Spec)
	}
}

// TestGoMemLimit is nine tenths of a limit in Mi or Gi; of another form Kubernetes gives the whole.
func TestGoMemLimit(t *testing.T) {
	for limit, want := range map[string]string{"100Mi": "90MiB", "2Gi": "1843MiB", "500M": "", "1.5Gi": ""} {
		var resources map[string]any
		if err := yaml.Unmarshal([]byte("limits: {memory: "+limit+"}"), &resources); err != nil {
			t.Fatal(err)
		}
		p := podsOf(t, render(t, Options{Values: map[string]any{"controller": map[string]any{"resources": resources}}}))
		env := container(t, p.controller, "controller").Env
		last := env[len(env)-1]
		if last.Name != "GOMEMLIMIT" || last.Value != want || (last.ValueFrom != nil) != (want == "") {
			t.Errorf("%s: %+v", limit, last)
		}
	}
}
