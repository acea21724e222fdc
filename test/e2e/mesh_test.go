package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// systemNamespace is the product's own.
const systemNamespace = "fairlead-system"

// component are the product's pods of a component that run, by node.
func component(t testing.TB, name string) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	for _, p := range podsOf(t, systemNamespace, "app.kubernetes.io/name=fairlead,app.kubernetes.io/component="+name) {
		out[p[2]] = append(out[p[2]], p[0])
	}
	return out
}

// admin asks a pod of the product over HTTP, through the API server.
func admin(t testing.TB, pod string, port int, path string) (string, error) {
	t.Helper()
	return lab.try(t.Context(), "get", "--raw", fmt.Sprintf("/api/v1/namespaces/%s/pods/http:%s:%d/proxy%s", systemNamespace, pod, port, path))
}

// sample is one series of a scrape.
type sample struct {
	labels map[string]string
	value  float64
}

// metrics scrapes a pod: the samples of one metric; of a histogram its counts.
func metrics(t testing.TB, pod string, port int, name string) ([]sample, error) {
	t.Helper()
	text, err := admin(t, pod, port, "/metrics")
	if err != nil {
		return nil, err
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text + "\n"))
	if err != nil {
		return nil, fmt.Errorf("parse metrics of %s: %w", pod, err)
	}
	var out []sample
	for _, m := range families[name].GetMetric() {
		s := sample{labels: map[string]string{}, value: m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())}
		for _, l := range m.GetLabel() {
			s.labels[l.GetName()] = l.GetValue()
		}
		out = append(out, s)
	}
	return out, nil
}

// leader is the controller's pod that serves the nodes.
func leader(t testing.TB) (string, error) {
	t.Helper()
	holder, err := lab.try(t.Context(), "-n", systemNamespace, "get", "lease", "fairlead-controller", "-o", "jsonpath={.spec.holderIdentity}")
	if err == nil && holder == "" {
		err = fmt.Errorf("nobody holds the lease")
	}
	return holder, err
}

// meshed counts the pods of a namespace that are announced as in the mesh.
func meshed(t testing.TB, namespace string) (int, error) {
	t.Helper()
	out, err := lab.tryFairlead(t.Context(), "stat", "namespace", namespace, "-o", "json", "-t", "1s")
	if err != nil {
		return 0, err
	}
	var rows []statRow
	if err := json.Unmarshal([]byte(out), &rows); err != nil {
		return 0, fmt.Errorf("parse stat: %w", err)
	}
	for _, r := range rows {
		if r.Name == namespace {
			return r.Meshed, nil
		}
	}
	return 0, nil
}

// inMesh counts all pods that are announced as in the mesh.
func inMesh(t testing.TB) (int, error) {
	t.Helper()
	pod, err := leader(t)
	if err != nil {
		return 0, err
	}
	samples, err := metrics(t, pod, 9903, "fairlead_controller_pods_in_mesh")
	if err != nil || len(samples) == 0 {
		return 0, err
	}
	return int(samples[0].value), nil
}

// restartConnections resets what the pods of a namespace have open: apps open it again.
func restartConnections(t testing.TB, namespace string) {
	t.Helper()
	args := []string{"sever"}
	args = append(args, strings.Fields(lab.kubectl(t, "-n", namespace, "get", "pods", "-o", "jsonpath={.items[*].status.podIP}"))...)
	for _, n := range lab.nodes {
		var cut int
		if err := lab.agent(t.Context(), n, &cut, args...); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d connections reset", n, cut)
	}
}
