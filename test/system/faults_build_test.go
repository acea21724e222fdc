package system

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// buildPrograms builds the tests' own programs.
func buildPrograms(ctx context.Context, dir string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-o", dir+string(filepath.Separator), "./cmd/...")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the tests' programs: %w: %s", err, out)
	}
	return nil
}
