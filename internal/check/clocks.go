package check

import (
	"context"
	"fmt"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"

	"fairlead.io/fairlead/internal/fleet"
	"fairlead.io/fairlead/internal/kube/remote"
)

// Certificates begin a minute in the past, so that clocks may differ by as much; half of it is worth a word.
const (
	skewFails = time.Minute
	skewWarns = 30 * time.Second
)

// kubeletRenews is how old the lease of a node that is well can be: it is renewed every 10 seconds, and missed now and then.
const kubeletRenews = 40 * time.Second

func clocksGroup() Group {
	return Group{"clocks", []Check{
		{ID: "clock-here", About: "this machine's clock agrees with the API server's", Run: checkOwnClock},
		{ID: "clock-nodes", About: "the nodes' clocks agree with the API server's", Run: checkNodeClocks},
		{ID: "clock-programs", About: "the clocks of controller and proxies agree with it", Run: checkProgramClocks},
	}}
}

const clockHint = "set the clock, and keep it right with NTP (chrony, systemd-timesyncd): certificates are refused that begin in the future or have expired"

func checkOwnClock(ctx context.Context, s *State) ([]Finding, error) {
	f, err := s.serverFacts(ctx)
	if err != nil {
		return nil, err
	}
	ahead := f.ahead
	if ahead.Abs() <= f.error+skewWarns {
		return nil, nil
	}
	return []Finding{warned("set this machine's clock; the nodes' are looked at by themselves", "this machine's clock is %s the API server's", apart(-ahead))}, nil
}

// apart says how far a clock is off.
func apart(ahead time.Duration) string {
	if ahead < 0 {
		return fmt.Sprintf("%s behind", (-ahead).Round(time.Second))
	}
	return fmt.Sprintf("%s ahead of", ahead.Round(time.Second))
}

// clockFinding judges a difference; it is only taken as far as it is certain.
func clockFinding(whose string, ahead, uncertain time.Duration) []Finding {
	certain := ahead.Abs() - uncertain
	switch {
	case certain > skewFails:
		return []Finding{failed(clockHint, "the clock of %s is %s the API server's", whose, apart(ahead))}
	case certain > skewWarns:
		return []Finding{warned(clockHint, "the clock of %s is %s the API server's", whose, apart(ahead))}
	}
	return nil
}

// checkNodeClocks goes by the leases that kubelets renew by their nodes' clocks.
func checkNodeClocks(ctx context.Context, s *State) ([]Finding, error) {
	f, err := s.serverFacts(ctx)
	if err != nil {
		return nil, err
	}
	leases, err := remote.List[coordinationv1.Lease](ctx, s.Client, remote.Query{Namespace: "kube-node-lease"})
	if err != nil {
		return nil, err
	}
	nodes, err := s.allNodes(ctx)
	if err != nil {
		return nil, err
	}
	ready := map[string]bool{}
	for i := range nodes {
		ready[nodes[i].Name] = isReady(&nodes[i])
	}
	now := s.Clock.Time().Add(f.ahead)
	var found []Finding
	for _, l := range leases {
		if l.Spec.RenewTime == nil || !ready[l.Name] {
			continue // a kubelet that is away does not tell the time
		}
		switch ahead := l.Spec.RenewTime.Sub(now); {
		case ahead > 0:
			found = append(found, clockFinding("node "+l.Name, ahead, f.error)...)
		case ahead < -kubeletRenews: // it may have renewed its lease up to so long ago, by a clock that is right
			found = append(found, clockFinding("node "+l.Name, ahead, kubeletRenews+f.error)...)
		}
	}
	return found, nil
}

func isReady(n *corev1.Node) bool {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// checkProgramClocks goes by the dates of the programs' own answers.
func checkProgramClocks(ctx context.Context, s *State) ([]Finding, error) {
	f, err := s.serverFacts(ctx)
	if err != nil {
		return nil, err
	}
	scrapes, err := s.metrics(ctx)
	if err != nil {
		return nil, err
	}
	if leader, err := s.leaderMetrics(ctx); err == nil && leader != nil {
		scrapes = append([]fleet.Told[fleet.Metrics]{*leader}, scrapes...)
	}
	var found []Finding
	asked := 0
	for _, t := range scrapes {
		if t.Err != nil || t.Date.IsZero() {
			continue
		}
		asked++
		whose := "the node " + t.Node()
		if t.Pod.Labels["app.kubernetes.io/component"] == "controller" {
			whose = "the controller " + t.Pod.Name
		}
		// The answer came a moment after it was dated, and a date is exact to a second.
		ahead := t.Date.Add(time.Second / 2).Sub(t.At.Add(f.ahead))
		found = append(found, clockFinding(whose, ahead, f.error+2*time.Second)...)
	}
	if asked == 0 {
		return nil, skip("nobody answers")
	}
	return found, nil
}
