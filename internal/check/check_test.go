package check

import (
	"context"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"fairlead.io/fairlead/internal/fleet/fleettest"
)

// chart is the part of an installation that checks look at.
const chart = `
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: fairlead-controller}
rules:
- {apiGroups: [""], resources: [pods, nodes], verbs: [list, watch]}
- {apiGroups: [authentication.k8s.io], resources: [tokenreviews], verbs: [create]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: fairlead-controller, namespace: fairlead-system}
rules:
- {apiGroups: [coordination.k8s.io], resources: [leases], resourceNames: [fairlead-controller], verbs: [get, update]}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: fairlead-node, namespace: fairlead-system}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: policies.fairlead.io}
`

func objects(t *testing.T, text string) []*unstructured.Unstructured {
	t.Helper()
	var all []*unstructured.Unstructured
	for doc := range strings.SplitSeq(text, "\n---") {
		o := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(doc), &o.Object); err != nil {
			t.Fatal(err)
		}
		all = append(all, o)
	}
	return all
}

// well is a cluster in which every check is.
func well(t *testing.T) *fleettest.Cluster {
	t.Helper()
	c := fleettest.New(t)
	add(c, "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: policies.fairlead.io}")
	return c
}

func add(c *fleettest.Cluster, text string) {
	if err := c.Add([]byte(text)); err != nil {
		panic(err)
	}
}

func options(t *testing.T) Options {
	return Options{Version: "devel", Chart: installs(objects(t, chart)), Kubectl: func(context.Context) string { return "v1.36.0" }}
}

func installs(all []*unstructured.Unstructured) func(string, string) ([]*unstructured.Unstructured, error) {
	return func(string, string) ([]*unstructured.Unstructured, error) { return all, nil }
}

func everyCheck() map[string]Check {
	all := map[string]Check{}
	for _, g := range append(Mesh(), Before()...) {
		for _, c := range g.Checks {
			all[c.ID] = c
		}
	}
	return all
}

// only runs one check.
func only(t *testing.T, c *fleettest.Cluster, o Options, id string) Result {
	t.Helper()
	check, ok := everyCheck()[id]
	if !ok {
		t.Fatalf("there is no check %s", id)
	}
	report := Run(t.Context(), New(c.Fleet(t), o), []Group{{"test", []Check{check}}})
	return report.Groups[0].Checks[0]
}

func TestAWellClusterPasses(t *testing.T) {
	c := well(t)
	report := Run(t.Context(), New(c.Fleet(t), options(t)), Mesh())
	for _, g := range report.Groups {
		for _, r := range g.Checks {
			if r.Status != OK {
				t.Errorf("%s: %s, %q, %+v", r.ID, r.Status, r.Skipped, r.Findings)
			}
		}
	}
	if !report.Success || report.Failures+report.Warnings != 0 {
		t.Errorf("report: %+v", report)
	}
	for _, what := range c.Changed() {
		t.Errorf("a check has changed something: %s", what)
	}
}

func TestAClusterWithoutFairleadPassesBefore(t *testing.T) {
	c := well(t)
	c.Remove("/apis/apps/v1/namespaces/fairlead-system/deployments/fairlead-controller")
	report := Run(t.Context(), New(c.Fleet(t), options(t)), Before())
	for _, g := range report.Groups {
		for _, r := range g.Checks {
			if r.Status != OK {
				t.Errorf("%s: %s, %q, %+v", r.ID, r.Status, r.Skipped, r.Findings)
			}
		}
	}
	for _, what := range c.Changed() {
		t.Errorf("a check has changed something: %s", what)
	}
}

// TestWhatIsBrokenIsNamed breaks one thing at a time.
func TestWhatIsBrokenIsNamed(t *testing.T) {
	found := map[string]bool{}
	for _, b := range breakages() {
		t.Run(b.id+"/"+b.what, func(t *testing.T) {
			c, o := well(t), options(t)
			b.do(c, &o)
			r := only(t, c, o, b.id)
			if r.Status != b.want {
				t.Fatalf("%s, want %s: %q, %+v", r.Status, b.want, r.Skipped, r.Findings)
			}
			text := r.Skipped
			for _, f := range r.Findings {
				text += f.Text + "\n"
				if f.Hint == "" {
					t.Errorf("no hint: %s", f.Text)
				}
			}
			for _, says := range b.says {
				if !strings.Contains(text, says) {
					t.Errorf("no %q in %q", says, text)
				}
			}
			if r.See != "docs/CHECKS.md#"+b.id {
				t.Errorf("see %s", r.See)
			}
		})
		if b.want == Failure || b.want == Warning {
			found[b.id] = true
		}
	}
	for id := range everyCheck() {
		if !found[id] {
			t.Errorf("nothing breaks the check %s", id)
		}
	}
}

