package build

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// runc is the one program that needs C: it enters namespaces before Go's threads begin, and libseccomp compiles its filters.
func (w *work) runc(ctx context.Context) error {
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		return errors.New("no gcc in PATH: install gcc and libc6-dev (make packages does)")
	}
	root := filepath.Join(w.scratch, "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		return err
	}
	if err := w.unpack(ctx, root, linkPackages...); err != nil {
		return err
	}
	pkgConfig := filepath.Join(w.scratch, "pkg-config")
	if err := os.WriteFile(pkgConfig, []byte(pkgConfigScript), 0o755); err != nil {
		return err
	}
	env := []string{"CGO_ENABLED=1", "CC=" + gcc, "PKG_CONFIG=" + pkgConfig}
	flags, err := linkFlags(root)
	if err != nil {
		return err
	}
	ldflags := strip + " -linkmode external -extldflags -static -X main.version=" + strings.TrimPrefix(runcVersion, "v")
	return w.install(ctx, append(env, flags...), []string{"-tags=" + runcTags, "-ldflags=" + ldflags}, "github.com/opencontainers/runc@"+runcVersion)
}

// pkgConfigScript stands for pkg-config, which a machine need not have. It says nothing of where libseccomp is: Go keeps what
// pkg-config says with what it has compiled, and would take it for true the next time, when the directory is another.
const pkgConfigScript = `#!/bin/sh
case "$*" in
*--libs*) echo -lseccomp ;;
esac
`

// linkFlags say where libseccomp is, if root has it; else this machine does, and everybody finds it. Go compiles anew when
// they change.
func linkFlags(root string) (env []string, err error) {
	err = filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
		if err == nil && entry.Name() == "libseccomp.a" {
			env = []string{"CGO_CFLAGS=-O2 -I" + filepath.Join(root, "usr/include"), "CGO_LDFLAGS=-L" + filepath.Dir(path)}
		}
		return err
	})
	return env, err
}
