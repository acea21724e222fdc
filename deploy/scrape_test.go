package deploy

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
)

// relabel is one step of the example's configuration for Prometheus.
type relabel struct {
	SourceLabels []string `json:"source_labels"`
	Regex        string
	Replacement  string
	TargetLabel  string `json:"target_label"`
	Action       string
}

// apply does what Prometheus does with the actions that the example uses; false drops the target.
func (r relabel) apply(t *testing.T, labels map[string]string) bool {
	t.Helper()
	var values []string
	for _, name := range r.SourceLabels {
		values = append(values, labels[name])
	}
	value := strings.Join(values, ";")
	re, err := regexp.Compile("^(?:" + orDefault(r.Regex, "(.*)") + ")$")
	if err != nil {
		t.Fatal(err)
	}
	match := re.FindStringSubmatchIndex(value)
	switch r.Action {
	case "keep":
		return match != nil
	case "":
		if match != nil {
			labels[r.TargetLabel] = string(re.ExpandString(nil, orDefault(r.Replacement, "$1"), value, match))
		}
		return true
	}
	t.Fatalf("action %s", r.Action)
	return false
}

// TestTheExampleScrapesOurPods: the example's configuration, given what Kubernetes says of the chart's pods, leads to their metrics.
func TestTheExampleScrapesOurPods(t *testing.T) {
	var config struct {
		RuleFiles     []string `json:"rule_files"`
		ScrapeConfigs []struct {
			Relabel []relabel `json:"relabel_configs"`
			SD      []any     `json:"kubernetes_sd_configs"`
		} `json:"scrape_configs"`
	}
	readYAML(t, "../examples/prometheus/prometheus.yml", &config)
	mustGlob(t, "../examples/prometheus/"+config.RuleFiles[0])
	r := render(t, Options{})
	for _, pod := range []struct {
		annotations    map[string]string
		ip, port, want string
	}{
		{as[appsv1.DaemonSet](t, find(t, r.Objects, "DaemonSet", "fairlead-node")).Spec.Template.Annotations, "10.244.1.2", "9901", "10.244.1.2:9901"},
		{as[appsv1.Deployment](t, find(t, r.Objects, "Deployment", "fairlead-controller")).Spec.Template.Annotations, "fd00::2", "9902", "[fd00::2]:9903"},
		{nil, "10.244.1.3", "80", ""},
	} {
		labels := map[string]string{
			"__address__": pod.ip + ":" + pod.port, "__metrics_path__": "/else", "__meta_kubernetes_pod_ip": pod.ip,
			"__meta_kubernetes_pod_container_port_number": pod.port, "__meta_kubernetes_pod_node_name": "n1", "__meta_kubernetes_pod_name": "p",
		}
		for name, value := range pod.annotations {
			labels["__meta_kubernetes_pod_annotation_"+regexp.MustCompile(`[^a-zA-Z0-9_]`).ReplaceAllString(name, "_")] = value
		}
		kept := !slices.ContainsFunc(config.ScrapeConfigs[0].Relabel, func(r relabel) bool { return !r.apply(t, labels) })
		if kept != (pod.want != "") {
			t.Errorf("%s is scraped: %t", pod.ip, kept)
		} else if kept && (labels["__address__"] != pod.want || labels["__metrics_path__"] != "/metrics" || labels["node"] != "n1") {
			t.Errorf("%s: %v", pod.ip, labels)
		}
	}
}
