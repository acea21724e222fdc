package deploy

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/v2/lint"
	"helm.sh/helm/v4/pkg/chart/v2/lint/support"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// TestLint is `helm lint --strict`, on the defaults and on every case.
func TestLint(t *testing.T) {
	for name, o := range cases {
		values, err := o.values()
		if err != nil {
			t.Fatal(err)
		}
		for _, version := range []string{"v1.30.0", "v1.37.2"} {
			kube, err := common.ParseKubeVersion(version)
			if err != nil {
				t.Fatal(err)
			}
			result := lint.RunAll(root, values, DefaultNamespace, lint.WithKubeVersion(kube))
			for _, m := range result.Messages {
				// The one piece of advice that is not taken: there is no picture.
				if m.Severity > support.InfoSev || !strings.Contains(m.Err.Error(), "icon is recommended") {
					t.Errorf("%s for %s: %v", name, version, m)
				}
			}
		}
	}
}

func TestRefusals(t *testing.T) {
	certificate := "-----BEGIN CERTIFICATE-----\nYQ==\n-----END CERTIFICATE-----\n"
	key := "-----BEGIN PRIVATE KEY-----\nYQ==\n-----END PRIVATE KEY-----\n"
	type table = map[string]any
	for _, test := range []struct {
		name   string
		values table
		want   string
	}{
		{"unknown at the top", table{"contoller": table{}}, "additional properties 'contoller' not allowed"},
		{"unknown below", table{"identity": table{"issuer": table{"cert": "x"}}}, "at '/identity/issuer': additional properties 'cert' not allowed"},
		{"pull policy", table{"image": table{"pullPolicy": "Sometimes"}}, "at '/image/pullPolicy': value must be one of 'Always', 'IfNotPresent', 'Never'"},
		{"duration without a unit", table{"drain": "30"}, "at '/drain': '30' does not match pattern"},
		{"duration as a number", table{"drain": 30}, "at '/drain': got number, want string"},
		{"policy", table{"defaultPolicy": "none"}, "at '/defaultPolicy': value must be one of 'allow', 'authenticated', 'audit', 'deny'"},
		{"relative directory", table{"cni": table{"binDir": "opt/cni/bin"}}, "at '/cni/binDir': 'opt/cni/bin' does not match pattern"},
		{"trust domain", table{"trustDomain": "Corp/Example"}, "at '/trustDomain'"},
		{"no surge", table{"node": table{"maxSurge": 0}}, "at '/node/maxSurge'"},
		{"quantity", table{"node": table{"proxy": table{"resources": table{"limits": table{"memory": "1 GB"}}}}}, "at '/node/proxy/resources/limits/memory'"},
		{"not PEM", table{"identity": table{"trustAnchors": "MIIB"}}, "at '/identity/trustAnchors'"},
		{"certificate as key", table{"identity": table{"issuer": table{"crt": certificate, "key": certificate}}}, "at '/identity/issuer/key'"},
		{"certificate alone", table{"identity": table{"issuer": table{"crt": certificate}}}, "identity.issuer.crt and identity.issuer.key go together"},
		{"two issuers", table{"identity": table{"issuer": table{"crt": certificate, "key": key, "existingSecret": "s"}}}, "identity.issuer.existingSecret excludes"},
		{"two sets of roots", table{"identity": table{"trustAnchors": certificate, "existingRootsConfigMap": "r", "issuer": table{"existingSecret": "s"}}}, "identity.existingRootsConfigMap excludes"},
		{"roots without issuer", table{"identity": table{"trustAnchors": certificate}}, "need an issuer below those roots"},
		{"foreign roots without issuer", table{"identity": table{"existingRootsConfigMap": "r"}}, "need an issuer below those roots"},
	} {
		_, err := Render(Options{Values: test.values})
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
}

func TestOldKubernetesIsRefused(t *testing.T) {
	_, err := Render(Options{KubeVersion: "v1.29.9"})
	if err == nil || !strings.Contains(err.Error(), "kubernetes v1.29.9 is not supported: the chart needs >=1.30.0-0") {
		t.Error(err)
	}
	if _, err = Render(Options{KubeVersion: "v1.31.4-gke.1183000"}); err != nil {
		t.Error(err)
	}
	if _, err = Render(Options{KubeVersion: "newest"}); err == nil || !strings.Contains(err.Error(), `kubernetes version "newest"`) {
		t.Error(err)
	}
}

// TestTheCallersValuesStay: rendering changes nothing of what it is given, and values win over the profile.
func TestTheCallersValuesStay(t *testing.T) {
	values := map[string]any{"controller": map[string]any{"replicas": 5}}
	r := render(t, Options{HA: true, Values: values})
	if len(values) != 1 || len(values["controller"].(map[string]any)) != 1 {
		t.Errorf("values were changed: %v", values)
	}
	if d := find(t, r.Objects, "Deployment", "fairlead-controller"); field(t, d, "spec", "replicas") != int64(5) {
		t.Errorf("replicas: %v", field(t, d, "spec", "replicas"))
	}
	if find(t, r.Objects, "PodDisruptionBudget", "fairlead-controller") == nil {
		t.Error("no PodDisruptionBudget: the profile was not laid below")
	}
}

// TestOrder: what others need comes first, and hooks run in the order of their weights.
func TestOrder(t *testing.T) {
	r := render(t, cases["everything"])
	var kinds []string
	for _, o := range r.Objects {
		if len(kinds) == 0 || kinds[len(kinds)-1] != o.GetKind() {
			kinds = append(kinds, o.GetKind())
		}
	}
	want := "Namespace ResourceQuota PodDisruptionBudget ServiceAccount CustomResourceDefinition ClusterRole ClusterRoleBinding Role RoleBinding Service DaemonSet Deployment PodMonitor PrometheusRule"
	if got := strings.Join(kinds, " "); got != want {
		t.Errorf("order\n %s, want\n %s", got, want)
	}
	kinds = nil
	for _, h := range r.Hooks {
		kinds = append(kinds, h.Object.GetKind())
		if !h.On("pre-delete") || h.On("pre-install") || !slices.Equal(h.Delete, []string{"before-hook-creation", "hook-succeeded"}) {
			t.Errorf("%s: events %v, deleted at %v", h.Object.GetName(), h.Events, h.Delete)
		}
	}
	want = "ServiceAccount ClusterRole ClusterRoleBinding Role RoleBinding ConfigMap Job"
	if got := strings.Join(kinds, " "); got != want {
		t.Errorf("hooks\n %s, want\n %s", got, want)
	}
	if r, err := Render(Options{}); err != nil || len(r.Hooks) != 0 {
		t.Errorf("without IncludeHooks: %d hooks, %v", len(r.Hooks), err)
	}
}

// TestNotes are for a person: they name the namespace, and what to do next.
func TestNotes(t *testing.T) {
	notes := render(t, cases["everything"]).Notes
	for _, want := range []string{"Fairlead v9.9.9 is being started in mesh", "2 controllers.", "fairlead check --fairlead-namespace mesh", "fairlead.io/mesh=enabled"} {
		if !strings.Contains(notes, want) {
			t.Errorf("no %q in\n%s", want, notes)
		}
	}
}

// TestLabels: every object and every pod bears the labels by which ours are found, and is where it belongs.
func TestLabels(t *testing.T) {
	clusterWide := []string{"Namespace", "CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding"}
	for name, o := range cases {
		r := render(t, o)
		for _, h := range r.Hooks {
			r.Objects = append(r.Objects, h.Object)
		}
		for _, object := range r.Objects {
			labels := object.GetLabels()
			for _, key := range []string{"app.kubernetes.io/component", "app.kubernetes.io/version", "app.kubernetes.io/managed-by", "helm.sh/chart"} {
				if labels[key] == "" {
					t.Errorf("%s: %s %s has no label %s", name, object.GetKind(), object.GetName(), key)
				}
			}
			if labels["app.kubernetes.io/name"] != "fairlead" {
				t.Errorf("%s: %s %s: labels %v", name, object.GetKind(), object.GetName(), labels)
			}
			namespace := orDefault(o.Namespace, DefaultNamespace)
			if slices.Contains(clusterWide, object.GetKind()) {
				namespace = ""
			}
			if object.GetNamespace() != namespace {
				t.Errorf("%s: %s %s in namespace %q, want %q", name, object.GetKind(), object.GetName(), object.GetNamespace(), namespace)
			}
			if pod, ok, _ := unstructured.NestedStringMap(object.Object, "spec", "template", "metadata", "labels"); ok && pod["app.kubernetes.io/name"] != "fairlead" {
				t.Errorf("%s: pods of %s: labels %v", name, object.GetName(), pod)
			}
		}
	}
}

// TestCRDsAreUpgradedAndKept adds a definition to the chart, as a later version will have it.
func TestCRDsAreUpgradedAndKept(t *testing.T) {
	crd := `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: policies.fairlead.io
  annotations: {example.org/a: "{{ not a template }}"}
spec: {group: fairlead.io}
`
	with := func(text string) (*Rendered, error) {
		c, err := Chart()
		if err != nil {
			t.Fatal(err)
		}
		c.Files = append(c.Files, &common.File{Name: "crds-upgraded/policies.yaml", Data: []byte(text)})
		return RenderChart(c, Options{})
	}
	r, err := with(crd)
	if err != nil {
		t.Fatal(err)
	}
	got := find(t, r.Objects, "CustomResourceDefinition", "policies.fairlead.io")
	if got == nil {
		t.Fatal("not rendered")
	}
	if a := got.GetAnnotations(); a["helm.sh/resource-policy"] != "keep" || a["example.org/a"] != "{{ not a template }}" {
		t.Errorf("annotations %v", a)
	}
	if got.GetLabels()["app.kubernetes.io/name"] != "fairlead" || field(t, got, "spec", "group") != "fairlead.io" {
		t.Errorf("rendered as %v", got.Object)
	}
	if _, err := with("kind: ConfigMap\nmetadata: {name: x}\n"); err == nil || !strings.Contains(err.Error(), "not one CustomResourceDefinition") {
		t.Errorf("another kind: %v", err)
	}
}

// TestChartHasNoCRDsOfTheOtherKind: Helm would install what lies in "crds" once, and never upgrade it.
func TestChartHasNoCRDsOfTheOtherKind(t *testing.T) {
	c, err := Chart()
	if err != nil {
		t.Fatal(err)
	}
	if n := len(c.CRDObjects()); n > 0 {
		t.Errorf("%d below crds/", n)
	}
}

func TestYAMLCanBeReadBack(t *testing.T) {
	var text bytes.Buffer
	if err := YAML(&text, render(t, Options{}).Objects); err != nil {
		t.Fatal(err)
	}
	for document := range strings.SplitSeq(strings.TrimPrefix(text.String(), "---\n"), "\n---\n") {
		if _, err := parse("all", document); err != nil {
			t.Error(err)
		}
	}
}

func TestParseIsStrict(t *testing.T) {
	for text, want := range map[string]string{
		"apiVersion: v1\nkind: Pod\nkind: Pod\nmetadata: {name: a}": "already set",
		"apiVersion: v1\nkind: Pod\nmetadata: {}":                   "an object without a name",
		"apiVersion: v1\nmetadata: {name: a}":                       "'Kind' is missing",
	} {
		if _, err := parse("t.yaml", text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// TestSchemaAndValuesAgree: what the schema allows is in values.yaml, with its comment and its default.
func TestSchemaAndValuesAgree(t *testing.T) {
	c, err := Chart()
	if err != nil {
		t.Fatal(err)
	}
	type schema struct {
		Properties map[string]*schema
	}
	var top schema
	if err := json.Unmarshal(c.Schema, &top); err != nil {
		t.Fatal(err)
	}
	delete(top.Properties, "global")
	clear(top.Properties["node"].Properties["proxy"].Properties["seLinuxOptions"].Properties)
	var compare func(path string, s *schema, values map[string]any)
	compare = func(path string, s *schema, values map[string]any) {
		for name, below := range s.Properties {
			value, ok := values[name]
			if !ok {
				t.Errorf("values.yaml lacks %s.%s", path, name)
			}
			if table, ok := value.(map[string]any); ok {
				compare(path+"."+name, below, table)
			}
		}
	}
	compare("", &top, c.Values)
}

func TestProfiles(t *testing.T) {
	if _, err := Profile("moon"); err == nil || !strings.Contains(err.Error(), `no profile "moon"`) {
		t.Error(err)
	}
	want := map[string]any{"cni": map[string]any{
		"binDir": "/var/lib/rancher/k3s/data/cni", "confDir": "/var/lib/rancher/k3s/agent/etc/cni/net.d",
	}}
	if got := mustProfile("k3s"); !maps.EqualFunc(got, want, func(a, b any) bool {
		return maps.Equal(a.(map[string]any), b.(map[string]any))
	}) {
		t.Errorf("k3s: %v", got)
	}
}

func find(t *testing.T, objects []*unstructured.Unstructured, kind, name string) *unstructured.Unstructured {
	t.Helper()
	for _, o := range objects {
		if o.GetKind() == kind && o.GetName() == name {
			return o
		}
	}
	return nil
}

func field(t *testing.T, o *unstructured.Unstructured, path ...string) any {
	t.Helper()
	value, ok, err := unstructured.NestedFieldNoCopy(o.Object, path...)
	if err != nil || !ok {
		t.Fatalf("%s %s has no %s: %v", o.GetKind(), o.GetName(), strings.Join(path, "."), err)
	}
	return value
}
