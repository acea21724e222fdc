package fleet_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"fairlead.io/fairlead/internal/fleet"
	"fairlead.io/fairlead/internal/fleet/fleettest"
	"fairlead.io/fairlead/internal/node/debug"
)

// TestWhoDoesNotAnswerCostsNobodyElse: each has its own error.
func TestWhoDoesNotAnswerCostsNobodyElse(t *testing.T) {
	c := fleettest.New(t)
	c.Instead[fleettest.Node1+" "+debug.NodePath] = "no JSON"
	f := c.Fleet(t)
	pods, err := f.NodePods(t.Context())
	if err != nil || len(pods) != 2 || pods[0].Name != fleettest.Node1 {
		t.Fatalf("%d pods, %v", len(pods), err)
	}
	stopped := *pods[1].DeepCopy()
	stopped.Status.ContainerStatuses[1].State = corev1.ContainerState{}
	told := fleet.Proxies[debug.Node](t.Context(), f, append(pods, stopped), debug.NodePath, nil)
	for i, want := range []string{"read what pod fairlead-node-h7wq2 answered to /debug/node", "", "container proxy of pod fairlead-node-p9x4k does not run"} {
		if err := told[i].Err; (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%d: %v, want %q", i, err, want)
		}
	}
	if told[1].What.Node != "n2" || !told[1].Date.Equal(fleettest.Noon) || !told[1].At.Equal(fleettest.Noon) || told[1].Node() != "n2" {
		t.Errorf("%+v", told[1])
	}
}

func TestWhoLeads(t *testing.T) {
	c := fleettest.New(t)
	f := c.Fleet(t)
	if leader, err := f.Leader(t.Context()); err != nil || leader != fleettest.Controller {
		t.Errorf("%q, %v", leader, err)
	}
	c.Remove("/apis/coordination.k8s.io/v1/namespaces/fairlead-system/leases/fairlead-controller")
	if leader, err := f.Leader(t.Context()); err != nil || leader != "" {
		t.Errorf("without a lease: %q, %v", leader, err)
	}
	for holder, want := range map[string]bool{"web-0": true, "web-0_1234": true, "web-01": false, "": false, "other": false} {
		if fleet.IsHolder(holder, "web-0") != want {
			t.Errorf("%q: want %t", holder, want)
		}
	}
}
