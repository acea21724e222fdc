package check

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"fairlead.io/fairlead/internal/fleet"
	"fairlead.io/fairlead/internal/kube/remote"
)

func controllerGroup() Group {
	return Group{"controller", []Check{
		{ID: "namespace", About: "Fairlead's namespace is there", Run: checkHome, Needed: true},
		{ID: "uninstall", About: "no uninstall is under way", Run: checkLeaving},
		{ID: "controller-deployed", About: "the controller is deployed, and not scaled to zero", Run: checkDeployment},
		{ID: "controller-pods", About: "the controller's pods run", Run: checkControllerPods},
		{ID: "controller-leader", About: "a controller serves the nodes", Run: checkLeader},
		{ID: "controller-answers", About: "the controller answers, and is ready", Run: checkControllerAnswers},
		{ID: "controller-warm", About: "the controller has heard of every node", Run: checkWarm},
		{ID: "rbac", About: "the controller may do what it must", Run: checkRBAC},
		{ID: "crds", About: "our kinds of object are known to the API server", Run: checkCRDs},
		{ID: "controller-problems", About: "the controller understands every object", Run: problemsOf("mend the object: it is not served as it stands", otherKind)},
		{ID: "controller-version", About: "the controller is as new as this tool", Run: checkControllerVersion},
	}}
}

const installHint = "`fairlead install | kubectl apply -f -`, or `helm install fairlead` with the chart"

func checkHome(ctx context.Context, s *State) ([]Finding, error) {
	_, err := remote.Get[corev1.Namespace](ctx, s.Client, "", s.Home)
	if remote.IsNotFound(err) {
		return []Finding{failed("install Fairlead: "+installHint+". If it lives elsewhere, give --fairlead-namespace", "there is no namespace %s", s.Home)}, nil
	}
	return nil, err
}

func checkLeaving(ctx context.Context, s *State) ([]Finding, error) {
	_, err := remote.Get[corev1.ConfigMap](ctx, s.Client, s.Home, fleet.LeaveName)
	if remote.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return []Finding{warned(fmt.Sprintf("wait for the uninstall, or take it back: `kubectl -n %s delete configmap %s`", s.Home, fleet.LeaveName),
		"the ConfigMap %s is there: while it is, no pod is in the mesh", fleet.LeaveName)}, nil
}

func checkDeployment(ctx context.Context, s *State) ([]Finding, error) {
	d, err := s.getDeployment(ctx)
	if remote.IsNotFound(err) {
		return []Finding{failed("install Fairlead again: "+installHint, "there is no Deployment %s in namespace %s", fleet.ControllerName, s.Home)}, nil
	}
	if err != nil {
		return nil, err
	}
	if d.Spec.Replicas != nil && *d.Spec.Replicas == 0 {
		return []Finding{failed(fmt.Sprintf("`kubectl -n %s scale deployment %s --replicas=1`", s.Home, fleet.ControllerName),
			"the Deployment %s is scaled to 0: no pod joins or leaves, and certificates run out", fleet.ControllerName)}, nil
	}
	var found []Finding
	for _, c := range d.Status.Conditions {
		if c.Type == "ReplicaFailure" && c.Status == corev1.ConditionTrue {
			found = append(found, failed(fmt.Sprintf("`kubectl -n %s describe replicaset -l %s` shows what forbids them", s.Home, fleet.ControllerLabels),
				"the pods of %s cannot be made: %s", fleet.ControllerName, c.Message))
		}
	}
	if d.Generation > d.Status.ObservedGeneration {
		found = append(found, warned("is kube-controller-manager up?", "the Deployment %s was changed, and nobody has acted on it", fleet.ControllerName))
	}
	return found, nil
}

func checkControllerPods(ctx context.Context, s *State) ([]Finding, error) {
	d, err := s.getDeployment(ctx)
	if err != nil {
		return nil, skipNotFound(err, "there is no Deployment")
	}
	pods, err := s.controllerPods(ctx)
	if err != nil {
		return nil, err
	}
	found := troubles(s.Clock.Time(), pods)
	want := int32(1)
	if d.Spec.Replicas != nil {
		want = *d.Spec.Replicas
	}
	if want > 0 && d.Status.AvailableReplicas < want && len(found) == 0 {
		found = append(found, failed(fmt.Sprintf("`kubectl -n %s get pods -l %s` shows them; `fairlead check --wait 2m` waits for them", s.Home, fleet.ControllerLabels),
			"%d of %d pods of %s are available", d.Status.AvailableReplicas, want, fleet.ControllerName))
	}
	return found, nil
}

// skipNotFound makes a check of something that is not there a skipped one: another check has said that it is not.
func skipNotFound(err error, why string) error {
	if remote.IsNotFound(err) {
		return skip(why)
	}
	return err
}

