package build

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLinkFlags(t *testing.T) {
	root := t.TempDir()
	if env, err := linkFlags(root); err != nil || env != nil {
		t.Errorf("without the package: %q, %v", env, err)
	}
	library := filepath.Join(root, "usr/lib/x/libseccomp.a")
	if err := errors.Join(os.MkdirAll(filepath.Dir(library), 0o755), os.WriteFile(library, nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	env, err := linkFlags(root)
	if diff := cmp.Diff([]string{"CGO_CFLAGS=-O2 -I" + root + "/usr/include", "CGO_LDFLAGS=-L" + filepath.Dir(library)}, env); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	if strings.Contains(pkgConfigScript, "-L") {
		t.Error("pkg-config says a place, which is taken for true when it is another")
	}
}
