package system

import (
	"context"
	"encoding/json"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// demoVerdict is the last line of demo --once.
type demoVerdict struct {
	Requests     uint64  `json:"requests"`
	Failed       uint64  `json:"failed_unexpectedly"`
	FailingRoute string  `json:"failing_route"`
	MTLSRatio    float64 `json:"mtls_ratio"`
	Leaks        uint64  `json:"plaintext_leaks"`
	Left         int     `json:"left_in_kernel"`
}

// TestDemo runs the demo with the mesh, and without it: so we know that what it shows can fail.
func TestDemo(t *testing.T) {
	root(t)
	v, code, out := runDemo(t, "--length=8s")
	if code != 0 || v.Requests < 50 || v.Failed != 0 || !strings.Contains(v.FailingRoute, "VoteDoughnut") || v.MTLSRatio != 1 || v.Leaks != 0 || v.Left != 0 {
		t.Errorf("with the mesh: exit %d: %s", code, out)
	}
	v, code, out = runDemo(t, "--length=4s", "--mesh=off")
	if code != 1 || v.Requests == 0 || v.MTLSRatio != 0 || v.Leaks == 0 {
		t.Errorf("without the mesh: exit %d: %s", code, out)
	}
}

func runDemo(t *testing.T, args ...string) (v demoVerdict, code int, out string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	b, err := exec.CommandContext(ctx, filepath.Join(bin, "demo"), append([]string{"--once", "--bin=" + bin}, args...)...).CombinedOutput()
	exit, _ := errors.AsType[*exec.ExitError](err)
	if err != nil && exit == nil {
		t.Fatal(err)
	}
	if exit != nil {
		code = exit.ExitCode()
	}
	out = strings.TrimSpace(string(b))
	lines := strings.Split(out, "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &v); err != nil {
		t.Fatalf("exit %d, no verdict: %v\n%s", code, err, out)
	}
	return v, code, out
}
