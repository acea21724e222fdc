package build

import (
	"context"
	"errors"
	"fmt"
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
	pkgConfig, err := w.pkgConfig(root)
	if err != nil {
		return err
	}
	return w.install(ctx, []string{"CGO_ENABLED=1", "CC=" + gcc, "PKG_CONFIG=" + pkgConfig},
		[]string{"-tags=" + runcTags, "-ldflags=" + strip + " -linkmode external -extldflags -static -X main.version=" + strings.TrimPrefix(runcVersion, "v")},
		"github.com/opencontainers/runc@"+runcVersion)
}

// pkgConfig writes a program that says where libseccomp is: in root, or on this machine, which then has the package.
func (w *work) pkgConfig(root string) (string, error) {
	var libraries string
	err := filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
		if err == nil && entry.Name() == "libseccomp.a" {
			libraries = "-L" + filepath.Dir(path) + " "
		}
		return err
	})
	if err != nil {
		return "", err
	}
	script := fmt.Sprintf("#!/bin/sh\ncase \"$*\" in\n*--cflags*) echo '-I%s/usr/include' ;;\n*--libs*) echo '%s-lseccomp' ;;\nesac\n", root, libraries)
	path := filepath.Join(w.scratch, "pkg-config")
	return path, os.WriteFile(path, []byte(script), 0o755)
}
