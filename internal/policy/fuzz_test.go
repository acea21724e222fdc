package policy

import (
	"net/url"
	"path"
	"strings"
	"testing"

	"fairlead.io/fairlead/internal/mesh"
)

// FuzzPaths: whatever a server makes of a path, what an ALLOW of a prefix lets in is below the prefix, and what is below the
// prefix a DENY of it refuses.
func FuzzPaths(f *testing.F) {
	for _, p := range []string{"/api", "/api/../admin", "/api/%2e%2e/admin", "/%61pi/x", "/api//x?a=b&c", "*", "", "/api;/x", "/api\\..\\admin", "/%2fapi", "/api/%2E."} {
		f.Add(p)
	}
	who := clients["web"]
	allow, deny := decider(mesh.PolicyAllow, "ALLOW pod any path:/api"), decider(mesh.PolicyAllow, "DENY pod any path:/api")
	f.Fuzz(func(t *testing.T, target string) {
		h := &head{method: "GET", path: target}
		raw, _, _ := strings.Cut(target, "?")
		meant, err := url.PathUnescape(raw)
		if err != nil {
			meant = raw
		}
		meant = path.Clean(strings.ReplaceAll(meant, "\\", "/"))
		within := meant == "/api" || strings.HasPrefix(meant, "/api/")
		if allow.Request(&who, 80, h).Allowed && !within {
			t.Errorf("%q is let in, and means %q", target, meant)
		}
		if within && strings.HasPrefix(raw, "/") && deny.Request(&who, 80, h).Allowed {
			t.Errorf("%q is not refused, and means %q", target, meant)
		}
	})
}
