package vote_test

import (
	"bytes"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

type manifest struct {
	namespaces  []*corev1.Namespace
	accounts    map[string]bool
	services    map[string]*corev1.Service
	deployments map[string]*appsv1.Deployment
}

func readManifest(t *testing.T) manifest {
	t.Helper()
	all, err := os.ReadFile("vote.yaml")
	if err != nil {
		t.Fatal(err)
	}
	m := manifest{
		accounts: map[string]bool{}, services: map[string]*corev1.Service{}, deployments: map[string]*appsv1.Deployment{},
	}
	for _, doc := range bytes.Split(all, []byte("\n---\n")) {
		var head struct {
			Kind string `json:"kind"`
		}
		if err := yaml.Unmarshal(doc, &head); err != nil {
			t.Fatal(err)
		}
		switch head.Kind {
		case "Namespace":
			m.namespaces = append(m.namespaces, mustDecode[corev1.Namespace](t, doc))
		case "ServiceAccount":
			m.accounts[mustDecode[corev1.ServiceAccount](t, doc).Name] = true
		case "Service":
			s := mustDecode[corev1.Service](t, doc)
			m.services[s.Name] = s
		case "Deployment":
			d := mustDecode[appsv1.Deployment](t, doc)
			m.deployments[d.Name] = d
		default:
			t.Errorf("unexpected kind %q", head.Kind)
		}
	}
	return m
}

func mustDecode[T any](t *testing.T, doc []byte) *T {
	t.Helper()
	v := new(T)
	if err := yaml.UnmarshalStrict(doc, v); err != nil {
		t.Fatalf("%v in\n%s", err, doc)
	}
	return v
}

func TestManifestIsWhole(t *testing.T) {
	m := readManifest(t)
	if len(m.namespaces) != 1 || m.namespaces[0].Labels["fairlead.io/mesh"] != "enabled" {
		t.Errorf("namespaces %v, want one, enrolled", m.namespaces)
	}
	if len(m.deployments) != 4 || len(m.services) != 3 || len(m.accounts) != 4 {
		t.Errorf("%d deployments, %d services, %d accounts", len(m.deployments), len(m.services), len(m.accounts))
	}
	for name, d := range m.deployments {
		pod := d.Spec.Template
		if d.Namespace != "vote" || !m.accounts[pod.Spec.ServiceAccountName] || pod.Spec.ServiceAccountName != name {
			t.Errorf("%s: namespace %q, account %q", name, d.Namespace, pod.Spec.ServiceAccountName)
		}
		if diff := cmp.Diff(d.Spec.Selector.MatchLabels, pod.Labels); diff != "" {
			t.Errorf("%s: selector: %s", name, diff)
		}
	}
	for name, s := range m.services {
		d := m.deployments[name]
		if d == nil {
			t.Errorf("service %s has no deployment", name)
			continue
		}
		if diff := cmp.Diff(s.Spec.Selector, d.Spec.Template.Labels); diff != "" {
			t.Errorf("%s: selector: %s", name, diff)
		}
		if got, want := s.Spec.Ports[0].TargetPort.IntVal, d.Spec.Template.Spec.Containers[0].Ports[0].ContainerPort; got != want {
			t.Errorf("%s: target port %d, container port %d", name, got, want)
		}
	}
}

// TestManifestLeavesDetectionWork: one port is declared, the others are not, so that both ways are walked.
func TestManifestLeavesDetectionWork(t *testing.T) {
	declared := map[string]string{}
	for name, s := range readManifest(t).services {
		if p := s.Spec.Ports[0].AppProtocol; p != nil {
			declared[name] = *p
		}
	}
	if diff := cmp.Diff(map[string]string{"ballot": "kubernetes.io/h2c"}, declared); diff != "" {
		t.Error(diff)
	}
}
