package compile

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"fairlead.io/fairlead/internal/mesh"
)

// TestExamples: every manifest of the tasks is taken as it is, on top of the vote application, and does what its page says.
func TestExamples(t *testing.T) {
	files, err := filepath.Glob("../../examples/tasks/*.yaml")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	catalog, front := mesh.Name{Namespace: "vote", Name: "catalog"}, mesh.Name{Namespace: "vote", Name: "front"}
	rule := func(w *World, s mesh.Name) *mesh.Rule {
		if r := w.Routes(s); r != nil && len(r.Ports) == 1 && len(r.Ports[0].Rules) > 0 {
			return &r.Ports[0].Rules[0]
		}
		t.Errorf("no rule for %s", s)
		return &mesh.Rule{Backends: make([]mesh.Backend, 2)}
	}
	policy := func(w *World, s mesh.Name) *mesh.Traffic {
		if r := w.Routes(s); r != nil && len(r.Ports) == 1 && r.Ports[0].Policy != nil {
			return r.Ports[0].Policy
		}
		t.Errorf("no policy for %s", s)
		return &mesh.Traffic{Retry: &mesh.Retry{}, Breaker: &mesh.Breaker{}, Limit: &mesh.Limit{}}
	}
	want := map[string]func(w *World) bool{
		"versions": func(w *World) bool { return w.services["vote/catalog-v2"] != nil },
		"canary": func(w *World) bool {
			b := rule(w, catalog).Backends
			return len(b) == 2 && b[0].Weight == 90 && b[1].Weight == 10 && b[0].Broken+b[1].Broken == ""
		},
		"ab-by-header": func(w *World) bool { return rule(w, catalog).Backends[0].Service.Name == "catalog-v2" },
		"retries":      func(w *World) bool { return policy(w, catalog).Retry.Limit == 1 },
		"timeouts": func(w *World) bool {
			return rule(w, front).Request.Seconds() == 2 && rule(w, front).Attempt.Seconds() == 1
		},
		"circuit-breaking": func(w *World) bool { return policy(w, catalog).Breaker.Consecutive == 5 },
		"fault-injection":  func(w *World) bool { return len(policy(w, catalog).Faults) == 2 },
		"rate-limit":       func(w *World) bool { return policy(w, front).Limit.Each.Burst == 20 },
		"deny-by-default": func(w *World) bool {
			a := w.Delta(0, func(mesh.Name) bool { return true }).Authorizations
			return len(a) == 1 && a[0].All == "vote" && a[0].Action == mesh.Allow && len(a[0].Rules) == 0
		},
		"allow-one-caller": func(w *World) bool { return len(w.Delta(0, func(mesh.Name) bool { return true }).Authorizations) == 3 },
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		check := want[name]
		if check == nil {
			t.Errorf("%s: nobody knows what it should do", name)
			continue
		}
		all := []string{"../../examples/vote/vote.yaml", file}
		if name == "canary" || name == "ab-by-header" {
			all = append(all, "../../examples/tasks/versions.yaml")
		}
		w := worldOf(t, all...)
		if !check(w) {
			t.Errorf("%s does not do what its page says", name)
		}
		for _, p := range w.Problems() {
			if text := p.Err.Error(); !strings.Contains(text, "no cluster IP") && !strings.Contains(text, "It is about no pod") { // files are no cluster
				t.Errorf("%s: %v", name, p)
			}
		}
		if _, err := os.Stat("../../docs/tasks/" + name + ".md"); err != nil && name != "versions" {
			t.Errorf("%s has no page: %v", name, err)
		}
	}
	if n := len(want); n != len(files) {
		t.Errorf("%d files, %d are known", len(files), n)
	}
}

// worldOf reads files as a directory of them is read.
func worldOf(t *testing.T, files ...string) *World {
	t.Helper()
	dir := t.TempDir()
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(f)), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w := NewWorld(Config{})
	if err := NewDir(DirConfig{Path: dir, World: w}).Load(); err != nil {
		t.Fatal(err)
	}
	return w
}
