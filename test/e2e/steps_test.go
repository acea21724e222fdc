package e2e

import "testing"

// TestCluster goes through the life of the mesh on one cluster, in this order: what stands above a step has passed, or
// failed and cleaned up. The last one takes everything away. A single step: -run 'TestCluster/^(installed|enrolled)$'.
func TestCluster(t *testing.T) {
	ready(t)
	for _, step := range []struct {
		name string
		test func(*testing.T)
	}{
		{"before", testBefore},
		{"installed", testInstalled},
		{"enrolled", testEnrolled},
		{"tool", testTool},
		{"apps", testApps},
		{"probes", testProbes},
		{"prometheus", testPrometheus},
		{"churn", testChurn},
		{"controller-away", testControllerAway},
		{"keeper-away", testKeeperAway},
		{"node-boots", testNodeBoots},
		{"three-controllers", testThreeControllers},
		{"update", testUpdate},
		{"breakages", testBreakages},
		{"uninstalled", testUninstalled},
		{"by-tool", testByTool},
	} {
		if !t.Run(step.name, step.test) && essential[step.name] {
			t.Fatalf("without %q nothing else can be tested", step.name)
		}
	}
}

// essential are steps that all others stand on.
var essential = map[string]bool{"before": true, "installed": true, "enrolled": true}

// testApps are the tests that disturb nobody: side by side, each in namespaces of its own.
func testApps(t *testing.T) {
	for _, step := range []struct {
		name string
		test func(*testing.T)
	}{
		{"traffic", testTraffic},
		{"headless", testHeadless},
		{"kinds", testKinds},
		{"ingress", testIngress},
		{"rewritten", testRewritten},
	} {
		t.Run(step.name, func(t *testing.T) {
			t.Parallel()
			step.test(t)
		})
	}
}
