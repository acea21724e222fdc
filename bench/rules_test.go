package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"fairlead.io/fairlead/internal/compile"
)

// TestRulesCompile: as many routes and policies as are said, and none that the compiler refuses for what it says itself.
func TestRulesCompile(t *testing.T) {
	text := rules("meshed", "origin")
	for kind, want := range map[string]int{"kind: HTTPRoute\n": routeCount * 4 / 5, "kind: GRPCRoute\n": routeCount / 5, "kind: AuthorizationPolicy\n": policyCount, "kind: TrafficPolicy\n": 1} {
		if n := strings.Count(text, kind); n != want {
			t.Errorf("%d of %q, want %d", n, kind, want)
		}
	}
	dir := t.TempDir()
	text += "---\napiVersion: v1\nkind: Service\nmetadata: {name: origin, namespace: meshed}\nspec: {clusterIP: 10.96.0.1, ports: ["
	for _, port := range []string{"8080", "8081", "8082", "8083", "8084"} {
		text += "{name: p" + port + ", port: " + port + "},"
	}
	text += "]}\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: meshed, labels: {fairlead.io/mesh: enabled}}\n"
	if err := os.WriteFile(filepath.Join(dir, "rules.yaml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	w := compile.NewWorld(compile.Config{})
	if err := compile.NewDir(compile.DirConfig{Path: dir, World: w}).Load(); err != nil {
		t.Fatal(err)
	}
	for _, p := range w.Problems() {
		if !strings.Contains(p.Err.Error(), "It is about no pod") { // there are none here
			t.Errorf("%v", p)
		}
	}
}
