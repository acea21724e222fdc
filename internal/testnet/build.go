package testnet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

const referencePlugins = "github.com/containernetworking/plugins/plugins/"

// Build builds programs of this module, such as "./cmd/cni-plugin", into dir; each is named after its package's directory.
func Build(ctx context.Context, dir string, packages ...string) error {
	return goBuild(ctx, moduleRoot(), dir, packages)
}

// BuildReferencePlugins builds the CNI project's plugins that a lab uses into dir.
func BuildReferencePlugins(ctx context.Context, dir string) error {
	return goBuild(ctx, filepath.Join(moduleRoot(), "test", "plugins"), dir, []string{referencePlugins + "main/ptp",
		referencePlugins + "main/bridge", referencePlugins + "main/loopback", referencePlugins + "ipam/host-local"})
}

func goBuild(ctx context.Context, from, dir string, packages []string) error {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", append([]string{"build", "-o", abs + string(filepath.Separator)}, packages...)...)
	cmd.Dir = from
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("go build %v: %w: %s", packages, err, out.Bytes())
	}
	return nil
}

// moduleRoot is where this file's module lies: the lab is only ever run from its sources.
func moduleRoot() string {
	_, file, _, ok := runtime.Caller(0)
	if !ok {
		panic(errors.New("built without file names"))
	}
	return filepath.Dir(filepath.Dir(filepath.Dir(file)))
}

// publish copies a binary to where users without privileges may run it: tests build into directories of root's own.
func (l *Lab) publish(path string) (string, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	public := filepath.Join(l.dir, "bin", filepath.Base(path))
	if old, err := os.ReadFile(public); err == nil && bytes.Equal(old, content) {
		return public, nil
	}
	if err := os.MkdirAll(filepath.Dir(public), 0o755); err != nil {
		return "", err
	}
	// Aside first: the old one may be running.
	if err := os.WriteFile(public+".new", content, 0o755); err != nil {
		return "", err
	}
	return public, os.Rename(public+".new", public)
}
