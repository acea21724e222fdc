package main

import (
	"errors"
	"flag"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestGlobalName(t *testing.T) {
	for _, test := range []struct {
		args string
		name string
		rest []string
		ok   bool
	}{
		{"up --nodes 3", "lab", []string{"up", "--nodes", "3"}, true},
		{"--name other kubectl --name theirs", "other", []string{"kubectl", "--name", "theirs"}, true},
		{"--nonsense up", "", nil, false},
	} {
		name, rest, err := globalName(strings.Fields(test.args))
		if name != test.name || !cmp.Equal(rest, test.rest) || (err == nil) != test.ok {
			t.Errorf("%s: %q %q %v", test.args, name, rest, err)
		}
	}
}

func TestFlags(t *testing.T) {
	for _, test := range []struct {
		args string
		want int
		ok   bool
	}{
		{"", 0, true}, {"x", 0, false}, {"n1", 1, true}, {"", 1, false}, {"n1 n2", 1, false}, {"", -1, false}, {"a b", -1, true},
		{"--name x n1", 1, true}, {"--nodes 2", 0, true}, {"--nodes two", 0, false}, {"--what", 0, false},
	} {
		e := env{name: "lab", args: strings.Fields(test.args)}
		err := e.flags(func(f *flag.FlagSet) { f.Int("nodes", 0, "") }, test.want)
		if (err == nil) != test.ok || err != nil && !errors.Is(err, errUsage) {
			t.Errorf("%q: %v", test.args, err)
		}
	}
}

func TestBehindDashes(t *testing.T) {
	for args, want := range map[string][]string{"-- ip route": {"ip", "route"}, "-- sh -- x": {"sh", "--", "x"}, "ip route": nil, "--": nil, "": nil} {
		got, err := behindDashes(strings.Fields(args))
		if !cmp.Equal(got, want) || (err == nil) != (want != nil) {
			t.Errorf("%q: %q, %v", args, got, err)
		}
	}
}

func TestEveryCommandIsInTheUsage(t *testing.T) {
	var out strings.Builder
	if err := run(t.Context(), nil, &out, &out); !errors.Is(err, errUsage) {
		t.Errorf("error %v", err)
	}
	for _, name := range strings.Fields("build up down status paths kubectl helm exec switch load stop start") {
		if !strings.Contains(out.String(), "\n  "+name+" ") && !strings.HasPrefix(out.String(), "  "+name+" ") {
			t.Errorf("no %s in %s", name, out.String())
		}
	}
}
