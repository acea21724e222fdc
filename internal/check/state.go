package check

import (
	"context"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/version"

	"fairlead.io/fairlead/internal/fleet"
	"fairlead.io/fairlead/internal/kube/remote"
	"fairlead.io/fairlead/internal/node/debug"
)

// Options say what is asked about.
type Options struct {
	Namespace string // of the checks of the mesh; empty for all
	// Chart gives what an installation consists of whose issuer and roots have these names.
	Chart   func(issuer, roots string) ([]*unstructured.Unstructured, error)
	Version string // of the tool
	// Kubectl gives the version of the user's kubectl, as "v1.33.1"; empty if there is none.
	Kubectl func(context.Context) string
}

// State is what a run has learnt of the cluster so far.
type State struct {
	*fleet.Fleet
	Options

	server      memo[*serverFacts]
	nodes       memo[[]corev1.Node]
	deployment  memo[*appsv1.Deployment]
	daemonSet   memo[*appsv1.DaemonSet]
	controllers memo[[]corev1.Pod]
	nodePods    memo[[]corev1.Pod]
	lease       memo[*coordinationv1.Lease]
	told        memo[[]fleet.Told[debug.Node]]
	scrapes     memo[[]fleet.Told[fleet.Metrics]]
	leader      memo[*fleet.Told[fleet.Metrics]]
	gateway     memo[[]*unstructured.Unstructured]
	said        memo[[]string]
	trusted     memo[*trust]
	chart       memo[[]*unstructured.Unstructured]
	leaves      memo[[]fleet.Told[debug.Identities]]
	namespaces  memo[[]corev1.Namespace]
	pods        memo[[]corev1.Pod]
	captured    memo[[]fleet.Told[[]debug.Pod]]
}

// New begins a run.
func New(f *fleet.Fleet, o Options) *State {
	return &State{Fleet: f, Options: o}
}

// memo is a question's answer, asked for once. Checks run one after the other.
type memo[T any] struct {
	asked bool
	value T
	err   error
}

func (m *memo[T]) get(ask func() (T, error)) (T, error) {
	if !m.asked {
		m.value, m.err = ask()
		m.asked = true
	}
	return m.value, m.err
}

// serverFacts are what the API server says of itself.
type serverFacts struct {
	version *version.Info
	// ahead is how far its clock is ahead of ours, give or take half of the time that the answer took and the
	// second that a Date is exact to.
	ahead, error time.Duration
}

func (s *State) serverFacts(ctx context.Context) (*serverFacts, error) {
	return s.server.get(func() (*serverFacts, error) {
		before := s.Clock.Time()
		v, date, err := s.Client.Version(ctx)
		if err != nil {
			return nil, err
		}
		after := s.Clock.Time()
		f := &serverFacts{version: v}
		if !date.IsZero() {
			middle := before.Add(after.Sub(before) / 2)
			f.ahead, f.error = date.Add(time.Second/2).Sub(middle), after.Sub(before)/2+time.Second/2
		}
		return f, nil
	})
}

func (s *State) allNodes(ctx context.Context) ([]corev1.Node, error) {
	return s.nodes.get(func() ([]corev1.Node, error) { return remote.List[corev1.Node](ctx, s.Client, remote.Query{}) })
}

func (s *State) getDeployment(ctx context.Context) (*appsv1.Deployment, error) {
	return s.deployment.get(func() (*appsv1.Deployment, error) {
		return remote.Get[appsv1.Deployment](ctx, s.Client, s.Home, fleet.ControllerName)
	})
}

func (s *State) getDaemonSet(ctx context.Context) (*appsv1.DaemonSet, error) {
	return s.daemonSet.get(func() (*appsv1.DaemonSet, error) {
		return remote.Get[appsv1.DaemonSet](ctx, s.Client, s.Home, fleet.NodeName)
	})
}

func (s *State) controllerPods(ctx context.Context) ([]corev1.Pod, error) {
	return s.controllers.get(func() ([]corev1.Pod, error) { return staying(s.ControllerPods(ctx)) })
}

func (s *State) proxyPods(ctx context.Context) ([]corev1.Pod, error) {
	return s.nodePods.get(func() ([]corev1.Pod, error) { return staying(s.NodePods(ctx)) })
}

// staying leaves out the pods that are on their way out: an update ends them, and they may.
func staying(pods []corev1.Pod, err error) ([]corev1.Pod, error) {
	return slices.DeleteFunc(pods, func(p corev1.Pod) bool { return p.DeletionTimestamp != nil }), err
}

func (s *State) getLease(ctx context.Context) (*coordinationv1.Lease, error) {
	return s.lease.get(func() (*coordinationv1.Lease, error) {
		return remote.Get[coordinationv1.Lease](ctx, s.Client, s.Home, fleet.ControllerName)
	})
}

// states are what the proxies say of themselves.
func (s *State) states(ctx context.Context) ([]fleet.Told[debug.Node], error) {
	return s.told.get(func() ([]fleet.Told[debug.Node], error) {
		pods, err := s.proxyPods(ctx)
		if err != nil {
			return nil, err
		}
		return fleet.Proxies[debug.Node](ctx, s.Fleet, pods, debug.NodePath, nil), nil
	})
}

// objects are what an installation consists of.
func (s *State) objects(ctx context.Context) ([]*unstructured.Unstructured, error) {
	if s.Chart == nil {
		return nil, skip("what an installation consists of is not known")
	}
	return s.chart.get(func() ([]*unstructured.Unstructured, error) {
		n := s.trustNames(ctx)
		return s.Chart(n.issuer, n.roots)
	})
}

// metrics are the proxies' metrics.
func (s *State) metrics(ctx context.Context) ([]fleet.Told[fleet.Metrics], error) {
	return s.scrapes.get(func() ([]fleet.Told[fleet.Metrics], error) {
		pods, err := s.proxyPods(ctx)
		if err != nil {
			return nil, err
		}
		return fleet.Scrape(ctx, s.Fleet, pods, fleet.ProxyName), nil
	})
}

// leaderMetrics are the metrics of the controller that serves the nodes; nil if there is none that can be asked.
func (s *State) leaderMetrics(ctx context.Context) (*fleet.Told[fleet.Metrics], error) {
	return s.leader.get(func() (*fleet.Told[fleet.Metrics], error) {
		pod, err := s.leaderPod(ctx)
		if err != nil || pod == nil {
			return nil, err
		}
		return &fleet.Scrape(ctx, s.Fleet, []corev1.Pod{*pod}, fleet.ControllerContainer)[0], nil
	})
}

// leaderPod is the pod that holds the lease; nil if there is none.
func (s *State) leaderPod(ctx context.Context) (*corev1.Pod, error) {
	pods, err := s.controllerPods(ctx)
	if err != nil {
		return nil, err
	}
	lease, err := s.getLease(ctx)
	if remote.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for i := range pods {
		if holds(lease, &pods[i]) {
			return &pods[i], nil
		}
	}
	return nil, nil
}

// holds tells whether a pod holds the lease: the holder is the pod's name, with whatever else makes it unique.
func holds(lease *coordinationv1.Lease, p *corev1.Pod) bool {
	holder := lease.Spec.HolderIdentity
	return holder != nil && fleet.IsHolder(*holder, p.Name)
}
