package e2e

import (
	"testing"
	"time"
)

// step is a part of a test that goes through a life of the mesh, in order: what stands above a step has passed, or failed
// and cleaned up. The last ones take everything away. A single step: -run 'TestUse/^(before|installed|enrolled|probes)$'.
type step struct {
	name string
	test func(*testing.T)
}

// TestUse does with the mesh what its users do.
func TestUse(t *testing.T) {
	live(t, nil, []step{
		{"look", testLook},
		{"apps", testApps},
		{"uninstalled", testUninstalled},
		{"by-tool", testByTool},
	})
}

// leafTTL is how long certificates live in TestFaults, instead of four hours: an absence of a minute and a half is there what
// one of an hour and a half is elsewhere.
const leafTTL = 3 * time.Minute

// TestFaults does to it what happens to clusters.
func TestFaults(t *testing.T) {
	live(t, []string{"--set", "identity.leafTTL=" + leafTTL.String()}, []step{
		{"controller-away", testControllerAway},
		{"keeper-away", testKeeperAway},
		{"node-boots", testNodeBoots},
		{"breakages", testBreakages},
		{"uninstalled", testUninstalled},
	})
}

// TestChanges has it live through what operators do on purpose, and pods come and go.
func TestChanges(t *testing.T) {
	live(t, nil, []step{
		{"three-controllers", testThreeControllers},
		{"update", testUpdate},
		{"churn", testChurn},
		{"uninstalled", testUninstalled},
	})
}

// live installs the mesh with these flags of helm, has the vote application in it, and takes the steps.
func live(t *testing.T, flags []string, steps []step) {
	ready(t)
	lifeFlags = flags
	for _, s := range []step{
		{"before", testBefore},
		{"installed", testInstalled},
		{"enrolled", testEnrolled},
	} {
		if !t.Run(s.name, s.test) {
			t.Fatalf("without %q nothing else can be tested", s.name)
		}
	}
	for _, s := range steps {
		t.Run(s.name, s.test)
	}
}

// testLook is what users see.
func testLook(t *testing.T) {
	together(t, []step{
		{"tool", testTool},
		{"prometheus", testPrometheus},
	})
}

// testApps are applications of all kinds, each in namespaces of its own.
func testApps(t *testing.T) {
	together(t, []step{
		{"traffic", testTraffic},
		{"headless", testHeadless},
		{"two-addresses", testTwoAddresses},
		{"kinds", testKinds},
		{"probes", testProbes},
		{"ingress", testIngress},
		{"rewritten", testRewritten},
	})
}

// together takes steps that disturb nobody, side by side.
func together(t *testing.T, steps []step) {
	for _, s := range steps {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			s.test(t)
		})
	}
}
