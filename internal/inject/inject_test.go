package inject

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

var on = Label{"fairlead.io/mesh", "enabled"}

func TestManifests(t *testing.T) {
	for _, tc := range []struct {
		name, in, want string
		labelled       int
	}{
		{"a namespace without labels", "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: shop # ours\n",
			"apiVersion: v1\nkind: Namespace\nmetadata:\n  labels:\n    fairlead.io/mesh: enabled\n  name: shop # ours\n", 1},
		{"labels that are there", "kind: Namespace\nmetadata:\n    name: shop\n    labels:\n        team: a\n",
			"kind: Namespace\nmetadata:\n    name: shop\n    labels:\n        fairlead.io/mesh: enabled\n        team: a\n", 1},
		{"another value", "kind: Namespace\nmetadata:\n  labels:\n    fairlead.io/mesh: disabled # for now\n",
			"kind: Namespace\nmetadata:\n  labels:\n    fairlead.io/mesh: enabled # for now\n", 1},
		{"another value in quotes", "kind: Namespace\nmetadata:\n  labels:\n    \"fairlead.io/mesh\": 'disabled'\n",
			"kind: Namespace\nmetadata:\n  labels:\n    \"fairlead.io/mesh\": \"enabled\"\n", 1},
		{"done already", "kind: Pod\nmetadata: {name: a, labels: {fairlead.io/mesh: enabled}}\n", "kind: Pod\nmetadata: {name: a, labels: {fairlead.io/mesh: enabled}}\n", 1},
		{"a deployment, not its own labels",
			"kind: Deployment\nmetadata:\n  labels: {app: a}\nspec:\n  selector:\n    matchLabels: {app: a}\n  template:\n    metadata:\n      labels:\n        app: a\n    spec: {}\n",
			"kind: Deployment\nmetadata:\n  labels: {app: a}\nspec:\n  selector:\n    matchLabels: {app: a}\n  template:\n    metadata:\n      labels:\n        fairlead.io/mesh: enabled\n        app: a\n    spec: {}\n", 1},
		{"a cron job", "kind: CronJob\nspec:\n  jobTemplate:\n    spec:\n      template:\n        spec:\n          containers: []\n",
			"kind: CronJob\nspec:\n  jobTemplate:\n    spec:\n      template:\n        metadata:\n          labels:\n            fairlead.io/mesh: enabled\n        spec:\n          containers: []\n", 1},
		{"a list", "kind: List\nitems:\n- kind: Pod\n  metadata:\n    name: a\n- kind: Service\n  metadata: {name: b}\n",
			"kind: List\nitems:\n- kind: Pod\n  metadata:\n    labels:\n      fairlead.io/mesh: enabled\n    name: a\n- kind: Service\n  metadata: {name: b}\n", 1},
		{"in braces", "{kind: Namespace, metadata: {name: é, labels: {a: b}}}\n", "{kind: Namespace, metadata: {name: é, labels: {\"fairlead.io/mesh\": \"enabled\", a: b}}}\n", 1},
		{"JSON", "{\"kind\": \"DeploymentList\", \"items\": [{\"kind\": \"Deployment\", \"spec\": {\"template\": {\"metadata\": {\"creationTimestamp\": null}}}}]}",
			"{\"kind\": \"DeploymentList\", \"items\": [{\"kind\": \"Deployment\", \"spec\": {\"template\": {\"metadata\": {\"labels\": {\"fairlead.io/mesh\": \"enabled\"}, \"creationTimestamp\": null}}}}]}", 1},
		{"no metadata in braces", `{"kind": "Pod"}`, `{"metadata": {"labels": {"fairlead.io/mesh": "enabled"}}, "kind": "Pod"}`, 1},
		{"empty labels", "kind: Pod\nmetadata:\n  labels: {}\n", "kind: Pod\nmetadata:\n  labels: {\"fairlead.io/mesh\": \"enabled\"}\n", 1},
		{"labels without a value", "kind: Pod\nmetadata:\n  labels:\n  name: a\n", "kind: Pod\nmetadata:\n  labels: {fairlead.io/mesh: enabled}\n  name: a\n", 1},
		{"labels that are null", "kind: Pod\nmetadata:\n  labels: null # none\n", "kind: Pod\nmetadata:\n  labels: {fairlead.io/mesh: enabled} # none\n", 1},
		{"metadata that is null", "kind: Pod\n\"metadata\": ~\n", "kind: Pod\n\"metadata\": {labels: {fairlead.io/mesh: enabled}}\n", 1},
		{"several documents", "# first\nkind: Service\n---\nkind: Namespace\nmetadata:\n  name: a\n---\n\n---\njust text\n",
			"# first\nkind: Service\n---\nkind: Namespace\nmetadata:\n  labels:\n    fairlead.io/mesh: enabled\n  name: a\n---\n\n---\njust text\n", 1},
		{"lines of Windows", "kind: Pod\r\nmetadata:\r\n  name: a\r\n", "kind: Pod\r\nmetadata:\r\n  labels:\r\n    fairlead.io/mesh: enabled\r\n  name: a\r\n", 1},
		{"a kind of somebody else", "kind: Rollout\nspec: {template: {metadata: {}}}\n", "kind: Rollout\nspec: {template: {metadata: {}}}\n", 0},
		{"a workload without a template", "kind: Deployment\nspec: {}\n", "kind: Deployment\nspec: {}\n", 0},
		{"nothing", "", "", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out, n, err := Manifests(strings.NewReader(tc.in), on)
			if err != nil || n != tc.labelled {
				t.Fatalf("%d labelled, want %d: %v", n, tc.labelled, err)
			}
			if diff := cmp.Diff(tc.want, string(out)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			again, _, err := Manifests(bytes.NewReader(out), on)
			if err != nil || !bytes.Equal(again, out) {
				t.Errorf("a second time: %v\n%s", err, again)
			}
		})
	}
}