func checkLeader(ctx context.Context, s *State) ([]Finding, error) {
	lease, err := s.getLease(ctx)
	hint := fmt.Sprintf("`kubectl -n %s logs -l %s` shows why none of them takes the lease; it must be allowed to (see the check rbac)", s.Home, fleet.ControllerLabels)
	if remote.IsNotFound(err) {
		return []Finding{failed(hint, "there is no Lease %s: no controller has ever served", fleet.ControllerName)}, nil
	}
	if err != nil {
		return nil, err
	}
	if lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity == "" {
		return []Finding{failed(hint, "nobody holds the Lease %s", fleet.ControllerName)}, nil
	}
	pod, err := s.leaderPod(ctx)
	if err != nil {
		return nil, err
	}
	if pod == nil {
		return []Finding{failed("wait: another replica takes over when the lease has run out. "+hint,
			"the Lease %s is held by %s, which is gone", fleet.ControllerName, *lease.Spec.HolderIdentity)}, nil
	}
	if lease.Spec.RenewTime == nil || lease.Spec.LeaseDurationSeconds == nil {
		return nil, nil
	}
	server, err := s.serverFacts(ctx)
	if err != nil {
		return nil, err
	}
	age := s.Clock.Time().Add(server.ahead).Sub(lease.Spec.RenewTime.Time)
	if limit := 2 * time.Duration(*lease.Spec.LeaseDurationSeconds) * time.Second; age > limit {
		return []Finding{failed(hint, "pod %s holds the Lease %s, but has not renewed it for %v", pod.Name, fleet.ControllerName, age.Round(time.Second))}, nil
	}
	return nil, nil
}

func checkControllerAnswers(ctx context.Context, s *State) ([]Finding, error) {
	pods, err := s.controllerPods(ctx)
	if err != nil {
		return nil, err
	}
	var found []Finding
	asked := 0
	for _, t := range fleet.Ask(ctx, s.Fleet, pods, fleet.ControllerContainer, "/readyz", nil, fleet.Text) {
		if !fleet.Serving(t.Pod, fleet.ControllerContainer) {
			continue // said by another check
		}
		asked++
		if t.Err != nil {
			found = append(found, failed(fmt.Sprintf("`kubectl -n %s logs %s` shows what it waits for", s.Home, t.Pod.Name), "%v", t.Err))
		}
	}
	if asked == 0 {
		return nil, skip("no controller runs")
	}
	return found, nil
}

// leading gives the leader's metrics, or says that there is no leader to ask.
func (s *State) leading(ctx context.Context) (*fleet.Told[fleet.Metrics], error) {
	m, err := s.leaderMetrics(ctx)
	switch {
	case err != nil:
		return nil, err
	case m == nil:
		return nil, skip("no controller serves the nodes")
	case m.Err != nil:
		return nil, skip("the controller does not tell: " + m.Err.Error())
	}
	return m, nil
}

func checkWarm(ctx context.Context, s *State) ([]Finding, error) {
	m, err := s.leading(ctx)
	if err != nil {
		return nil, err
	}
	if warm, ok := m.What.Value("fairlead_controller_warm"); ok && warm == 0 {
		return []Finding{warned("wait some seconds: it does so for 10 at most after a start. `fairlead check --wait 1m` waits",
			"the controller %s waits for the nodes' reports: proxies keep what they have", m.Pod.Name)}, nil
	}
	return nil, nil
}

// problems are the lines in which the controller says what is wrong with objects.
func (s *State) problems(ctx context.Context) ([]string, error) {
	return s.said.get(func() ([]string, error) {
		pod, err := s.leaderPod(ctx)
		if err != nil {
			return nil, err
		}
		if pod == nil {
			return nil, skip("no controller serves the nodes")
		}
		told := fleet.Ask(ctx, s.Fleet, []corev1.Pod{*pod}, fleet.ControllerContainer, "/problems", nil, fleet.Text)[0]
		if told.Err != nil {
			return nil, skip("the controller does not tell: " + told.Err.Error())
		}
		var all []string
		for line := range strings.Lines(told.What) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "note:") {
				all = append(all, line)
			}
		}
		return all, nil
	})
}

// problemsOf makes findings of the problems of some kinds of object.
func problemsOf(hint string, of func(kind string) bool) func(context.Context, *State) ([]Finding, error) {
	return func(ctx context.Context, s *State) ([]Finding, error) {
		lines, err := s.problems(ctx)
		if err != nil {
			return nil, err
		}
		var found []Finding
		for _, line := range lines {
			if kind, _, _ := strings.Cut(line, " "); !of(kind) {
				continue
			}
			if len(found) == 20 {
				return append(found, warned(fmt.Sprintf("`kubectl -n %s port-forward deploy/%s %d` and read /problems: it has all", s.Home, fleet.ControllerName, fleet.ControllerPort), "and more")), nil
			}
			found = append(found, warned(hint, "%s", line))
		}
		return found, nil
	}
}

func checkControllerVersion(ctx context.Context, s *State) ([]Finding, error) {
	m, err := s.leading(ctx)
	if err != nil {
		return nil, err
	}
	version := m.What.Label("fairlead_build_info", "version")
	if version == "" {
		return nil, skip("the controller does not say which version it is")
	}
	if version != s.Version {
		return []Finding{warned("use the tool of the version that is installed, or `fairlead upgrade`", "the controller is %s, this tool is %s", version, s.Version)}, nil
	}
	return nil, nil
}
