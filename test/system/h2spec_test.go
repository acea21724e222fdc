package system

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/testnet"
)

// h2specAllowed is how many of h2spec's cases may fail; docs/HTTP.md lists and explains them: what begins with an
// invalid preface is no HTTP/2, and a transparent proxy passes it on to the app as it is.
const h2specAllowed = 1

// TestH2spec runs h2spec against the proxy's plaintext HTTP/2 side, in both directions.
func TestH2spec(t *testing.T) {
	m := newMesh(t, testnet.MeshConfig{})
	h2spec := filepath.Join(t.TempDir(), "h2spec")
	buildTool(t, h2spec, "github.com/summerwind/h2spec/cmd/h2spec")

	app := mustAddPod(t, m.Lab.Node(1), testnet.PodSpec{Name: "app"})
	mustStart(t, app, testnet.Command{Path: binary("h2capp"), Log: "h2capp.log"})
	for direction, namespace := range map[string]string{"outbound": "app", "inbound": "default"} {
		client := mustAddPod(t, m.Lab.Node(0), testnet.PodSpec{Name: direction, Namespace: namespace})
		eventually(t, 10*time.Second, "the app answers", func() error {
			c, err := client.Dial(t.Context(), "tcp", app.Addr(4).String()+":8080")
			if err == nil {
				c.Close()
			}
			return err
		})
		out, err := client.Run(t.Context(), testnet.Command{Path: h2spec,
			Args: []string{"-h", app.Addr(4).String(), "-p", "8080", "-o", "3"}})
		passed, failed := h2specResult(t, string(out), err)
		t.Logf("%s: %d passed, %d failed", direction, passed, failed)
		if passed < 140 || failed > h2specAllowed {
			t.Errorf("%s: %d passed, %d failed, %d may:\n%s", direction, passed, failed, h2specAllowed, failures(string(out)))
		}
	}
}

var h2specLine = regexp.MustCompile(`(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed`)

func h2specResult(t *testing.T, out string, err error) (passed, failed int) {
	t.Helper()
	found := h2specLine.FindStringSubmatch(out)
	if found == nil {
		t.Fatalf("h2spec said nothing of use: %v\n%s", err, out)
	}
	passed, _ = strconv.Atoi(found[2])
	failed, _ = strconv.Atoi(found[4])
	return passed, failed
}

// failures is the part of the report that names them.
func failures(out string) string {
	_, list, ok := strings.Cut(out, "Failures:")
	if !ok {
		return out
	}
	return list
}

// buildTool builds a program of the module test/tools.
func buildTool(t testing.TB, out, pkg string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", out, pkg)
	cmd.Dir = filepath.Join("..", "tools")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, b)
	}
}