func TestWhatCannotBeLabelled(t *testing.T) {
	for in, want := range map[string]string{
		"kind: Pod\n\tmetadata: a\n":                                       "read manifests",
		"kind: Pod\nmetadata: [a]\n":                                       "label Pod : its metadata is no mapping",
		"kind: Pod\nmetadata: {name: a, labels: b}\n":                      "label Pod a: its labels are no mapping",
		"kind: Pod\nmetadata:\n  labels:\n    fairlead.io/mesh: [a]\n":     "is no text",
		"kind: Pod\nmetadata:\n  labels:\n    fairlead.io/mesh: |\n     a": "cannot be changed",
		"kind: Pod\rmetadata:\r  name: a\r":                                "cannot be changed line by line",
		"kind: Pod\u2028metadata:\u2028  name: a":                          "cannot be changed line by line",
	} {
		if out, _, err := Manifests(strings.NewReader(in), on); err == nil || !strings.Contains(err.Error(), want) || out != nil {
			t.Errorf("%q: %v, want %q", in, err, want)
		}
	}
}

// FuzzManifests: what comes out is YAML, has the labels that were counted, and does not change a second time.
func FuzzManifests(f *testing.F) {
	for _, seed := range []string{
		"kind: Pod\nmetadata: {labels: {a: b}}", "kind: List\nitems:\n- kind: Pod\n  metadata:\n    name: a\n", `{"kind":"Namespace","metadata":null}`,
		"kind: Deployment\nspec:\n  template:\n    metadata: &m\n      labels: # none\n", "é: {kind: Pod}\n---\nkind: 'Pod'\n\"metadata\": {}\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		out, n, err := Manifests(bytes.NewReader(in), on)
		if err != nil {
			return
		}
		if n == 0 && !bytes.Equal(in, out) {
			t.Fatalf("nothing was labelled, and yet it has changed:\n%q\n%q", in, out)
		}
		for d := yaml.NewDecoder(bytes.NewReader(out)); ; {
			var doc yaml.Node
			if err := d.Decode(&doc); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("no YAML comes out: %v\n%q\n%q", err, in, out)
			}
		}
		again, m, err := Manifests(bytes.NewReader(out), on)
		if err != nil || m != n || !bytes.Equal(again, out) {
			t.Fatalf("a second time: %d and %d labelled, %v\n%q\n%q\n%q", n, m, err, in, out, again)
		}
	})
}