func TestNothingIsFoundOutWithoutAnAnswer(t *testing.T) {
	c := well(t)
	f := c.Fleet(t)
	c.Close()
	report := Run(t.Context(), New(f, options(t)), Mesh())
	if report.Success || report.Failures != 1 {
		t.Errorf("%d failures, want one", report.Failures)
	}
	for _, g := range report.Groups {
		for _, r := range g.Checks {
			if r.ID != "api" && (r.Status != Skipped || r.Skipped != "it needs the check api") {
				t.Errorf("%s: %s, %q", r.ID, r.Status, r.Skipped)
			}
		}
	}
}

// TestEveryCheckIsExplained holds docs/CHECKS.md to the table.
func TestEveryCheckIsExplained(t *testing.T) {
	text, err := os.ReadFile("../../docs/CHECKS.md")
	if err != nil {
		t.Fatal(err)
	}
	var headings []string
	for _, m := range regexp.MustCompile(`(?m)^### (\S+)$`).FindAllStringSubmatch(string(text), -1) {
		headings = append(headings, m[1])
	}
	all := everyCheck()
	for id, c := range all {
		if !slices.Contains(headings, id) {
			t.Errorf("docs/CHECKS.md does not explain %s: %s", id, c.About)
		}
	}
	for _, h := range headings {
		if _, ok := all[h]; !ok {
			t.Errorf("docs/CHECKS.md explains %s, which is no check", h)
		}
	}
	seen := map[string]bool{}
	for _, g := range Mesh() {
		for _, c := range g.Checks {
			if seen[c.ID] || c.About == "" {
				t.Errorf("%s is there twice, or says nothing", c.ID)
			}
			seen[c.ID] = true
		}
	}
}

func TestVersions(t *testing.T) {
	for text, want := range map[string][2]int{"v1.33.1+k3s1": {1, 33}, "v1.30.0-eks-1a2b": {1, 30}, "6.12.9-amd64": {6, 12}, "1.29": {1, 29}, "v1.31-rc.1": {1, 31}} {
		major, minor, err := versionOf(text)
		if err != nil || [2]int{major, minor} != want {
			t.Errorf("%s: %d.%d, %v", text, major, minor, err)
		}
	}
	for _, text := range []string{"", "v1", "one.two", "v1.x"} {
		if _, _, err := versionOf(text); err == nil {
			t.Errorf("%q was taken for a version", text)
		}
	}
}

func TestPrint(t *testing.T) {
	r := &Report{Failures: 1, Warnings: 1, Groups: []GroupResult{{"one", []Result{
		{ID: "a", About: "all is well", Status: OK, See: "p#a"},
		{ID: "b", About: "b is well", Status: Failure, See: "p#b", Findings: []Finding{{Text: "b is broken", Hint: "mend it"}}},
	}}, {"two", []Result{
		{ID: "c", About: "c is well", Status: Skipped, Skipped: "there is none", See: "p#c"},
		{ID: "d", About: "d is well", Status: Warning, See: "p#d", Findings: []Finding{{Text: "d is odd", Hint: "look", Warn: true}}},
	}}}}
	var long, short strings.Builder
	r.Print(&long, false)
	r.Print(&short, true)
	const want = `one
---
✓ all is well
✗ b is well
    b is broken
      hint: mend it
    see p#b

two
---
- c is well
    skipped: there is none
! d is well
    d is odd
      hint: look
    see p#d

Status: ✗ 1 failure, 1 warning
`
	if long.String() != want {
		t.Errorf("long:\n%s", long.String())
	}
	if s := short.String(); strings.Contains(s, "all is well") || strings.Contains(s, "skipped") || !strings.Contains(s, "✗ b is well") || !strings.Contains(s, "! d is well") {
		t.Errorf("short:\n%s", s)
	}
}

func later(d time.Duration) string {
	return fleettest.Noon.Add(d).Format("2006-01-02T15:04:05.000000Z")
}

// TestHowAPodIsMadeAnew gives the command that fits the pod.
func TestHowAPodIsMadeAnew(t *testing.T) {
	owned := func(kind string) func(*fleettest.Cluster, *Options) {
		return set(front, "metadata ownerReferences 0 kind", kind)
	}
	for want, do := range map[string]func(*fleettest.Cluster, *Options){
		"kubectl -n vote rollout restart deployment front":                owned("ReplicaSet"),
		"kubectl -n vote rollout restart statefulset front-5d8f7c9b6":     owned("StatefulSet"),
		"kubectl -n vote rollout restart daemonset front-5d8f7c9b6":       owned("DaemonSet"),
		"kubectl -n vote delete pod front-5d8f7c9b6-qw8rt`, if something": set(front, "metadata ownerReferences", []any{}),
	} {
		c, o := well(t), options(t)
		do(c, &o)
		c.Instead[fleettest.Node1+" /debug/pods"] = `[{"uid":"uid-front","inMesh":true,"earlier":2}]`
		r := only(t, c, o, "mesh-connections")
		if len(r.Findings) != 1 || !strings.Contains(r.Findings[0].Hint, want) {
			t.Errorf("%+v, want %q", r.Findings, want)
		}
	}
}
