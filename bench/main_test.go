package main

import (
	"os"
	"regexp"
	"runtime"
	"strings"
	"testing"
)

func TestCasesAreChosenByName(t *testing.T) {
	for pattern, want := range map[string]bool{"": true, "pair_h2/": true, "^one_node/saturated$": true, "idle": false, "p99_added": false, "pair_h1/lower": false} {
		o := options{only: regexp.MustCompile(pattern), seconds: 1}
		if got := o.wantsLoads(); got != want {
			t.Errorf("%q: %t, want %t", pattern, got, want)
		}
	}
}

// A quick run has no case that takes long, unless it is named; and none of our peers but HAProxy.
func TestQuickIsShort(t *testing.T) {
	for args, want := range map[string]map[string]bool{
		"":                                      {"pair_h1/saturated": true, "pair_h2_64b/saturated": true, "one_node_mtls/low": true},
		"--quick":                               {"pair_h1/saturated": true, "pair_h2_64b/saturated": false, "one_node_mtls/low": false},
		"--quick --case=^one_node_mtls --peers": {"pair_h1/saturated": false, "pair_h2_64b/saturated": false, "one_node_mtls/low": true},
	} {
		o, err := parse(strings.Fields(args))
		if err != nil {
			if os.Getenv("CI") != "true" && (os.Geteuid() != 0 || runtime.NumCPU() < 2) {
				t.Skip(err) // it says what the bench needs
			}
			t.Fatal(err)
		}
		if isWanted := !strings.Contains(args, "quick") || strings.Contains(args, "peers"); o.peers != isWanted {
			t.Errorf("%q: peers %t", args, o.peers)
		}
		for _, k := range kinds(1) {
			for _, l := range k.loads {
				name := k.name + "/" + l.name
				if should, named := want[name]; named && o.wantsLoad(k, l) != should {
					t.Errorf("%q, %s: %t", args, name, !should)
				}
			}
		}
	}
}

// Every load can be measured: there is more to it than what is left out at its beginning.
func TestLoadsAreLongEnough(t *testing.T) {
	for _, k := range kinds(2) {
		for _, l := range k.loads {
			if l.rate > 0 && l.requests < l.rate || l.connect != (l.requests == l.clients) {
				t.Errorf("%s/%s: %+v", k.name, l.name, l)
			}
		}
	}
}

// Who is slow gets fewer requests where it decides itself how many come in a second, and only there.
func TestRequestsAt(t *testing.T) {
	for _, tc := range []struct {
		l    offer
		rps  float64
		want int
	}{
		{offer{requests: 20000, seconds: 2}, 100000, 20000}, {offer{requests: 20000, seconds: 2}, 4000, 12000}, {offer{requests: 20000, seconds: 2}, 10, 5000},
		{offer{requests: 20000, rate: 5}, 10, 20000}, {offer{requests: 200, connect: true}, 10, 200},
	} {
		if got := tc.l.requestsAt(tc.rps); got != tc.want {
			t.Errorf("%+v at %v: %d, want %d", tc.l, tc.rps, got, tc.want)
		}
	}
}
