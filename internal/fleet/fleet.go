// Package fleet is what of ours runs in a cluster, as the command line tool finds it: the proxies and controllers, and
// what they tell.
//
// Promises:
//  1. Who does not answer is an error of that one, and nobody else's answer is lost by it.
//  2. Everybody is asked at the same time, and no longer than one request may take.
//  3. Old and new pods of an update are both asked: each counts what it has served.
package fleet

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"

	"fairlead.io/fairlead/internal/kube/remote"
)

// Names of what the chart installs.
const (
	NodeName       = "fairlead-node"       // DaemonSet and its account
	ControllerName = "fairlead-controller" // Deployment, account, Service and Lease
	IssuerName     = "fairlead-issuer"     // Secret
	RootsName      = "fairlead-roots"      // ConfigMap
	LeaveName      = "fairlead-leave"      // ConfigMap that is there during an uninstall
	KeeperName     = "keeper"              // containers of the DaemonSet
	ProxyName      = "proxy"
	// ControllerContainer is the one container of the Deployment.
	ControllerContainer = "controller"

	NodeLabels       = "app.kubernetes.io/name=fairlead,app.kubernetes.io/component=node"
	ControllerLabels = "app.kubernetes.io/name=fairlead,app.kubernetes.io/component=controller"
	OurLabels        = "app.kubernetes.io/name=fairlead"

	ProxyPort      = 9901
	ControllerPort = 9903
)

// Fleet is the installation in one namespace of a cluster.
type Fleet struct {
	*remote.Client
	Home  string // the namespace
	Clock Clock
}

// Clock is the time, which tests set. The zero value is the real one.
type Clock struct {
	Now   func() time.Time
	Pause func(context.Context, time.Duration) error
}

// Time is the time now.
func (c Clock) Time() time.Time {
	if c.Now != nil {
		return c.Now()
	}
	return time.Now()
}

// Wait waits, or returns the context's error.
func (c Clock) Wait(ctx context.Context, d time.Duration) error {
	if c.Pause != nil {
		return c.Pause(ctx, d)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// NodePods are the pods of the DaemonSet, by node and age.
func (f *Fleet) NodePods(ctx context.Context) ([]corev1.Pod, error) {
	pods, err := remote.List[corev1.Pod](ctx, f.Client, remote.Query{Namespace: f.Home, Labels: NodeLabels})
	slices.SortFunc(pods, func(a, b corev1.Pod) int {
		return cmp.Or(cmp.Compare(a.Spec.NodeName, b.Spec.NodeName), a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	return pods, err
}

// ControllerPods are the replicas of the controller.
func (f *Fleet) ControllerPods(ctx context.Context) ([]corev1.Pod, error) {
	return remote.List[corev1.Pod](ctx, f.Client, remote.Query{Namespace: f.Home, Labels: ControllerLabels})
}

// Leader is the name of the controller's pod that serves the nodes; empty if nobody holds the lease.
func (f *Fleet) Leader(ctx context.Context) (string, error) {
	lease, err := remote.Get[coordinationv1.Lease](ctx, f.Client, f.Home, ControllerName)
	if remote.IsNotFound(err) {
		return "", nil
	}
	if err != nil || lease.Spec.HolderIdentity == nil {
		return "", err
	}
	return *lease.Spec.HolderIdentity, nil
}

// Serving tells whether a container of a pod runs, so that it can be asked.
func Serving(p *corev1.Pod, container string) bool {
	for _, s := range p.Status.ContainerStatuses {
		if s.Name == container {
			return s.State.Running != nil
		}
	}
	return false
}

// IsHolder tells whether the holder of a lease is a pod: it is the pod's name, or begins with it.
func IsHolder(holder, pod string) bool {
	rest, ok := strings.CutPrefix(holder, pod)
	return ok && (rest == "" || rest[0] == '_' || rest[0] == '/')
}
