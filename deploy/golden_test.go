package deploy

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write the golden files")

// cases are the installations that the golden files show, and that what must hold of all is checked on.
var cases = map[string]Options{
	"default":    {},
	"ha":         {HA: true},
	"k3s":        {Values: mustProfile("k3s")},
	"own-ca":     {Values: mustValues("own-ca")},
	"existing":   {Values: mustValues("existing")},
	"everything": {Values: mustValues("everything"), Namespace: "mesh", ReleaseName: "m", AppVersion: "v9.9.9", KubeVersion: "v1.37.2"},
}

func mustProfile(name string) map[string]any {
	values, err := Profile(name)
	if err != nil {
		panic(err)
	}
	return values
}

func mustValues(name string) map[string]any {
	text, err := os.ReadFile(filepath.Join("testdata/values", name+".yaml"))
	if err != nil {
		panic(err)
	}
	var values map[string]any
	if err := yaml.UnmarshalStrict(text, &values); err != nil {
		panic(err)
	}
	return values
}

func render(t *testing.T, o Options) *Rendered {
	t.Helper()
	o.IncludeHooks = true
	r, err := Render(o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestGolden compares whole renders, hooks and notes included, with the files below testdata/golden; -update writes them.
func TestGolden(t *testing.T) {
	for name, o := range cases {
		t.Run(name, func(t *testing.T) {
			r := render(t, o)
			for _, h := range r.Hooks {
				r.Objects = append(r.Objects, h.Object)
			}
			for _, o := range r.Objects {
				if o.GetKind() == "CustomResourceDefinition" {
					delete(o.Object, "spec") // it is generated, and test/crds holds it to what it is for
				}
			}
			var got bytes.Buffer
			if err := YAML(&got, r.Objects); err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata/golden", name+".yaml")
			if *update {
				if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got.String()); diff != "" {
				t.Errorf("%s is not what is rendered (go test ./deploy -update writes it):\n%s", golden, diff)
			}
		})
	}
	files, err := filepath.Glob("testdata/golden/*.yaml")
	if err != nil || len(files) != len(cases) {
		t.Errorf("%d golden files for %d cases, %v", len(files), len(cases), err)
	}
}

// TestExamples: the values of the examples are values of this chart.
func TestExamples(t *testing.T) {
	for _, name := range mustGlob(t, "../examples/*/values.yaml") {
		var values map[string]any
		readYAML(t, name, &values)
		if _, err := Render(Options{Values: values}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestDeterministic: equal options, equal bytes, whatever the order of Go's maps.
func TestDeterministic(t *testing.T) {
	var first string
	for i := range 5 {
		var got bytes.Buffer
		if err := YAML(&got, render(t, cases["everything"]).Objects); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = got.String()
		} else if got.String() != first {
			t.Fatalf("differs:\n%s", cmp.Diff(first, got.String()))
		}
	}
}

// TestEverythingIsAnotherValue keeps the case "everything" honest: each leaf of values.yaml is there, and is another.
func TestEverythingIsAnotherValue(t *testing.T) {
	c, err := Chart()
	if err != nil {
		t.Fatal(err)
	}
	// Where these are set they exclude others, or mean other directories: they have cases of their own.
	elsewhere := map[string]bool{".trustDomain": true, ".identity": true, ".cni": true}
	var compare func(path string, defaults, values map[string]any)
	compare = func(path string, defaults, values map[string]any) {
		for key, value := range defaults {
			at := path + "." + key
			if elsewhere[at] {
				continue
			}
			table, isTable := value.(map[string]any)
			other, isThere := values[key]
			otherTable, _ := other.(map[string]any)
			switch {
			case !isThere:
				t.Errorf("testdata/values/everything.yaml lacks %s", at)
			case isTable && len(table) > 0 && key != "requests" && key != "limits" && key != "nodeSelector" && len(otherTable) > 0:
				compare(at, table, otherTable)
			case cmp.Equal(value, other):
				t.Errorf("%s is the default in testdata/values/everything.yaml", at)
			}
		}
	}
	compare("", c.Values, mustValues("everything"))
}
