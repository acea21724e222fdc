package main

import (
	"context"
	"flag"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"fairlead.io/fairlead/internal/fleet"
	"fairlead.io/fairlead/internal/fleet/fleettest"
)

var update = flag.Bool("update", false, "write the expected output of the scripts anew")

// standingClock is the clock of the tool in scripts: it passes only where the tool waits.
func standingClock() fleet.Clock {
	var mu sync.Mutex
	now := fleettest.Noon
	return fleet.Clock{
		Now: func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			return now
		},
		Pause: func(_ context.Context, d time.Duration) error {
			mu.Lock()
			defer mu.Unlock()
			now = now.Add(d)
			return nil
		},
	}
}

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"fairlead": func() {
			os.Exit(execute(context.Background(), standingClock(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
		},
	})
}

// TestScripts runs the tool against an API server of objects in memory (cluster_test.go).
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Values[testingT{}] = t
			e.Setenv("HOME", e.WorkDir)
			ours, _, _ := strings.Cut(e.Getenv("PATH"), string(os.PathListSeparator)) // no kubectl but the script's own
			e.Setenv("PATH", e.WorkDir+"/bin"+string(os.PathListSeparator)+ours)
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"cluster": cluster,
			"changed": changed,
		},
	})
}
