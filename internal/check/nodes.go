package check

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"fairlead.io/fairlead/internal/fleet"
	"fairlead.io/fairlead/internal/kube/remote"
)

func nodesGroup() Group {
	return Group{"nodes", []Check{
		{ID: "node-daemonset", About: "the DaemonSet is there, and its pods can be made", Run: checkDaemonSet},
		{ID: "node-pods", About: "the pods of the DaemonSet run, and none has crashed of late", Run: checkNodePods},
		{ID: "node-coverage", About: "every node has a pod of the DaemonSet", Run: checkCoverage},
		{ID: "node-proxies", About: "every proxy answers, and is ready", Run: checkProxies},
		{ID: "node-keepers", About: "every keeper answers its proxy", Run: checkKeepers},
		{ID: "node-controller", About: "every proxy is connected to the controller", Run: checkConnected},
		{ID: "node-cni", About: "our CNI plugin is in every node's chain", Run: checkChained},
		{ID: "node-version", About: "every proxy is as new as the controller", Run: checkNodeVersions},
	}}
}

func checkDaemonSet(ctx context.Context, s *State) ([]Finding, error) {
	d, err := s.getDaemonSet(ctx)
	if remote.IsNotFound(err) {
		return []Finding{failed("install Fairlead again: "+installHint, "there is no DaemonSet %s in namespace %s", fleet.NodeName, s.Home)}, nil
	}
	if err != nil {
		return nil, err
	}
	if d.Status.CurrentNumberScheduled >= d.Status.DesiredNumberScheduled && d.Status.DesiredNumberScheduled > 0 {
		return nil, nil
	}
	message, err := s.lastEvent(ctx, fleet.NodeName)
	if err != nil {
		return nil, err
	}
	if d.Status.DesiredNumberScheduled == 0 {
		return []Finding{failed("see the value node.nodeSelector of the chart, and the labels of the nodes",
			"the DaemonSet %s is meant for no node%s", fleet.NodeName, because(message))}, nil
	}
	hint := fmt.Sprintf("`kubectl -n %s describe daemonset %s` shows the events", s.Home, fleet.NodeName)
	if strings.Contains(message, "PodSecurity") {
		hint = fmt.Sprintf("the keeper is privileged: `kubectl label namespace %s pod-security.kubernetes.io/enforce=privileged`", s.Home)
	}
	return []Finding{failed(hint, "%d of %d pods of the DaemonSet %s could be made%s",
		d.Status.CurrentNumberScheduled, d.Status.DesiredNumberScheduled, fleet.NodeName, because(message))}, nil
}

func because(message string) string {
	if message == "" {
		return ""
	}
	return ": " + oneLine(message)
}

