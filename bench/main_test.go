package main

import (
	"regexp"
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
