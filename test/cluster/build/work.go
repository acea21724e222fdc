package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// stepTimeout bounds a single program of the build. The longest took 23 minutes on a busy machine with two cores.
const stepTimeout = 90 * time.Minute

// work is a step at work.
type work struct {
	*Builder
	out     string // what becomes the step's directory
	scratch string // what is thrown away
}

// build builds a package of the module of Kubernetes.
func (w *work) build(ctx context.Context, ldflags, name, pkg string) error {
	return w.goTool(ctx, w.Source, nil, "build", "-trimpath", "-buildvcs=false", "-ldflags="+ldflags, "-o", filepath.Join(w.out, name), pkg)
}

// install builds packages of other modules, with the versions that those ask for.
func (w *work) install(ctx context.Context, env, flags []string, packages ...string) error {
	args := append([]string{"install", "-trimpath", "-buildvcs=false"}, flags...)
	return w.goTool(ctx, w.scratch, append([]string{"GOBIN=" + w.out}, env...), append(args, packages...)...)
}

func (w *work) goTool(ctx context.Context, dir string, env []string, args ...string) error {
	path, err := exec.LookPath("go")
	if err != nil {
		return errors.New("no go in PATH: Go is needed to build")
	}
	env = append([]string{"CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off", "GOTMPDIR=" + w.scratch}, env...)
	return w.program(ctx, dir, env, path, args...)
}

// program runs a program to its end. What it says is seen, and its children end with it.
func (w *work) program(ctx context.Context, dir string, env []string, name string, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = w.Out, w.Out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return fmt.Errorf("%s %s: %w", filepath.Base(name), args[0], err)
	}
	return nil
}
