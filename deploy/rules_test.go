package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// rule is one rule of a file for Prometheus.
type rule struct {
	Alert, Record, Expr string
	Labels, Annotations map[string]string
}

func rulesOf(t *testing.T) (all []rule) {
	t.Helper()
	for _, name := range mustGlob(t, "daemonset/rules/*.yaml") {
		var file struct {
			Groups []struct {
				Name  string
				Rules []rule
			}
		}
		readYAML(t, name, &file)
		for _, g := range file.Groups {
			all = append(all, g.Rules...)
		}
	}
	return all
}

func mustGlob(t *testing.T, pattern string) []string {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil || len(names) == 0 {
		t.Fatalf("%s: %v, %v", pattern, names, err)
	}
	return names
}

func readYAML(t *testing.T, name string, into any) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// TestRulesWithPromtool checks the rules, and runs their own tests. Debian's package prometheus has promtool.
func TestRulesWithPromtool(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		if os.Getenv("CI") == "true" || os.Getenv("REQUIRE_ROOT") == "1" {
			t.Fatal("needs promtool")
		}
		t.Skip("needs promtool")
	}
	for _, args := range [][]string{
		append([]string{"check", "rules"}, mustGlob(t, "daemonset/rules/*.yaml")...),
		append([]string{"test", "rules"}, mustGlob(t, "testdata/rules/*_test.yaml")...),
	} {
		if out, err := exec.CommandContext(t.Context(), promtool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// TestRulesAreTested: for each alert there is a case in which it fires and one in which it does not, for each recorded series one
// that looks at it.
func TestRulesAreTested(t *testing.T) {
	fires, silent, looked := map[string]bool{}, map[string]bool{}, ""
	for _, name := range mustGlob(t, "testdata/rules/*_test.yaml") {
		var file struct {
			Tests []struct {
				Alerts []struct {
					Name   string `json:"alertname"`
					Expect []any  `json:"exp_alerts"`
				} `json:"alert_rule_test"`
				Exprs []struct{ Expr string } `json:"promql_expr_test"`
			}
		}
		readYAML(t, name, &file)
		for _, test := range file.Tests {
			for _, a := range test.Alerts {
				fires[a.Name] = fires[a.Name] || len(a.Expect) > 0
				silent[a.Name] = silent[a.Name] || len(a.Expect) == 0
			}
			for _, e := range test.Exprs {
				looked += e.Expr + "\n"
			}
		}
	}
	alerts, records := 0, 0
	for _, r := range rulesOf(t) {
		if r.Record != "" {
			records++
			if !strings.Contains(looked, r.Record) {
				t.Errorf("nothing looks at %s", r.Record)
			}
			continue
		}
		alerts++
		if !fires[r.Alert] || !silent[r.Alert] {
			t.Errorf("%s: fires in a test: %t, does not in another: %t", r.Alert, fires[r.Alert], silent[r.Alert])
		}
		if !slices.Contains([]string{"critical", "warning"}, r.Labels["severity"]) || r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
			t.Errorf("%s: labels %v, annotations %v", r.Alert, r.Labels, r.Annotations)
		}
	}
	if alerts < 15 || records < 10 {
		t.Errorf("only %d alerts and %d recorded series found", alerts, records)
	}
}

// TestRulesAreInTheChart: the operator gets the same files.
func TestRulesAreInTheChart(t *testing.T) {
	r := render(t, cases["everything"])
	n := 0
	for _, name := range []string{"fairlead-alerts", "fairlead-recording"} {
		o := find(t, r.Objects, "PrometheusRule", name)
		if o == nil {
			t.Fatalf("no PrometheusRule %s", name)
		}
		for _, group := range field(t, o, "spec", "groups").([]any) {
			n += len(group.(map[string]any)["rules"].([]any))
		}
	}
	if want := len(rulesOf(t)); n != want {
		t.Errorf("%d rules in the chart, %d in the files", n, want)
	}
}
