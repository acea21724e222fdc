package fairlead_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// nodeSide is what runs on a node. CA keys never reach it, so nothing there can even hold a CA: identity has both
// the CA and what everybody needs, and import rules cannot tell them apart.
var nodeSide = []string{"internal/node", "internal/keeper", "internal/redirect", "internal/l7", "internal/cni", "cmd/nodeproxy", "cmd/cni-plugin"}

func TestNoCAOnNodes(t *testing.T) {
	for _, dir := range nodeSide {
		if _, err := os.Stat(dir); os.IsNotExist(err) {
			continue // its rule waits for it
		}
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			src, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			uses, err := usesOfCA(path, src)
			for _, use := range uses {
				t.Errorf("%s\n\tagainst the rule that CA keys never reach a node", use)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// usesOfCA names each mention of a CA of the identity package: CA, NewCA, ParseCA and the like.
func usesOfCA(path string, src []byte) ([]string, error) {
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, src, 0)
	if err != nil {
		return nil, fmt.Errorf("parse: %w", err)
	}
	identity := ""
	for _, spec := range file.Imports {
		if imported, _ := strconv.Unquote(spec.Path.Value); imported == module+"internal/identity" {
			identity = "identity"
			if spec.Name != nil {
				identity = spec.Name.Name
			}
		}
	}
	if identity == "" {
		return nil, nil
	}
	var uses []string
	ast.Inspect(file, func(n ast.Node) bool {
		if selector, ok := n.(*ast.SelectorExpr); ok && strings.HasSuffix(selector.Sel.Name, "CA") {
			if pkg, ok := selector.X.(*ast.Ident); ok && pkg.Name == identity {
				uses = append(uses, fmt.Sprintf("%s: identity.%s", set.Position(n.Pos()), selector.Sel.Name))
			}
		}
		return true
	})
	if identity == "." {
		uses = append(uses, path+": dot import of identity")
	}
	return uses, nil
}

func TestUsesOfCA(t *testing.T) {
	const plain, named = `import "fairlead.io/fairlead/internal/identity"`, `import id "fairlead.io/fairlead/internal/identity"`
	for _, test := range []struct {
		src  string
		want string
	}{
		{plain + "; var b *identity.Bundle", ""},
		{plain + "; func f(*identity.CA) {}", "n.go:1:69: identity.CA"},
		{named + "; var ca, _ = id.NewCA(td)", "n.go:1:76: identity.NewCA"},
		{`import "example.com/identity"; var ca = identity.NewCA()`, ""},
		{`import . "fairlead.io/fairlead/internal/identity"`, "n.go: dot import of identity"},
	} {
		got, err := usesOfCA("n.go", []byte("package n; "+test.src))
		if err != nil || strings.Join(got, "\n") != test.want {
			t.Errorf("%s: %q, %v, want %q", test.src, got, err, test.want)
		}
	}
}
