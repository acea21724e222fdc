package check

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead.io/fairlead/internal/compile"
	"fairlead.io/fairlead/internal/fleet"
	"fairlead.io/fairlead/internal/kube/remote"
	"fairlead.io/fairlead/internal/node/debug"
)

// known gives what the proxies know of their pods, by UID, and the nodes that have answered.
func (s *State) known(ctx context.Context) (map[string]debug.Pod, map[string]bool, error) {
	told, err := s.captured.get(func() ([]fleet.Told[[]debug.Pod], error) {
		pods, err := s.proxyPods(ctx)
		if err != nil {
			return nil, err
		}
		return fleet.Proxies[[]debug.Pod](ctx, s.Fleet, pods, debug.PodsPath, nil), nil
	})
	if err != nil {
		return nil, nil, err
	}
	all, nodes := map[string]debug.Pod{}, map[string]bool{}
	for _, t := range told {
		if t.Err != nil {
			continue
		}
		nodes[t.Node()] = true
		for _, p := range t.What {
			if !all[p.UID].InMesh {
				all[p.UID] = p
			}
		}
	}
	return all, nodes, nil
}

func checkMeshPods(ctx context.Context, s *State) ([]Finding, error) {
	pods, err := s.wanted(ctx)
	if err != nil {
		return nil, err
	}
	if len(pods) == 0 {
		return nil, skip("no pod is to be in the mesh")
	}
	known, nodes, err := s.known(ctx)
	if err != nil {
		return nil, err
	}
	var found []Finding
	for _, p := range pods {
		if p.Status.Phase != corev1.PodRunning || p.DeletionTimestamp != nil {
			continue
		}
		is, captured := known[string(p.UID)]
		name := p.Namespace + "/" + p.Name
		switch {
		case !nodes[p.Spec.NodeName]:
			found = append(found, failed("see the checks of the nodes", "pod %s: whether it is in the mesh cannot be told: the proxy of node %s does not answer", name, p.Spec.NodeName))
		case !captured:
			found = append(found, failed(fmt.Sprintf("wait some seconds; then `kubectl -n %s logs -l %s -c %s` says what the keeper of node %s does with it",
				s.Home, fleet.NodeLabels, fleet.KeeperName, p.Spec.NodeName), "pod %s on node %s is not in the mesh (yet): its keeper has not captured it", name, p.Spec.NodeName))
		case !is.InMesh:
			found = append(found, failed("wait some seconds; then see the checks of the controller: it announces pods", "pod %s on node %s is captured, but not announced (yet): others speak plaintext to it", name, p.Spec.NodeName))
		}
	}
	return found, nil
}

// checkEarlier finds pods whose connections have stayed as they were when the pods joined: that is how it is meant, and nobody
// sees it.
func checkEarlier(ctx context.Context, s *State) ([]Finding, error) {
	pods, err := s.wanted(ctx)
	if err != nil {
		return nil, err
	}
	known, _, err := s.known(ctx)
	if err != nil {
		return nil, err
	}
	var found []Finding
	looked := 0
	for _, p := range pods {
		is, captured := known[string(p.UID)]
		if !captured {
			continue
		}
		looked++
		if is.Earlier == 0 && !is.EarlierMore {
			continue
		}
		count := count(is.Earlier, "connection")
		if is.EarlierMore {
			count = "at least " + count
		}
		found = append(found, warned("they end by themselves, or with the pod: "+renewal(p),
			"pod %s/%s has %s from before it joined: outside the mesh, in plaintext and not counted", p.Namespace, p.Name, count))
	}
	if looked == 0 {
		return nil, skip("no pod is in the mesh")
	}
	return found, nil
}

// renewal is the command that makes a pod anew.
func renewal(p *corev1.Pod) string {
	if o := metav1.GetControllerOf(p); o != nil {
		switch o.Kind {
		case "ReplicaSet":
			return fmt.Sprintf("`kubectl -n %s rollout restart deployment %s`", p.Namespace, compile.Workload(p))
		case "StatefulSet", "DaemonSet":
			return fmt.Sprintf("`kubectl -n %s rollout restart %s %s`", p.Namespace, strings.ToLower(o.Kind), o.Name)
		}
	}
	return fmt.Sprintf("`kubectl -n %s delete pod %s`, if something makes another", p.Namespace, p.Name)
}

// checkStarting finds pods that the CNI plugin holds back.
func checkStarting(ctx context.Context, s *State) ([]Finding, error) {
	pods, err := s.wanted(ctx)
	if err != nil {
		return nil, err
	}
	var found []Finding
	for _, p := range pods {
		if p.Status.Phase != corev1.PodPending || p.Spec.NodeName == "" || p.Status.PodIP != "" {
			continue
		}
		events, err := remote.List[corev1.Event](ctx, s.Client, remote.Query{Namespace: p.Namespace, Fields: "involvedObject.name=" + p.Name + ",reason=FailedCreatePodSandBox"})
		if err != nil {
			return nil, err
		}
		if len(events) == 0 {
			continue
		}
		newest := slices.MaxFunc(events, func(a, b corev1.Event) int { return a.LastTimestamp.Compare(b.LastTimestamp.Time) })
		found = append(found, failed("it starts as soon as its node's keeper and the controller know it: see the checks of both",
			"pod %s/%s on node %s does not start: %s", p.Namespace, p.Name, p.Spec.NodeName, oneLine(newest.Message)))
	}
	return found, nil
}

func checkHostNetwork(ctx context.Context, s *State) ([]Finding, error) {
	in, err := s.enrolled(ctx)
	if err != nil {
		return nil, err
	}
	pods, err := s.allPods(ctx)
	if err != nil {
		return nil, err
	}
	var found []Finding
	for i := range pods {
		p := &pods[i]
		if p.Spec.HostNetwork && in[p.Namespace] != nil && p.Labels[compile.EnrolLabel] != compile.Disabled && p.Status.Phase == corev1.PodRunning {
			found = append(found, warned("if that is meant, say so with the label fairlead.io/mesh: disabled; else take hostNetwork away",
				"pod %s/%s has its node's network: it is not in the mesh, and speaks plaintext", p.Namespace, p.Name))
		}
	}
	return found, nil
}

func checkPodCertificates(ctx context.Context, s *State) ([]Finding, error) {
	known, _, err := s.known(ctx)
	if err != nil {
		return nil, err
	}
	told, err := s.identities(ctx)
	if err != nil {
		return nil, err
	}
	has := map[string]map[string]bool{} // by node and account
	for _, t := range told {
		if t.Err == nil {
			accounts := map[string]bool{}
			for _, id := range t.What.Identities {
				accounts[id.Namespace+"/"+id.Account] = true
			}
			has[t.Node()] = accounts
		}
	}
	pods, err := s.wanted(ctx)
	if err != nil {
		return nil, err
	}
	var found []Finding
	asked := 0
	for _, p := range pods {
		is, captured := known[string(p.UID)]
		if !captured || has[p.Spec.NodeName] == nil {
			continue
		}
		if asked++; !has[p.Spec.NodeName][is.Namespace+"/"+is.Account] {
			found = append(found, failed("see the checks of the controller and of the certificates; the keeper asks again within a minute",
				"pod %s/%s: node %s has no certificate of its account %s: its TLS handshakes fail", p.Namespace, p.Name, p.Spec.NodeName, is.Account))
		}
	}
	if asked == 0 {
		return nil, skip("no pod is in the mesh")
	}
	return found, nil
}
