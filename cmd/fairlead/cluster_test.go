package main

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"fairlead.io/fairlead/internal/fleet/fleettest"
	"fairlead.io/fairlead/internal/kube/remote/remotetest"
)

// clusters are those of the scripts that run, by their working directories.
var clusters sync.Map

// testingT is under which a script's environment has the test.
type testingT struct{}

// cluster starts a cluster with the script's files on top of it:
//
//	cluster [-empty] [-denied=[account:][verb/]resource,...] [-without=path,...] [-version=...] [-issuer=kind] [-leaf=kind] [-job=Complete|Failed|] [file.yaml...]
//
// A file named "pod@path" is what that pod answers instead, with % for the slashes of the path.
func cluster(ts *testscript.TestScript, _ bool, args []string) {
	c := fleettest.Empty(ts.Value(testingT{}).(testing.TB))
	empty, job := false, "Complete"
	var without, files []string
	for _, arg := range args {
		name, value, _ := strings.Cut(arg, "=")
		switch name {
		case "-empty":
			empty = true
		case "-denied":
			c.Denied = denier(strings.Split(value, ","))
		case "-without":
			without = strings.Split(value, ",")
		case "-version":
			c.Version = value
		case "-issuer":
			c.IssuerKind = fleettest.Kind(value)
		case "-job":
			job = value
		case "-leaf":
			c.LeafKind = fleettest.Kind(value)
		default:
			files = append(files, arg)
		}
	}
	c.Made = func(o remotetest.Object) { // the Job of the clean-up ends at once
		if o["kind"] == "Job" && job != "" {
			o["status"] = map[string]any{"conditions": []any{map[string]any{"type": job, "status": "True", "message": "deadline exceeded"}}}
		}
	}
	if !empty {
		ts.Check(c.Fill())
	}
	for _, f := range files {
		text := ts.ReadFile(f)
		if pod, path, ok := strings.Cut(filepath.Base(f), "@"); ok {
			c.Instead[pod+" "+strings.ReplaceAll(path, "%", "/")] = text
			continue
		}
		ts.Check(c.Add([]byte(text)))
	}
	for _, path := range without {
		if !c.Remove(path) {
			ts.Fatalf("there is no %s", path)
		}
	}
	config, err := c.Kubeconfig(ts.MkAbs("."), "vote")
	ts.Check(err)
	ts.Setenv("KUBECONFIG", config)
	ts.Setenv("SERVER", c.URL)
	clusters.Store(ts.MkAbs("."), c)
}

func denier(denied []string) func(remotetest.Access) bool {
	return func(a remotetest.Access) bool {
		for _, d := range denied {
			user, what, ofAccount := strings.Cut(d, ":")
			if !ofAccount {
				user, what = "", d
			}
			if verb, resource, ok := strings.Cut(what, "/"); ok {
				if verb != a.Verb {
					continue
				}
				what = resource
			}
			if what == a.Resource && (user == "") == (a.User == "") {
				return true
			}
		}
		return false
	}
}

// changed writes what was done to the cluster into the file "changed".
func changed(ts *testscript.TestScript, _ bool, _ []string) {
	c, ok := clusters.Load(ts.MkAbs("."))
	if !ok {
		ts.Fatalf("no cluster was started")
	}
	lines := c.(*fleettest.Cluster).Changed()
	ts.Check(os.WriteFile(ts.MkAbs("changed"), []byte(strings.Join(lines, "\n")+"\n"), 0o644))
}
