package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"fairlead.io/fairlead/internal/kube/remote"
)

// findPod gives the pod that an argument means: "web-0", "pod/web-0", or one of a workload, "deploy/web". Where
// several are meant, it is one that runs.
func (t *tool) findPod(ctx context.Context, c *remote.Client, text string) (*corev1.Pod, error) {
	if !strings.Contains(text, "/") {
		return remote.Get[corev1.Pod](ctx, c, c.Namespace(), text)
	}
	r, err := parseResource([]string{text}, aPod, aWorkload, aDeploy, aStateful, aDaemonSet, aJob, aCronJob)
	if err != nil {
		return nil, err
	}
	if r.name == "" {
		return nil, fmt.Errorf("%q: a name is wanted", text)
	}
	if r.kind == aPod {
		return remote.Get[corev1.Pod](ctx, c, c.Namespace(), r.name)
	}
	pods, err := remote.List[corev1.Pod](ctx, c, remote.Query{Namespace: c.Namespace()})
	if err != nil {
		return nil, err
	}
	pods = slices.DeleteFunc(pods, func(p corev1.Pod) bool {
		return workloadOf(&p).Name != r.name || r.kind != aWorkload && ownerKind(&p) != r.kind || p.Status.Phase != corev1.PodRunning
	})
	if len(pods) == 0 {
		return nil, fmt.Errorf("%s %s has no running pod in namespace %s", r.kind, r.name, c.Namespace())
	}
	return &pods[0], nil
}

// proxiesOf are our pods on a node.
func proxiesOf(nodes []corev1.Pod, node string) []corev1.Pod {
	return slices.DeleteFunc(slices.Clone(nodes), func(p corev1.Pod) bool { return p.Spec.NodeName != node })
}
