package main

import (
	"errors"
	"strings"
	"testing"
)

func names(list []contender) string {
	var all []string
	for _, c := range list {
		all = append(all, c.name)
	}
	return strings.Join(all, " ")
}

// Who fails is left out and named; if it is us, the run ends.
func TestWhoFailsHasNoMoreTurns(t *testing.T) {
	us := contender{name: fairlead, mesh: true}
	turns := &turns{list: []contender{us, {name: "a"}, {name: "b"}}}
	if got := names(inRound(turns.list, 0)) + ", " + names(inRound(turns.list, 1)); got != "fairlead a b, b a fairlead" {
		t.Error(got)
	}
	if err := turns.drop(contender{name: "a"}, "pair_h1/low", errors.New("it slept")); err != nil {
		t.Error(err)
	}
	if got := names(inRound(turns.list, 2)); got != "fairlead b" || len(turns.left) != 1 || turns.left[0] != (left{"pair_h1/low", "a", "it slept"}) {
		t.Errorf("%s, %+v", got, turns.left)
	}
	if err := turns.drop(us, "pair_h1/low", errors.New("it slept")); err == nil || !strings.Contains(err.Error(), "pair_h1/low, fairlead: it slept") {
		t.Error(err)
	}
}

// Guests have their turns in the first rounds only.
func TestGuestsHaveFewTurns(t *testing.T) {
	list := []contender{{name: "a"}, {name: "b", guest: true}, {name: "c"}}
	if got := names(inRound(list, 2)) + ", " + names(inRound(list, 3)) + ", " + names(inRound(list, 4)); got != "a b c, c a, a c" {
		t.Error(got)
	}
	if names(list) != "a b c" {
		t.Error("the list was changed")
	}
}

// What is asked of each kind, and what its answer weighs.
func TestKinds(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range kinds(2) {
		if seen[k.name] {
			t.Errorf("two kinds are called %s", k.name)
		}
		seen[k.name] = true
		command := k.command(k.loads[0])
		if strings.Contains(command, "--h1") != (k.protocol == http1) || !strings.Contains(command, k.path()) {
			t.Errorf("%s: %s", k.name, command)
		}
	}
	for _, tc := range []struct {
		k      kind
		path   string
		answer int
	}{{kind{}, itemPath, pageSize}, {kind{size: 64 << 10}, "/size/65536", 64 << 10}, {kind{protocol: grpcUnary}, echoPath, 133}, {kind{protocol: grpcUnary, size: 1024}, echoPath, 1029}} {
		if tc.k.path() != tc.path || tc.k.answer() != tc.answer {
			t.Errorf("%+v: %s, %d", tc.k, tc.k.path(), tc.k.answer())
		}
	}
}