// lastEvent is the newest warning about an object in our namespace.
func (s *State) lastEvent(ctx context.Context, name string) (string, error) {
	events, err := remote.List[corev1.Event](ctx, s.Client, remote.Query{Namespace: s.Home, Fields: "involvedObject.name=" + name + ",type=Warning"})
	if remote.IsForbidden(err) || len(events) == 0 {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	newest := slices.MaxFunc(events, func(a, b corev1.Event) int { return a.LastTimestamp.Compare(b.LastTimestamp.Time) })
	return newest.Message, nil
}

func checkNodePods(ctx context.Context, s *State) ([]Finding, error) {
	pods, err := s.proxyPods(ctx)
	if err != nil {
		return nil, err
	}
	if len(pods) == 0 {
		return nil, skip("there is none")
	}
	found := troubles(s.Clock.Time(), pods)
	if len(found) > 0 {
		return found, nil
	}
	lost, err := s.lostNodes(ctx)
	if err != nil {
		return nil, err
	}
	for i := range pods {
		p := &pods[i]
		if idle := unready(p); len(idle) > 0 && !lost[nodeOf(p)] {
			found = append(found, failed(fmt.Sprintf("wait a moment; then `kubectl -n %s logs %s -c %s` shows what it waits for", p.Namespace, p.Name, idle[0]),
				"pod %s on node %s is not ready: %s", p.Name, nodeOf(p), strings.Join(idle, ", ")))
		}
	}
	d, err := s.getDaemonSet(ctx)
	if err != nil {
		return found, skipNotFound(err, "there is no DaemonSet")
	}
	if d.Status.UpdatedNumberScheduled < d.Status.DesiredNumberScheduled && len(found) == 0 {
		found = append(found, warned(fmt.Sprintf("wait for it: `kubectl -n %s rollout status daemonset %s`", s.Home, fleet.NodeName),
			"an update is under way: %d of %d nodes have it", d.Status.UpdatedNumberScheduled, d.Status.DesiredNumberScheduled))
	}
	return found, nil
}

// unready are the containers of a pod that are not ready, or all of it that has not begun.
func unready(p *corev1.Pod) []string {
	var names []string
	for _, c := range p.Status.ContainerStatuses {
		if !c.Ready {
			names = append(names, c.Name)
		}
	}
	if len(p.Status.ContainerStatuses) == 0 {
		for _, c := range p.Spec.Containers {
			names = append(names, c.Name)
		}
	}
	return names
}

// checkCoverage names the nodes that have no pod of the DaemonSet.
func checkCoverage(ctx context.Context, s *State) ([]Finding, error) {
	nodes, err := s.allNodes(ctx)
	if err != nil {
		return nil, err
	}
	pods, err := s.proxyPods(ctx)
	if err != nil {
		return nil, err
	}
	d, err := s.getDaemonSet(ctx)
	if err != nil {
		return nil, skipNotFound(err, "there is no DaemonSet")
	}
	covered := map[string]bool{}
	for _, p := range pods {
		covered[nodeOf(&p)] = true
	}
	var found []Finding
	for i := range nodes {
		n := &nodes[i]
		if covered[n.Name] || n.Status.NodeInfo.OperatingSystem == "windows" {
			continue
		}
		if missing := unmatched(d.Spec.Template.Spec.NodeSelector, n.Labels); len(missing) > 0 {
			found = append(found, warned("label the node, or widen the value node.nodeSelector of the chart, if its pods are to be in the mesh",
				"node %s has no proxy: it lacks the labels %s", n.Name, strings.Join(missing, ", ")))
			continue
		}
		found = append(found, failed(fmt.Sprintf("`kubectl -n %s describe daemonset %s` and `kubectl describe node %s` show why", s.Home, fleet.NodeName, n.Name),
			"node %s has no pod of the DaemonSet %s: enrolled pods cannot start there", n.Name, fleet.NodeName))
	}
	return found, nil
}

// nodeOf is the node of a pod, also of one that is waiting for it: a DaemonSet's pod says in its affinity which one it is for.
func nodeOf(p *corev1.Pod) string {
	if p.Spec.NodeName != "" || p.Spec.Affinity == nil || p.Spec.Affinity.NodeAffinity == nil {
		return p.Spec.NodeName
	}
	required := p.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution
	if required == nil {
		return ""
	}
	for _, term := range required.NodeSelectorTerms {
		for _, field := range term.MatchFields {
			if field.Key == "metadata.name" && len(field.Values) == 1 {
				return field.Values[0]
			}
		}
	}
	return ""
}

func unmatched(selector, labels map[string]string) []string {
	var missing []string
	for _, key := range slices.Sorted(maps.Keys(selector)) {
		if labels[key] != selector[key] {
			missing = append(missing, key+"="+selector[key])
		}
	}
	return missing
}

func checkProxies(ctx context.Context, s *State) ([]Finding, error) {
	told, err := s.states(ctx)
	if err != nil {
		return nil, err
	}
	lost, err := s.lostNodes(ctx)
	if err != nil {
		return nil, err
	}
	var found []Finding
	for _, t := range told {
		hint := fmt.Sprintf("`kubectl -n %s logs %s -c %s` shows what it does", s.Home, t.Pod.Name, fleet.ProxyName)
		switch {
		case lost[nodeOf(t.Pod)]:
			found = append(found, warned(fmt.Sprintf("`kubectl describe node %s` shows why", nodeOf(t.Pod)), "node %s is not ready, as Kubernetes says: its proxy is not asked", nodeOf(t.Pod)))
		case !fleet.Serving(t.Pod, fleet.ProxyName):
			found = append(found, failed(hint+"; `kubectl -n "+s.Home+" describe pod "+t.Pod.Name+"` why it does not run",
				"node %s: the proxy of pod %s does not run", nodeOf(t.Pod), t.Pod.Name))
		case t.Err != nil:
			found = append(found, failed(hint, "node %s: %v", t.Node(), t.Err))
		case len(t.What.Pending) > 0:
			found = append(found, failed(hint, "node %s: the proxy waits for: %s", t.Node(), strings.Join(t.What.Pending, ", ")))
		}
	}
	if len(told) == 0 {
		return nil, skip("there is none")
	}
	return found, nil
}

// lostNodes are those that Kubernetes holds for gone.
func (s *State) lostNodes(ctx context.Context) (map[string]bool, error) {
	nodes, err := s.allNodes(ctx)
	lost := map[string]bool{}
	for i := range nodes {
		lost[nodes[i].Name] = !isReady(&nodes[i])
	}
	return lost, err
}

func checkConnected(ctx context.Context, s *State) ([]Finding, error) {
	told, err := s.states(ctx)
	if err != nil {
		return nil, err
	}
	var found []Finding
	asked := 0
	for _, t := range told {
		if t.Err != nil {
			continue // said by another check
		}
		if asked++; !t.What.Controller {
			found = append(found, failed(fmt.Sprintf("is the controller up (see above), and does a NetworkPolicy keep port 9902 of it from namespace %s? `kubectl -n %s logs %s -c %s` says what fails",
				s.Home, s.Home, t.Pod.Name, fleet.ProxyName),
				"node %s: the proxy has no stream from the controller: it goes on with what it knows", t.Node()))
		}
	}
	if asked == 0 {
		return nil, skip("no proxy answers")
	}
	return found, nil
}

// each looks at the metrics of every proxy that answers.
func (s *State) each(ctx context.Context, look func(*fleet.Told[fleet.Metrics]) []Finding) ([]Finding, error) {
	scrapes, err := s.metrics(ctx)
	if err != nil {
		return nil, err
	}
	var found []Finding
	asked := 0
	for i := range scrapes {
		if scrapes[i].Err == nil {
			asked++
			found = append(found, look(&scrapes[i])...)
		}
	}
	if asked == 0 {
		return nil, skip("no proxy answers")
	}
	return found, nil
}

func checkKeepers(ctx context.Context, s *State) ([]Finding, error) {
	return s.each(ctx, func(t *fleet.Told[fleet.Metrics]) []Finding {
		if up, ok := t.What.Value("fairlead_keeper_up"); ok && up == 0 {
			return []Finding{failed(fmt.Sprintf("`kubectl -n %s logs %s -c %s` shows what it does", s.Home, t.Pod.Name, fleet.KeeperName),
				"node %s: the keeper does not answer: no pod joins there, and new TLS handshakes fail", t.Node())}
		}
		return nil
	})
}

func checkChained(ctx context.Context, s *State) ([]Finding, error) {
	known := false
	found, err := s.each(ctx, func(t *fleet.Told[fleet.Metrics]) []Finding {
		chained, ok := t.What.Value("fairlead_keeper_cni_chained")
		known = known || ok
		if ok && chained == 0 {
			return []Finding{failed(fmt.Sprintf("`kubectl -n %s logs %s -c %s` shows why it cannot be put back; the values cni.confDir and cni.binDir of the chart must be the container runtime's",
				s.Home, t.Pod.Name, fleet.KeeperName),
				"node %s: our plugin is not in the CNI configuration: new pods would start outside the mesh", t.Node())}
		}
		return nil
	})
	if err == nil && !known {
		return nil, skip("no keeper says so: does somebody else install the plugin?")
	}
	return found, err
}

func checkNodeVersions(ctx context.Context, s *State) ([]Finding, error) {
	m, err := s.leading(ctx)
	if err != nil {
		return nil, err
	}
	want := m.What.Label("fairlead_build_info", "version")
	if want == "" {
		return nil, skip("the controller does not say which version it is")
	}
	return s.each(ctx, func(t *fleet.Told[fleet.Metrics]) []Finding {
		if is := t.What.Label("fairlead_build_info", "version"); is != want {
			return []Finding{warned(fmt.Sprintf("wait for the update: `kubectl -n %s rollout status daemonset %s`", s.Home, fleet.NodeName),
				"node %s: the proxy is %s, the controller is %s", t.Node(), is, want)}
		}
		return nil
	})
}
