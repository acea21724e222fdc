package main

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestProxySaysEverythingThatIsMissing(t *testing.T) {
	err := run(t.Context(), []string{"proxy", "--keeper="})
	for _, name := range []string{"--node", "--controller", "--keeper"} {
		if err == nil || !strings.Contains(err.Error(), name+" is required") {
			t.Errorf("%v, want %s", err, name)
		}
	}
	if err := run(t.Context(), []string{"proxy", "now"}); err == nil || !strings.Contains(err.Error(), `unexpected argument "now"`) {
		t.Errorf("proxy now: %v", err)
	}
}

func TestEveryProxyFlagIsDocumented(t *testing.T) {
	newProxyFlags().set.VisitAll(func(f *flag.Flag) {
		if len(f.Usage) < 10 {
			t.Errorf("--%s: %q", f.Name, f.Usage)
		}
	})
}

// As root it refuses to run; as anybody else it runs, without a keeper and a controller, until it is told to end.
func TestProxyRefusesRoot(t *testing.T) {
	if err := ordinaryUser(0); err == nil {
		t.Error("root may run the proxy")
	}
	if err := ordinaryUser(65532); err != nil {
		t.Errorf("an ordinary user: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err := run(ctx, []string{"proxy", "--node=n1", "--controller=127.0.0.1:1", "--admin=", "--log-level=ERROR",
		"--keeper", filepath.Join(t.TempDir(), "proxy.sock")})
	if root := os.Geteuid() == 0; root != (err != nil) || root && ctx.Err() != nil {
		t.Errorf("uid %d: %v", os.Geteuid(), err)
	}
}
